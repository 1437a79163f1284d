"""The tree keeps its own rules: includes point downward, and files and functions stay short."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Lowest first. A file may include its own layer and those below; docs/architecture.md draws this.
LAYERS = ["core", "cpu", "reference", "cuda", "jit", "api"]
ALLOWED_UPWARD = {("core/context.c", "cpu/dispatch.h")}  # a context holds the kernels that were chosen for it


def sources():
    return sorted(p for p in (ROOT / "src").rglob("*") if p.suffix in {".c", ".h", ".def", ".cu", ".cuh"})


def test_includes_point_downward():
    wrong = []
    for path in sources():
        name = path.relative_to(ROOT / "src").as_posix()
        layer = LAYERS.index(name.split("/")[0])
        for included in re.findall(r'^#include "([^"]+)"', path.read_text(), re.M):
            folder = included.split("/")[0]
            if folder in LAYERS and LAYERS.index(folder) > layer and (name, included) not in ALLOWED_UPWARD:
                wrong.append(f"{name} includes {included}")
    assert not wrong


def test_files_are_short_and_open_with_their_purpose():
    long, silent = [], []
    for path in sources():
        text = path.read_text()
        name = path.relative_to(ROOT).as_posix()
        if text.count("\n") > 600:
            long.append(name)
        if not text.startswith("/*"):
            silent.append(name)
    assert not long
    assert not silent


def test_lines_are_short():
    code = [p for folder in ("src", "include", "python", "tests", "tools", "bench", "examples")
            for p in (ROOT / folder).rglob("*") if p.suffix in {".c", ".h", ".cpp", ".def", ".cu", ".cuh", ".py", ".pyi"}]
    long = [f"{path.relative_to(ROOT)}:{number}: {len(line)} columns" for path in code
            for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 135]
    assert not long


def functions(text):
    """(name, lines) of each function that opens at the left margin and closes there. Of CUDA's, launch bounds and a
    specialisation's types stand where a name or parameters are looked for."""
    text = re.sub(r" __launch_bounds__\([^()]*\)", "", text)
    text = re.sub(r"^(__device__[^\n(]*\w)<[^<>\n]*>\(", r"\1(", text.replace("template <> __device__", "__device__"), flags=re.M)
    for match in re.finditer(r"^[A-Za-z_][^;=#\n]*?(\w+)\([^;{}]*\)\s*\{\n(.*?)^\}", text, re.M | re.S):
        yield match[1], match[2].count("\n") + 2


def test_functions_are_short():
    long = [f"{path.relative_to(ROOT)}: {name} has {lines} lines"
            for path in sources() for name, lines in functions(path.read_text()) if lines > 60]
    assert not long
