# The words people type. Everything else is in CMakeLists.txt.
#
#   make demo    build, then run the examples and a real model
#   make check   build, then run the tests
#   make bench   time every operation, beside the peers that are installed
.PHONY: all demo check bench tools library package clean

BIN := .venv/bin
PATH := $(CURDIR)/$(BIN):$(PATH)
export PATH
CMAKE := $(BIN)/cmake

all: library

tools:
	@tools/setup.sh tools/requirements.txt

library: tools
	@$(CMAKE) -S . -B build -G Ninja -DINVAR_BUILD_TESTS=ON -DINVAR_BUILD_BENCH=ON > /dev/null
	@$(CMAKE) --build build

# In the same folder as the library, so that nothing is compiled twice. (--config-settings: the pip of Debian 12 lacks -C.)
package: tools
	@echo "Building the Python package (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
	    --config-settings=build-dir=build .

demo: package
	@tools/setup.sh --no-deps tools/requirements-demo.txt
	@$(BIN)/python examples/demo.py

check: library package
	@$(BIN)/ctest --test-dir build -j2 --output-on-failure
	@$(BIN)/python -m pytest -q -n 2 tests

bench: library package
	@tools/setup.sh tools/requirements.txt tools/requirements-bench.txt
	@$(BIN)/python bench/run.py --roofs build/bench/roofs --json build/bench.json --plot build/plots

clean:
	rm -rf build build-* .venv
