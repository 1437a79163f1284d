"""Times this project beside its peers, case by case, interleaved in one process, with the roof that bounds each case.

usage: run.py [--threads N] [--cases REGEX] [--rounds N] [--roofs PROGRAM] [--json FILE] [--plot FOLDER] [PEER ...]
A round runs every peer once for at least 20 ms, and the machine's own rate (bench/roofs.c) likewise; medians over the rounds are
quoted, with the spread of the middle half. A share above 1 means that the machine's mood changed, or that caches helped.
Where a neighbour's threads come and go on the cores, everything waits up to a tenth of a second for a moment without them;
our share of the roof is also given over those rounds alone that had none just before nor just after.
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
from cases import cases, name, work
from rich.console import Console
from rich.table import Table

SLICE = 0.02  # seconds a peer runs in a round
PATIENCE = 0.1  # seconds to wait for a moment in which no other thread shares a core
REST = 0.06  # seconds until the threads of the peer before sleep: ONNX Runtime's spin for 20 to 50 ms after a call


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


class Roofs:
    """The program of bench/roofs.c, asked for one round of a rate at a time."""

    def __init__(self, program, threads):
        self.branches = 0.0
        self.program = subprocess.Popen([program, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rate(self, name):
        self.program.stdin.write(name + "\n")
        self.program.stdin.flush()
        return float(self.program.stdout.readline())

    def alone(self):
        """Whether no other thread shares a core just now, as far as this run has seen what a core can do."""
        rate = max(self.rate("branch"), self.rate("branch"))
        self.branches = max(self.branches, rate)
        return rate > 0.9 * self.branches

    def settle(self):
        """Waits for such a moment, not for long."""
        end = time.perf_counter() + PATIENCE
        while not (alone := self.alone()) and time.perf_counter() < end:
            pass
        return alone


def interleave(thunks, rounds, roofs, bound):
    """peer → seconds a call, one a round; the roof's rate, one a round; our seconds that no other thread disturbed."""
    counts = {peer: repeats(thunk) for peer, thunk in thunks.items()}
    times, rates, undisturbed = {peer: [] for peer in thunks}, [], []
    for _ in range(rounds):
        time.sleep(REST)
        roofs.settle()
        rates.append(roofs.rate(bound))
        for peer, thunk in thunks.items():
            time.sleep(REST)
            alone = roofs.settle()
            end = time.perf_counter() + SLICE  # untimed: threads that woke on one core are moved apart some milliseconds later
            while time.perf_counter() < end:
                thunk()
            begin = time.perf_counter()
            for _ in range(counts[peer]):
                thunk()
            times[peer].append((time.perf_counter() - begin) / counts[peer])
            if peer == "invar" and alone and roofs.alone():
                undisturbed.append(times[peer][-1])
    return times, rates, undisturbed


def measure(case, chosen, threads, rounds, roofs):
    bound, amount = work(case)
    if bound == "dot" and not roofs.rate("dot"):
        bound = "fma"
    thunks, row = {}, dict(case=name(case), family=case["family"], roof=bound, times={})
    for peer, build in chosen.items():
        try:
            thunk = build(case, threads)
            if thunk:
                thunk()
                thunks[peer] = thunk
        except Exception as error:  # a peer without the operation must not end the run
            row.setdefault("errors", {})[peer] = f"{type(error).__name__}: {error}"[:200]
    times, rates, undisturbed = interleave(thunks, rounds, roofs, bound)
    for peer, seconds in times.items():
        quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [seconds[0]] * 3
        row["times"][peer] = dict(median=quartiles[1], low=quartiles[0], high=quartiles[2])
    row["roof_rate"] = statistics.median(rates)
    if undisturbed:
        row["undisturbed"] = dict(rounds=len(undisturbed), share=amount / statistics.median(undisturbed) / row["roof_rate"])
    judge(row, amount)
    return row


def judge(row, amount):
    """Adds the share of the roof and the ratio to the best peer."""
    ours = row["times"].get("invar")
    others = {p: t["median"] for p, t in row["times"].items() if p != "invar"}
    if ours:
        row["share"] = amount / ours["median"] / row["roof_rate"]
        if others:
            best = min(others, key=others.get)
            row["best_peer"], row["ratio"] = best, others[best] / ours["median"]


def describe(threads):
    import importlib.metadata as metadata

    versions = {}
    for package in ("invar", "numpy", "torch", "onnxruntime"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return dict(date=date.today().isoformat(), machine=platform.machine(), threads=threads, versions=versions,
                info=peer_thunks.information())


def line(table, row):
    def cell(peer):
        time = row["times"].get(peer)
        return f"{time['median'] * 1e3:.4g}" if time else "error" if peer in row.get("errors", {}) else "–"

    ours = row["times"].get("invar")
    alone = row.get("undisturbed")
    spread = f"{(ours['high'] - ours['low']) / ours['median']:.0%}" if ours else "–"
    table.add_row(row["case"], *(cell(p) for p in table.peers), spread,
                  f"{row['share']:.0%} of {row['roof_rate'] / 1e9:.0f} G/s {row['roof']}" if "share" in row else "–",
                  f"{alone['share']:.0%} in {alone['rounds']}" if alone else "–",
                  f"{row['ratio']:.2f} × {row['best_peer']}" if "ratio" in row else "–")


def main():
    options = arguments()
    peer_thunks.limit_threads(options.threads)
    available = peer_thunks.available()
    if unknown := [peer for peer in options.peers if peer not in available]:
        raise SystemExit(f"no such peer here: {', '.join(unknown)}; there are {', '.join(available)}")
    chosen = {p: available[p] for p in options.peers} if options.peers else available
    roofs = Roofs(options.roofs, options.threads)
    console = Console(width=160)
    table = Table("case", *(f"{p} ms" for p in chosen), "spread", "share of roof", "undisturbed", "against the best peer")
    table.peers = list(chosen)
    rows = []
    for case in cases():
        if not re.search(options.cases, name(case)):
            continue
        row = measure(case, chosen, options.threads, options.rounds, roofs)
        rows.append(row)
        line(table, row)
        print(f"{len(rows)} {row['case']}", row.get("errors", ""), file=sys.stderr, flush=True)
    console.print(table)
    result = dict(**describe(options.threads), rows=rows)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)
    if options.plot:
        from plot import draw

        draw(result, options.plot)


if __name__ == "__main__":
    main()
