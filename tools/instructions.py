"""Counts the instructions of one call of each operation under valgrind's callgrind, for baseline and AVX2 (valgrind knows no
AVX-512): steadier than any time.

usage: instructions.py [--program build/bench/count] [--store FILE | --compare FILE]
--store writes the counts with the compiler's version; --compare fails where one has risen by more than 3 %, and says so when
the compiler is another than the stored one (then nothing is compared).
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from inner_loops import arguments, compiler, store_or_compare
from rich.console import Console
from rich.table import Table

SETS = ("baseline", "avx2")
RISE = 1.03


def count(program, case, function, cpu):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"--toggle-collect={function}", program, case]
        run = subprocess.run(command, capture_output=True, text=True,
                             env=dict(os.environ, INVAR_CPU=cpu, INVAR_NUM_THREADS="1"))
        if run.returncode:
            raise SystemExit(f"{case} under {cpu}: {run.stderr[-2000:]}")
        return int(re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.M)[1])


def compare(counts, stored):
    return [f"{case} under {cpu}: {then:,} instructions became {counts[case][cpu]:,}"
            for case, row in stored.items() for cpu, then in row.items() if counts.get(case, row)[cpu] > RISE * then]


def main():
    options = arguments(__doc__, "--program", "build/bench/count")
    lines = subprocess.run([options.program], check=True, capture_output=True, text=True).stdout.splitlines()
    counts = {case: {cpu: count(options.program, case, function, cpu) for cpu in SETS}
              for case, function in map(str.split, lines)}
    table = Table("one call", *SETS)
    for case, row in counts.items():
        table.add_row(case, *(f"{row[cpu]:,}" for cpu in SETS))
    Console(width=100).print(table)
    store_or_compare(options, compiler(options.program.parents[1]), "instructions", counts, compare, "calls")


if __name__ == "__main__":
    main()
