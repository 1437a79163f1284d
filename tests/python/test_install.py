"""The C library as its users meet it: installed, found, compiled against in C11 and C++17, and linked."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("INVAR_BUILD_DIR", ROOT / "build"))
STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]

pytestmark = pytest.mark.skipif(not (BUILD / "CMakeCache.txt").exists() or not shutil.which("cmake"),
                                reason="needs cmake and a built library in build/ (make library)")


def run(*command, **keywords):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, **keywords)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", BUILD, "--prefix", folder)
    return folder


def library_folder(prefix):
    return next(prefix.rglob("libinvar.so")).parent


def compiler(*names):
    for name in names:
        if shutil.which(name):
            return name
    pytest.skip(f"needs one of {', '.join(names)}")


@pytest.mark.parametrize("header", ["invar.h", "kernel.h"])
def test_headers_are_clean_c11(prefix, tmp_path, header):
    source = tmp_path / "use.c"
    source.write_text(f"#include <invar/{header}>\nint main(void) {{ return invar_version()[0] == 0; }}\n")
    run(compiler("cc", "gcc", "clang"), "-std=c11", *STRICT, "-I", prefix / "include", "-c", source, "-o", tmp_path / "use.o")


@pytest.mark.parametrize("header", ["invar.h", "kernel.h"])
def test_headers_are_clean_cpp17(prefix, tmp_path, header):
    source = tmp_path / "use.cpp"
    source.write_text(f"#include <invar/{header}>\n"
                      "int main() { invar_norm_options o = INVAR_NORM_OPTIONS_INIT; return o.size == 0; }\n")
    run(compiler("c++", "g++", "clang++"), "-std=c++17", *STRICT, "-I", prefix / "include", "-c", source, "-o",
        tmp_path / "use.o")


def test_find_package(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user C)\nfind_package(invar 0.1 REQUIRED)\n"
        "add_executable(shared use.c)\ntarget_link_libraries(shared PRIVATE invar::invar)\n"
        "add_executable(fixed use.c)\ntarget_link_libraries(fixed PRIVATE invar::invar_static)\n")
    (tmp_path / "use.c").write_text("#include <invar/invar.h>\n#include <stdio.h>\n"
                                    "int main(void) { puts(invar_version()); return 0; }\n")
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path / "build")
    for program in ("shared", "fixed"):
        assert run(tmp_path / "build" / program).strip() == "0.1.0"


def test_add_subdirectory(tmp_path):
    """The library as a part of another project, of which the smallest part is built: that takes the headers and no minutes."""
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.18)\nproject(user C)\nadd_subdirectory({ROOT} invar EXCLUDE_FROM_ALL)\n"
        "add_executable(use use.c)\ntarget_link_libraries(use PRIVATE invar::invar_static)\n")
    (tmp_path / "use.c").touch()
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build")
    command = run("cmake", "--build", tmp_path / "build", "--target", "invar_reference", "--verbose")
    assert "-O3" in command
    assert "CMAKE_BUILD_TYPE:STRING=\n" in (tmp_path / "build" / "CMakeCache.txt").read_text(), "the user's to choose"


def test_only_the_c_library_is_installed(prefix):
    assert {entry.name for entry in prefix.iterdir()} == {"include", library_folder(prefix).relative_to(prefix).parts[0]}


def test_only_public_names_are_exported(prefix):
    if not shutil.which("nm"):
        pytest.skip("needs nm")
    public = set()
    for header in (ROOT / "include/invar").glob("*.h"):
        public |= set(re.findall(r"INVAR_API [^;(]*?(invar_\w+)\(", header.read_text()))
    table = run("nm", "-D", "--defined-only", library_folder(prefix) / "libinvar.so")
    exported = {line.split()[-1].split("@")[0] for line in table.splitlines()} - {"INVAR_0"}
    assert exported == public


def test_soname(prefix):
    if not shutil.which("readelf"):
        pytest.skip("needs readelf")
    assert "libinvar.so.0" in run("readelf", "-d", library_folder(prefix) / "libinvar.so")


CLOSED = """
#include <dlfcn.h>
#include <invar/invar.h>
#include <unistd.h>

static float x[1 << 20];

int main(int argc, char **argv) {
    int64_t shape[] = { 1024, 1024 };
    invar_tensor t = { x, { INVAR_DEVICE_CPU, 0 }, 2, { INVAR_FLOAT, 32, 1 }, shape, NULL, 0 };
    void *library = dlopen(argv[argc - 1], RTLD_NOW);
    if (!library) return 2;
    invar_status (*rms_norm)(invar_context *, const invar_tensor *, const invar_tensor *, const invar_tensor *,
                             const invar_norm_options *);
    *(void **)&rms_norm = dlsym(library, "invar_rms_norm");
    for (int i = 0; i < 10; i++)
        if (rms_norm(NULL, &t, &t, NULL, NULL) != INVAR_OK) return 1;
    return dlclose(library) || usleep(200000);
}
"""


def test_threads_outlive_a_program_that_closes_the_library(prefix, tmp_path):
    source, program = tmp_path / "closed.c", tmp_path / "closed"
    source.write_text(CLOSED)
    run(compiler("cc", "gcc", "clang"), "-std=gnu11", "-I", prefix / "include", source, "-ldl", "-o", program)
    run(program, library_folder(prefix) / "libinvar.so", env=dict(os.environ, INVAR_NUM_THREADS="2"))


def program_of(page):
    return re.search(r"```c\n(.*?)```", (ROOT / page).read_text(), re.S)[1]


def test_the_program_of_the_c_documentation_builds_with_pkg_config_and_runs(prefix, tmp_path):
    if not shutil.which("pkg-config"):
        pytest.skip("needs pkg-config")
    source, program = tmp_path / "example.c", tmp_path / "example"
    source.write_text(program_of("docs/c-api.md"))
    folder = library_folder(prefix)
    environment = dict(os.environ, PKG_CONFIG_PATH=str(folder / "pkgconfig"), LD_LIBRARY_PATH=str(folder))
    assert run("pkg-config", "--modversion", "invar", env=environment).strip() == "0.1.0"
    flags = run("pkg-config", "--cflags", "--libs", "invar", env=environment).split()
    run(compiler("cc", "gcc", "clang"), "-std=c11", *STRICT, source, *flags, "-o", program)
    assert [line.partition(" =")[0] for line in run(program, env=environment).splitlines()[1:]] == ["out[0]", "out[1]"]
