"""Runs the examples of a document."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def run_examples(document, capsys, having=""):
    """Its blocks of Python that have these words print what their comments say, and its links lead somewhere."""
    text, names = (DOCS / document).read_text(), {}
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if having in block]
    promised = [line.split("# prints ")[1] for block in blocks for line in block.splitlines() if "# prints " in line]
    for block in blocks:
        exec(block, names)
    assert promised and capsys.readouterr().out.splitlines() == promised
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (DOCS / target).exists(), target
