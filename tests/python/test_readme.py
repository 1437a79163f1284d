"""The README's Python runs, and the kernel in it fails with the words that stand there."""

import re
import shutil
from pathlib import Path

import invar
import pytest

TEXT = (Path(__file__).resolve().parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)

pytestmark = pytest.mark.once


def test_the_operations_run():
    names = {}
    exec(BLOCKS[0], names)
    assert names["out"].shape == names["q"].shape


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
def test_the_kernel_is_caught():
    promised = re.search(r"# KernelCheckError: (.*?) \.\.\.", BLOCKS[1])[1]
    names = {}
    exec(BLOCKS[0], names)
    with pytest.raises(invar.KernelCheckError) as error:
        exec(BLOCKS[1], names)
    assert str(error.value).startswith(promised)
