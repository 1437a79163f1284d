"""Writes the corpus of kernels as files that libFuzzer starts from: python tests/fuzz/seeds.py FOLDER.

The form is that of fuzz_translate.c: a byte of flags, the header, the line `// body`, the body.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kernels import CASES

FLAGS = {"metal": b"\x01", "cuda": b"\x05"}

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for case in CASES:
    for dialect in case.dialects:
        header = case.cuda_header if dialect == "cuda" and case.cuda_header is not None else case.header
        text = f"{header}\n// body\n{getattr(case, dialect)}"
        (folder / f"{case.name}.{dialect}").write_bytes(FLAGS[dialect] + text.encode())
