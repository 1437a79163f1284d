"""What custom kernels cost, each figure beside its mark: against plain C loops, a thread and barrier, and a call.

    python bench/kernels.py [--library build/libinvar.so] [--json FILE]

needs the package installed, the C library built, and a C++ compiler. The plain C (bench/kernel_twins.c) is compiled by the
compiler that compiles the kernels, with -O3 -march=native, and runs on as many threads, interleaved with the kernel; medians.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's own threads would wait for work on the cores that are measured

import numpy as np

import invar
from invar.core import fast

ROOT = Path(__file__).resolve().parents[1]
THREADS = len(os.sched_getaffinity(0))
COMPILER = os.environ.get("INVAR_CXX", "c++").split()
ROUNDS, SLICE = 7, 0.03  # seconds of one thunk in one round

MULTIPLY = "uint i = thread_position_in_grid.x;\nout[i] = a[i] * b[i];"
HEAD = """
uint t = thread_position_in_threadgroup.x, size = threads_per_threadgroup.x, row = threadgroup_position_in_grid.x;
uint n = a_shape[1], lane = thread_index_in_simdgroup, warp = simdgroup_index_in_threadgroup;
threadgroup float part[32];
"""
# Over the group: every thread gets it.
TOTAL = """
{v} = simd_{op}({v});
if (lane == 0) part[warp] = {v};
threadgroup_barrier(mem_flags::mem_threadgroup);
{v} = simd_{op}(lane < simdgroups_per_threadgroup ? part[lane] : {none});
threadgroup_barrier(mem_flags::mem_threadgroup);
"""
SUM = HEAD + "float s = 0;\nfor (uint i = t; i < n; i += size) s += a[row * n + i];" + TOTAL.format(
    v="s", op="sum", none="0.0f") + "if (t == 0) out[row] = s;"
SUM_CHUNKS = SUM.replace("for (uint i = t; i < n; i += size)",
                         "uint each = (n + size - 1) / size, end = min(n, (t + 1) * each);\n"
                         "for (uint i = t * each; i < end; i++)")
SOFTMAX = HEAD + """
float m = -INFINITY, s = 0;
for (uint i = t; i < n; i += size) m = max(m, a[row * n + i]);
""" + TOTAL.format(v="m", op="max", none="-INFINITY") + """
for (uint i = t; i < n; i += size) {
    float e = exp(a[row * n + i] - m);
    out[row * n + i] = e;
    s += e;
}
""" + TOTAL.format(v="s", op="sum", none="0.0f") + "for (uint i = t; i < n; i += size) out[row * n + i] /= s;"
TURNS = 16
BARRIERS = """
threadgroup float tile[1024];
uint i = thread_index_in_threadgroup;
float v = a[thread_position_in_grid.x];
for (int r = 0; r < {turns}; r++) {{
    tile[i] = v;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    v += tile[i ^ 1];
    threadgroup_barrier(mem_flags::mem_threadgroup);
}}
out[thread_position_in_grid.x] = v;
"""
ONE_BARRIER = """
threadgroup float tile[1024];
uint i = thread_index_in_threadgroup;
tile[i] = a[thread_position_in_grid.x];
threadgroup_barrier(mem_flags::mem_threadgroup);
out[thread_position_in_grid.x] = tile[threads_per_threadgroup.x - 1 - i];
"""
AXPY = "uint i = thread_position_in_grid.x;\nout[i] = a[i] * {factor}f + b[i];"
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


class Job(ctypes.Structure):
    _fields_ = [("kernel", ctypes.c_void_p), ("twin", ctypes.c_int32), ("threads", ctypes.c_int32), ("fresh", ctypes.c_int32),
                ("a", ctypes.c_void_p), ("b", ctypes.c_void_p), ("out", ctypes.c_void_p), ("rows", ctypes.c_int64),
                ("columns", ctypes.c_int64), ("out_columns", ctypes.c_int64), ("grid", ctypes.c_int64 * 3),
                ("group", ctypes.c_int64 * 3)]


class Bench:
    """The plain C, and launches by way of the C library."""

    TWINS = {"multiply": 0, "sum": 1, "softmax": 2, "sum in vectors": 3}

    def __init__(self, library, folder):
        made = Path(folder) / "twins.so"
        subprocess.run([*COMPILER, "-x", "c", "-std=gnu11", "-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC",
                        "-pthread", "-o", made, ROOT / "bench/kernel_twins.c", f"-I{ROOT}/include", "-x", "none", library,
                        f"-Wl,-rpath,{library.parent}", "-lm"], check=True)
        self.core = ctypes.CDLL(str(library))
        self.twins = ctypes.CDLL(str(made))
        self.core.invar_last_error.restype = ctypes.c_char_p
        self.twins.bench_kernel.restype = self.twins.bench_context.restype = ctypes.c_void_p
        self.twins.bench_time.restype = ctypes.c_double
        self.twins.bench_time.argtypes = [ctypes.POINTER(Job), ctypes.c_void_p, ctypes.c_int64]
        self.contexts = {threads: self.twins.bench_context(threads) for threads in {1, THREADS}}

    def job(self, work, a, b, out, grid=1, group=1, threads=THREADS, fresh=False):
        """work: the name of a twin, or a kernel's text. Returns turns -> seconds a turn."""
        kernel = None
        if work not in self.TWINS:
            kernel = self.twins.bench_kernel(b"bench", work.encode())
            if not kernel:
                raise RuntimeError(self.core.invar_last_error().decode())
        job = Job(kernel, self.TWINS.get(work, 0), threads, fresh, a.ctypes.data, b.ctypes.data, out.ctypes.data, *a.shape,
                  out.shape[1], (grid, 1, 1), (group, 1, 1))

        arrays = (a, b, out)

        def run(turns):
            assert all(array.size for array in arrays)  # they live as long as this function
            seconds = self.twins.bench_time(job, self.contexts[threads], turns)
            if seconds < 0:
                raise RuntimeError(self.core.invar_last_error().decode())
            return seconds

        return run


