"""Times this project beside its peers, case by case, interleaved in one process, as shares of roofs measured first.

usage: run.py [--threads N] [--cases REGEX] [--rounds N] [--roofs PROGRAM] [--json FILE] [--plot FOLDER] [PEER ...]
A round runs every peer once for at least 20 ms; the median over the rounds is quoted, with the spread of the middle half.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from datetime import date

import peers as peer_thunks
from cases import cases, name, share
from rich.console import Console
from rich.table import Table

SLICE = 0.02  # seconds a peer runs in a round


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cases", default=".", help="a regular expression over the case's name")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--roofs", default="build/bench/roofs", help="the program built from bench/roofs.c")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--plot", help="draw one figure a family into this folder")
    parser.add_argument("peers", nargs="*", help="which of the importable peers; all by default")
    return parser.parse_args()


def repeats(thunk):
    """How often a thunk runs in a slice; warms it up on the way."""
    thunk()
    begin = time.perf_counter()
    thunk()
    return max(1, int(SLICE / max(time.perf_counter() - begin, 1e-7)))


def interleave(thunks, rounds):
    """peer → seconds a call, one a round."""
    counts = {peer: repeats(thunk) for peer, thunk in thunks.items()}
    times = {peer: [] for peer in thunks}
    for _ in range(rounds):
        for peer, thunk in thunks.items():
            begin = time.perf_counter()
            for _ in range(counts[peer]):
                thunk()
            times[peer].append((time.perf_counter() - begin) / counts[peer])
    return times


def measure(case, chosen, threads, rounds):
    thunks, row = {}, dict(case=name(case), family=case["family"], times={})
    for peer, build in chosen.items():
        try:
            thunk = build(case, threads)
            if thunk:
                thunk()
                thunks[peer] = thunk
        except Exception as error:  # a peer without the operation must not end the run
            row.setdefault("errors", {})[peer] = f"{type(error).__name__}: {error}"[:200]
    for peer, times in interleave(thunks, rounds).items():
        quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
        row["times"][peer] = dict(median=quartiles[1], low=quartiles[0], high=quartiles[2])
    return row


def judge(row, case, roofs):
    """Adds the share of the roof and the ratio to the best peer."""
    ours = row["times"].get("invar")
    others = {p: t["median"] for p, t in row["times"].items() if p != "invar"}
    if ours:
        row["share"], row["roof"] = share(case, ours["median"], roofs)
        if others:
            best = min(others, key=others.get)
            row["best_peer"], row["ratio"] = best, others[best] / ours["median"]


def describe(roofs, threads):
    import importlib.metadata as metadata

    versions = {}
    for package in ("invar", "numpy", "torch", "onnxruntime"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    import invar

    return dict(date=date.today().isoformat(), machine=platform.machine(), threads=threads, roofs=roofs,
                versions=versions, info={k: v for k, v in invar.info().items() if isinstance(v, (str, int, float))})


def line(table, row):
    def cell(peer):
        time = row["times"].get(peer)
        return f"{time['median'] * 1e3:.4g}" if time else "error" if peer in row.get("errors", {}) else "–"

    ours = row["times"].get("invar")
    spread = f"{(ours['high'] - ours['low']) / ours['median']:.0%}" if ours else "–"
    table.add_row(row["case"], *(cell(p) for p in table.peers), spread,
                  f"{row['share']:.0%} {row['roof']}" if "share" in row else "–",
                  f"{row['ratio']:.2f} × {row['best_peer']}" if "ratio" in row else "–")


def main():
    options = arguments()
    peer_thunks.limit_threads(options.threads)
    available = peer_thunks.available()
    chosen = {p: available[p] for p in options.peers} if options.peers else available
    roofs = json.loads(subprocess.run([options.roofs, str(options.threads)], check=True, capture_output=True).stdout)
    console = Console(width=160)
    console.print(f"{options.threads} threads; copy {roofs['copy'] / 1e9:.1f} GB/s, read {roofs['read'] / 1e9:.1f} GB/s, "
                  f"float32 FMA {roofs['fma'] / 1e9:.0f}, bfloat16 dot {roofs['dot'] / 1e9:.0f} GFLOP/s")
    table = Table("case", *(f"{p} ms" for p in chosen), "spread", "share of roof", "against the best peer")
    table.peers = list(chosen)
    rows = []
    for case in cases():
        if not re.search(options.cases, name(case)):
            continue
        row = measure(case, chosen, options.threads, options.rounds)
        judge(row, case, roofs)
        rows.append(row)
        line(table, row)
        print(f"{len(rows)} {row['case']}", row.get("errors", ""), file=sys.stderr, flush=True)
    console.print(table)
    result = dict(**describe(roofs, options.threads), rows=rows)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)
    if options.plot:
        from plot import draw

        draw(result, options.plot)


if __name__ == "__main__":
    main()
