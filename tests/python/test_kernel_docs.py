"""docs/custom-kernels.md: its examples run, its files check clean, and its table of defects is the library's."""

import re
from pathlib import Path

import kernel_tools
import numpy as np
import pytest

from invar._cli import main
from invar._kernel_file import _KINDS

pytestmark = pytest.mark.once
TEXT = (kernel_tools.ROOT / "docs" / "custom-kernels.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def test_python_examples(capsys):
    names = {}
    first, second, third, gradient = blocks("python")
    for text in (first, second, third, gradient):
        exec(text, names)
    assert capsys.readouterr().out == "[ 4. 10. 18.]\n[5. 7. 9.]\n"
    np.testing.assert_allclose(names["out"], np.exp(names["a"]), rtol=1e-6)
    assert callable(names["gradient"])


def test_files(tmp_path):
    (metal,), (toml,) = blocks("c"), blocks("toml")
    (tmp_path / "twice.metal").write_text(metal)
    (tmp_path / "scale.toml").write_text(toml)
    for command in ("run", "check"):
        assert main([command, str(tmp_path / "twice.metal"), str(tmp_path / "scale.toml")]) == 0


def test_kinds_of_defects():
    told = set(re.findall(r"`([a-z -]+)`", "".join(re.findall(r"^\| (`[^|]*) \|", TEXT.split("## Check mode")[1], re.M))))
    source = (kernel_tools.ROOT / "src" / "jit" / "check_report.c").read_text()
    known = set(re.findall(r'\[INVAR_KIND_\w+\] = "([^"]+)"', source))
    assert known and told - {"kind"} == known
    assert set(_KINDS) == known


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (kernel_tools.ROOT / "docs" / Path(target)).exists(), target
