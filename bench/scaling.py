"""How the operations scale with threads: the speed on 1, 2, 4, ... threads over that on one, interleaved in one process, and in
brackets how the rate that bounds the call scales (multiply-adds, products or memory alone): processors of a virtual machine may be
threads that share cores.

usage: scaling.py [--rounds N] [--calls REGEX] [--json FILE]
"""

import argparse
import json
import re
import statistics
import time

import numpy as np
from peers import NUMPY, information, normal
from rich.console import Console
from rich.table import Table

import invar
from invar.core import fast

# what, heads, kv heads, queries, keys, head size, mask
PREFILL = (
    ("32/8 heads, causal", 32, 8, 2048, 2048, 128, "causal"),
    ("8 heads", 8, 8, 2048, 2048, 64, None),
    ("one head of 8192 queries", 1, 1, 8192, 8192, 64, None),
    ("short prompt", 16, 16, 128, 128, 64, "causal"),
)
DECODE = (("32/8 heads", 32, 8, 1, 32768, 128, None), ("one head", 1, 1, 1, 32768, 128, None))


def attention_calls():
    for family, rows in (("prefill", PREFILL), ("decode", DECODE)):
        for what, heads, kv_heads, queries, keys, width, mask in rows:
            for dtype in ("f32", "bf16"):
                q = normal((1, heads, queries, width), NUMPY[dtype], 1)
                k, v = (normal((1, kv_heads, keys, width), NUMPY[dtype], seed) for seed in (2, 3))
                yield (f"{family} {dtype} {what}", fast.scaled_dot_product_attention, (q, k, v),
                       dict(scale=width**-0.5, mask=mask, out=np.empty_like(q)))


def norm_calls():
    x, w = normal((65536, 512), np.float32, 1), normal((512,), np.float32, 2)
    yield "rms_norm f32 65536x512", fast.rms_norm, (x, w, 1e-5), dict(out=np.empty_like(x))


def seconds(call):
    call()
    begin, turns = time.perf_counter(), 0
    while turns < 1 or time.perf_counter() - begin < 0.03:
        call()
        turns += 1
    return (time.perf_counter() - begin) / turns


def measure(operation, arguments, options, counts, rounds):
    """The median seconds of a call, and of what bounds it, for each number of threads."""
    times, bounds = {n: [] for n in counts}, {n: [] for n in counts}
    for _ in range(rounds):
        for n in counts:
            invar.set_num_threads(n)
            times[n].append(seconds(lambda: operation(*arguments, **options)))
            # the rates are measured anew where the number of threads has changed
            bounds[n].append(fast.explain(operation, *arguments, **options)["bound_seconds"])
    return tuple({n: statistics.median(t) for n, t in of.items()} for of in (times, bounds))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", default=".", help="a regular expression over the call's name")
    parser.add_argument("--json")
    options = parser.parse_args()
    most = invar.info()["num_threads"]
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n < most] + [most]
    table = Table("call", "1 thread ms", *(f"{n} threads" for n in counts[1:]))
    rows = []
    for name, *call in (*attention_calls(), *norm_calls()):
        if not re.search(options.calls, name):
            continue
        times, bounds = measure(*call, counts, options.rounds)
        rows.append(dict(call=name, seconds=times, bound_seconds=bounds))
        table.add_row(name, f"{times[1] * 1e3:.4g}",
                      *(f"{times[1] / times[n]:.1f} × ({bounds[1] / bounds[n]:.1f})" for n in counts[1:]))
    Console(width=120).print(table)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(dict(info=information(), rows=rows), file, indent=1)


if __name__ == "__main__":
    main()
