"""What calling a custom kernel costs: the first call, a known kernel in a new process, every later call.

    python bench/kernels.py            needs the package installed and a C++ compiler
"""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from invar.core import fast

SOURCE = "uint i = thread_position_in_grid.x;\nout[i] = a[i] * {factor}f + b[i];"
NEW_PROCESS = """
import time
import numpy as np
from invar.core import fast
a = np.ones(16, np.float32)
begin = time.perf_counter()
kernel = fast.metal_kernel("axpy", ["a", "b"], ["out"], {source!r})
kernel(a, a)
print(time.perf_counter() - begin)
"""


def best(function, repeats, turns):
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(turns):
            function()
        seconds.append((time.perf_counter() - begin) / turns)
    return min(seconds)


def first_call(factor):
    a = np.ones(16, np.float32)
    begin = time.perf_counter()
    fast.metal_kernel("axpy", ["a", "b"], ["out"], SOURCE.format(factor=factor))(a, a)
    return time.perf_counter() - begin


def new_process(source):
    program = NEW_PROCESS.format(source=source)
    return min(float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
               for _ in range(5))


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.environ["INVAR_CACHE_DIR"] = folder
        firsts = [first_call(factor) for factor in ("2.0", "3.0", "4.0", "5.0")]
        known = new_process(SOURCE.format(factor="2.0"))
        a = np.ones(16, np.float32)
        kernel = fast.metal_kernel("axpy", ["a", "b"], ["out"], SOURCE.format(factor="2.0"))
        call = {"inputs": [a, a], "output_shapes": [(16,)], "output_dtypes": [np.float32], "grid": (16, 1, 1), "threadgroup": (16, 1, 1)}
        kernel(**call)
        rows = [
            ("first call: translate, compile, load, run", min(firsts), 0.6),
            ("known kernel in a new process: read, check, load, run", known, 5e-3),
            ("second call from Python, all keywords", best(lambda: kernel(**call), 7, 5000), 6e-6),
            ("second call from Python, short form", best(lambda: kernel(a, a), 7, 5000), 6e-6),
        ]
    for what, seconds, mark in rows:
        print(f"{what:55} {seconds * 1e6:12.1f} us   {seconds / mark:5.2f} of the mark {mark * 1e6:g} us")


if __name__ == "__main__":
    main()
