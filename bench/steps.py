"""Whether attention's time has cliffs: what one query or one key more costs, in tiles of the same call.

A tile is 64 query rows, or a block of 256 keys, at the rate of the longest calls. For each size the least time of all rounds
counts: what a neighbour on the machine adds is no step.

usage: steps.py [--rounds N] [--threads N] [--json FILE]
"""

import argparse
import json
import time

import numpy as np
from peers import NUMPY, information
from rich.console import Console
from rich.progress import track
from rich.table import Table

import invar
from invar.core import fast

HEADS = 4
AROUND = (48, 64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024)
SIZES = sorted({*range(1, 35), *(size + step for size in AROUND for step in (-1, 0, 1))})
# what grows, the size that does not, the rows of a tile
AXES = (("queries", 1024, 64), ("keys", 1, 256), ("keys", 128, 256))


def calls(axis, fixed, dtype, width):
    """The call of each size."""
    draw = np.random.default_rng(1)
    for size in SIZES:
        queries, keys = (size, fixed) if axis == "queries" else (fixed, size)
        q, k, v = (draw.standard_normal((1, HEADS, n, width), np.float32).astype(NUMPY[dtype]) for n in (queries, keys, keys))
        out = np.empty_like(q)
        yield size, lambda q=q, k=k, v=v, out=out: fast.scaled_dot_product_attention(q, k, v, scale=width**-0.5, out=out)


def least_times(axis, fixed, dtype, width, rounds):
    table = dict(calls(axis, fixed, dtype, width))
    best = dict.fromkeys(table, float("inf"))
    for _ in range(rounds + 1):
        for size, call in table.items():
            start = time.perf_counter()
            call()
            best[size] = min(best[size], time.perf_counter() - start)
    return best


def steps(best, tile):
    """A tile's time; (step in tiles, size after it) of every step of one, the largest first."""
    last, half = SIZES[-1], SIZES[-1] // 2
    cost = (best[last] - best[half]) / (last - half) * tile
    found = [((best[size] - best[size - 1]) / cost, size) for size in SIZES if size - 1 in best]
    return cost, sorted(found, reverse=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="where to write all times, in seconds")
    arguments = parser.parse_args()
    invar.set_num_threads(arguments.threads)
    table = Table("call", "a tile", "the largest steps of one, in tiles")
    results = []
    cases = [(axis, dtype, width) for dtype in ("f32", "bf16", "f16") for width in (64, 128) for axis in AXES]
    for (axis, fixed, tile), dtype, width in track(cases, transient=True):
        best = least_times(axis, fixed, dtype, width, arguments.rounds)
        cost, found = steps(best, tile)
        other = "keys" if axis == "queries" else "queries" if fixed > 1 else "query"
        table.add_row(f"{dtype} D{width}, {axis} beside {fixed} {other}", f"{cost * 1e6:.0f} µs",
                      ", ".join(f"{step:.2f} at {size}" for step, size in found[:3]))
        results.append(dict(dtype=dtype, D=width, heads=HEADS, axis=axis, fixed=fixed, tile=tile, seconds=best))
    Console().print(table)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(dict(info=information(), results=results), file)


if __name__ == "__main__":
    main()