def interleave(jobs):
    """name -> median seconds a turn."""
    turns = {}
    for name, run in jobs.items():
        run(1)
        turns[name] = max(1, int(SLICE / max(run(1), 1e-7)))
    times = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, run in jobs.items():
            times[name].append(run(turns[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def elementwise(bench, rows):
    a = np.random.default_rng(1).random((64, 1 << 20), np.float32)
    b, out = a[::-1].copy(), np.zeros_like(a)
    for fresh, what in ((False, "out given"), (True, "out allocated")):
        times = interleave({"kernel": bench.job(MULTIPLY, a, b, out, a.size, 256, fresh=fresh),
                            "twin": bench.job("multiply", a, b, out, fresh=fresh)})
        rows.append((f"a * b over 64 Mi floats, {what}", times["kernel"] / times["twin"], 1.15, "x plain C"))


def reductions(bench, rows):
    for count, columns, group in ((256, 65536, 256), (64, 262144, 1024)):
        a = np.random.default_rng(2).random((count, columns), np.float32)
        sums, out = np.zeros((count, 1), np.float32), np.zeros_like(a)
        each = f"{count} x {columns}, {group} threads of {columns // group}"
        times = interleave({"strided": bench.job(SUM, a, a, sums, count * group, group),
                            "chunks": bench.job(SUM_CHUNKS, a, a, sums, count * group, group),
                            "plain": bench.job("sum", a, a, sums), "vectors": bench.job("sum in vectors", a, a, sums)})
        rows.append((f"sum of rows, {each}", times["strided"] / times["plain"], 3, "x plain C"))
        rows.append((f"sum of rows, {each}", times["strided"] / times["vectors"], None, "x C in vectors"))
        rows.append((f"sum of rows in chunks, {each}", times["chunks"] / times["plain"], 3, "x plain C"))
        times = interleave({"kernel": bench.job(SOFTMAX, a, a, out, count * group, group),
                            "twin": bench.job("softmax", a, a, out)})
        rows.append((f"softmax of rows, {each}", times["kernel"] / times["twin"], 3, "x plain C"))


def barriers(bench, rows):
    threads = 1 << 17
    a = np.ones((1, threads), np.float32)
    out = np.zeros_like(a)
    for group in (32, 64, 128, 256, 512, 1024):
        jobs = {name: bench.job(source, a, a, out, threads, group, threads=1) for name, source in (
            ("few", BARRIERS.format(turns=1)), ("many", BARRIERS.format(turns=1 + TURNS)), ("one", ONE_BARRIER))}
        times = interleave(jobs)
        each = (times["many"] - times["few"]) / (2 * TURNS * threads)
        rows.append((f"a thread and barrier, groups of {group}, one core", each * 1e9, 12, "ns"))
        life = times["one"] / threads
        rows.append((f"a thread with one barrier in its life, groups of {group}, one core", life * 1e9, None, "ns"))


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
    fast.metal_kernel("axpy", ["a", "b"], ["out"], AXPY.format(factor=factor))(a, a)
    return time.perf_counter() - begin


def new_process(source):
    program = NEW_PROCESS.format(source=source)
    return min(float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
               for _ in range(5))


def calls(bench, rows):
    firsts = [first_call(factor) for factor in ("2.0", "3.0", "4.0", "5.0")]
    source = AXPY.format(factor="2.0")
    rows.append(("first call: translate, compile, load, run", min(firsts), 0.6, "s"))
    rows.append(("known kernel in a new process: read, check, load, run", new_process(source) * 1e3, 5, "ms"))
    a = np.ones(16, np.float32)
    kernel = fast.metal_kernel("axpy", ["a", "b"], ["out"], source)
    call = {"inputs": [a, a], "output_shapes": [(16,)], "output_dtypes": [np.float32], "grid": (16, 1, 1),
            "threadgroup": (16, 1, 1)}
    rows.append(("later call from Python, all keywords", best(lambda: kernel(**call), 7, 5000) * 1e6, 6, "us"))
    rows.append(("later call from Python, short form", best(lambda: kernel(a, a), 7, 5000) * 1e6, 6, "us"))
    square = a.reshape(1, 16)
    run = bench.job(source, square, square, np.zeros_like(square), 16, 16)
    run(1)
    rows.append(("later call from C", min(run(20000) for _ in range(7)) * 1e6, 1, "us"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, default=ROOT / "build/libinvar.so", help="the C library")
    parser.add_argument("--json", help="write the figures here")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["INVAR_CACHE_DIR"] = folder
        bench = Bench(options.library.resolve(), folder)
        for part in (calls, barriers, reductions, elementwise):
            part(bench, rows)
    for what, value, mark, unit in rows:
        print(f"{what:70} {value:8.3f} {unit:14} " + (f"{value / mark:5.2f} of the mark {mark:g}" if mark else ""))
    if options.json:
        figures = [dict(what=what, value=round(value, 4), unit=unit, mark=mark) for what, value, mark, unit in rows]
        compiler = subprocess.run([*COMPILER, "--version"], capture_output=True, text=True, check=True)
        info = invar.info()
        about = dict(date=date.today().isoformat(), processor=info["processor"], machine=platform.machine(), threads=THREADS,
                     cpu=info["cpu"], compiler=compiler.stdout.splitlines()[0])
        Path(options.json).write_text(json.dumps(about | dict(figures=figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
