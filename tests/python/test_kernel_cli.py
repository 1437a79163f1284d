"""The command line: kernels in files, checked and run, and the cache."""

import kernel_tools  # noqa: F401 - sets the cache folder
import numpy as np
import pytest

import invar
from invar._cli import main

pytestmark = pytest.mark.once

GOOD = """
dialect = "metal"
source = '''
uint i = thread_position_in_grid.x;
out[i] = T(a[i] * scale + SHIFT);
'''

[template]
T = "float32"
SHIFT = 1

[inputs.a]
data = [1.0, 2.0, 3.0]

[inputs.scale]
value = 2.0

[outputs.out]
shape = [3]
expect = [3.0, 5.0, 7.0]
"""

BAD = """/* invar
[inputs.a]
shape = [64]
random = "uniform"

[outputs.out]
shape = [64]
*/
__shared__ float s[64];
int i = threadIdx.x;
s[i] = a[i];
out[i] = s[63 - i];
"""


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


COMPACTION = """/* invar
init_value = 0
threadgroup = [32, 1, 1]
allow = ["schedule-dependent result"]

[inputs.a]
shape = [256]

[outputs.out]
shape = [256]

[outputs.count]
shape = [1]
dtype = "int32"
*/
int i = blockIdx.x * blockDim.x + threadIdx.x;
if (a[i] > 0) out[atomicAdd(&count[0], 1)] = a[i];
"""


def test_what_a_file_allows(tmp_path, capsys):
    """An order that depends on the schedule is no defect where the file says so; another kind is one all the same."""
    assert main(["check", write(tmp_path, "compact.cu", COMPACTION)]) == 0
    assert "allows: schedule-dependent result" in capsys.readouterr().out
    assert main(["check", write(tmp_path, "reported.cu", COMPACTION.replace("allow = [", "# ["))]) == 1
    assert "schedule-dependent result" in capsys.readouterr().out
    assert main(["check", write(tmp_path, "outside.cu", COMPACTION.replace("a[i] > 0", "a[i + 1] > 0"))]) == 1
    assert "out-of-bounds read" in capsys.readouterr().out
    assert main(["check", write(tmp_path, "unknown.cu", COMPACTION.replace("schedule-dependent", "odd"))]) == 2
    assert "allow: expected a list of" in capsys.readouterr().err


def test_run_prints_and_compares(tmp_path, capsys):
    assert main(["run", write(tmp_path, "scale.toml", GOOD)]) == 0
    assert "[3. 5. 7.]" in capsys.readouterr().out
    assert main(["run", write(tmp_path, "wrong.toml", GOOD.replace("7.0]", "8.0]"))]) == 1
    out = capsys.readouterr().out
    assert "1 of 3 elements" in out and "(2,)" in out


def test_integers_are_compared_exactly(tmp_path, capsys):
    text = GOOD.replace("shape = [3]\nexpect = [3.0, 5.0, 7.0]", 'shape = [3]\ndtype = "int32"\nexpect = [3000000, 5000000, 7000001]')
    text = text.replace("data = [1.0, 2.0, 3.0]", "data = [1499999.5, 2499999.5, 3499999.5]")
    assert main(["run", write(tmp_path, "scale.toml", text)]) == 1
    assert "1 of 3 elements" in capsys.readouterr().out


def test_check_reports_with_the_files_own_lines(tmp_path, capsys):
    assert main(["check", write(tmp_path, "clean.toml", GOOD)]) == 0
    assert "no defects" in capsys.readouterr().out
    assert main(["check", write(tmp_path, "racy.cu", BAD)]) == 1
    out = capsys.readouterr().out
    assert "racy.cu:12" in out and "race" in out
    *reports, count = out.splitlines()
    assert count == f"{tmp_path / 'racy.cu'}: {len(reports)} defects" and all("racy.cu" in report for report in reports)
    assert main(["check", write(tmp_path, "clean.toml", GOOD), write(tmp_path, "racy.cu", BAD)]) == 1


def test_random_inputs_are_the_same_each_time(tmp_path):
    from invar import _kernel_file

    text = BAD.replace("s[63 - i]", "s[i]")
    path = write(tmp_path, "steady.cu", text)
    first, again, other = (_kernel_file.load(path, seed).call["inputs"][0] for seed in (None, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert first.dtype == np.float32 and first.shape == (64,) and 0 <= first.min() and first.max() < 1


def test_run_saves_outputs(tmp_path):
    target = tmp_path / "out.npz"
    assert main(["run", write(tmp_path, "scale.toml", GOOD), "--save", str(target)]) == 0
    assert np.load(target)["out"].tolist() == [3.0, 5.0, 7.0]


@pytest.mark.parametrize("change, word", [
    (("dialect = \"metal\"", "dialect = \"opencl\""), "dialect"), (("[template]", "[templates]"), "templates"),
    (("shape = [3]", "shape = 3"), "shape"), (("expect = [3.0, 5.0, 7.0]", "expect = [1.0]"), "expect"),
    (("data = [1.0, 2.0, 3.0]", "dtype = \"float3\"\nshape = [3]"), "float3"), (("value = 2.0", "value = 2.0\nunit = 1"), "unit"),
    (("source = ", "sauce = "), "source"), (("out[i]", "nonsense[i]"), "nonsense"), (("[outputs.out]", "[outputs.out"), "line"),
    (("[template]", "grid = []\n[template]"), "grid"),
    (("[template]", "grid = 5\n[template]"), "grid: expected a list of sizes, got 5"),
    (("[template]", "threadgroup = [\"a\"]\n[template]"), "threadgroup: expected a list of sizes, got ['a']"),
    (("[template]", "seed = -1\n[template]"), "seed: expected an integer from 0 on, got -1"),
    (("dialect = \"metal\"", "dialect = [\"metal\"]"), "dialect: expected a string, got ['metal']"),
    (("dialect = \"metal\"", "dialect = \"metal\"\nheader_file = 3"), "header_file: expected a string, got 3"),
    (("data = [1.0, 2.0, 3.0]", "shape = [3]\nlow = \"a\""), "a: low: expected a number, got 'a'"),
    (("data = [1.0, 2.0, 3.0]", "shape = [3]\nvalue = [1, 2]"), "toml: a: could not broadcast"),
    (("data = [1.0, 2.0, 3.0]", "shape = [3]\ndtype = \"int8\"\nrandom = \"no\""), "a: random: expected 'normal' or 'uniform'"),
    (("shape = [3]", "shape = [3]\nrtol = \"a\""), "out: rtol: expected a number, got 'a'"),
])
def test_what_is_wrong_with_a_file_is_said(tmp_path, capsys, change, word):
    assert main(["run", write(tmp_path, "k.toml", GOOD.replace(*change))]) == 2
    captured = capsys.readouterr()
    assert word in captured.err and "k.toml" in captured.err


def test_missing_files_and_headers(tmp_path, capsys):
    assert main(["check", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err
    assert main(["check", write(tmp_path, "plain.metal", "out[0] = 1;")]) == 2
    assert "invar" in capsys.readouterr().err


def test_cache_shows_and_clears(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("INVAR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    text = GOOD.replace("SHIFT = 1", "SHIFT = 12345").replace("expect = [3.0, 5.0, 7.0]", "")
    assert main(["run", write(tmp_path, "k.toml", text)]) == 0
    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    assert str(tmp_path / "cache") in out.replace("\n", "") and "compiler" in out
    assert len(list((tmp_path / "cache").glob("*.so"))) == 1
    assert main(["cache", "--clear"]) == 0
    assert "removed 1 compiled kernel" in capsys.readouterr().out
    assert not list((tmp_path / "cache").glob("*.so"))


def test_cache_without_a_folder(capsys, monkeypatch):
    monkeypatch.setenv("INVAR_CACHE_DIR", "/dev/null")
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["cache"]) == 0
    assert "none: it cannot be opened: Not a directory; INVAR_CACHE_DIR names it" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 2
    assert "kernel_cache_clear: INVAR_CACHE_DIR: expected a folder" in capsys.readouterr().err
    monkeypatch.setenv("INVAR_CACHE_DIR", "")
    monkeypatch.setenv("HOME", "/dev/null")
    assert main(["cache"]) == 0
    assert "compiled kernels are kept in memory" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert "removed 0 compiled kernels" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"invar {invar.__version__}\n"
