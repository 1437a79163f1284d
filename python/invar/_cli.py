"""The command `invar`: check and run kernels from files, and look after the cache of compiled kernels.

Exit status: 0 when all is well, 1 when a kernel has defects or an output is not what its file expects, 2 when a file cannot
be read, translated or compiled, or a kernel does not end.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import _ext, _kernel_file
from ._kernels import cache_info

_WRONG, _UNUSABLE = 1, 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="invar", description="Metal and CUDA kernels, checked and run on the CPU.")
    parser.add_argument("--version", action="version", version=f"invar {_ext.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="run kernels in check mode and report their defects")
    check.add_argument("files", nargs="+", metavar="FILE", help="a TOML file, or a .metal or .cu file with an invar comment")
    check.add_argument("--strict", action="store_true", help="report equal values stored to one place by several threads too")
    check.add_argument("--seed", type=int, help="the seed of random inputs, in place of the file's")
    run = commands.add_parser("run", help="run kernels and print their outputs")
    run.add_argument("files", nargs="+", metavar="FILE", help="as for check")
    run.add_argument("--seed", type=int, help="as for check")
    run.add_argument("--save", metavar="FILE.npz", help="write the outputs of the last file there")
    cache = commands.add_parser("cache", help="show the cache of compiled kernels")
    cache.add_argument("--clear", action="store_true", help="remove every entry")
    given = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    if given.command == "cache":
        return _cache(console, given.clear)
    one = _check_file if given.command == "check" else _run_file
    return max(_guarded(console, one, path, given) for path in given.files)


def _guarded(console: Console, one: Any, path: str, given: argparse.Namespace) -> int:
    """What a file's error says goes to standard error, and the next file is taken."""
    try:
        return one(console, path, given)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        sentence = str(error)
        print(sentence if path in sentence else f"{path}: {sentence}", file=sys.stderr)
        return _UNUSABLE


def _check_file(console: Console, path: str, given: argparse.Namespace) -> int:
    loaded = _kernel_file.load(path, given.seed)
    try:
        outputs = loaded.run("strict" if given.strict else True)
    except _ext.KernelCheckError as error:
        defects = [report for report in error.reports if report.kind not in loaded.allowed]
        for report in defects:
            console.print(escape(str(report)))
        if defects:
            console.print(f"[red]{escape(path)}: {len(defects)} {'defect' if len(defects) == 1 else 'defects'}[/red]")
            return _WRONG
        console.print(f"[green]{escape(path)}: no defects but what the file allows: "
                      f"{escape(', '.join(sorted({report.kind for report in error.reports})))}[/green]")
        return 0
    wrong = _compare(console, loaded, outputs)
    if not wrong:
        console.print(f"[green]{escape(path)}: no defects[/green]")
    return wrong


def _run_file(console: Console, path: str, given: argparse.Namespace) -> int:
    loaded = _kernel_file.load(path, given.seed)
    outputs = loaded.run(None)
    table = Table(title=escape(path), title_justify="left")
    for heading in ("output", "type", "shape", "values"):
        table.add_column(heading, overflow="fold")
    for name, output in zip(loaded.kernel.output_names, outputs):
        with np.printoptions(threshold=64, precision=6, linewidth=90):
            table.add_row(name, str(output.dtype), str(output.shape), escape(str(output)))
    console.print(table)
    if given.save:
        np.savez(given.save, **dict(zip(loaded.kernel.output_names, outputs)))
    return _compare(console, loaded, outputs)


def _compare(console: Console, loaded: _kernel_file.KernelFile, outputs: list[np.ndarray]) -> int:
    """Each output beside what its file expects of it."""
    named = dict(zip(loaded.kernel.output_names, outputs))
    status = 0
    for name, expected, rtol, atol in loaded.expected:
        got = named[name].astype(expected.dtype)
        near = np.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
        if near.all():
            continue
        where = tuple(int(i) for i in np.argwhere(~near)[0])
        console.print(f"[red]{escape(str(loaded.path))}: {name}: {int((~near).sum())} of {near.size} elements are not what is "
                      f"expected; at {where} expected {expected[where]}, got {got[where]}[/red]")
        status = _WRONG
    return status


def _cache(console: Console, clear: bool) -> int:
    info = cache_info()
    if clear:
        try:
            _ext.kernel_cache_clear()
        except ValueError as error:
            print(error, file=sys.stderr)
            return _UNUSABLE
        removed = info["entries"] - cache_info()["entries"]
        console.print(f"removed {removed} compiled {'kernel' if removed == 1 else 'kernels'}")
        return 0
    consequence = "INVAR_CACHE_DIR names it, so no kernel is compiled" if os.environ.get("INVAR_CACHE_DIR") else \
        "compiled kernels are kept in memory"
    table = Table(show_header=False)
    table.add_row("folder", escape(info["folder"] or f"none: {info['reason']}; {consequence}"))
    table.add_row("compiled kernels", str(info["entries"]))
    table.add_row("size", f"{info['bytes'] / 2**20:.1f} MiB of at most {info['limit'] / 2**20:.0f} MiB")
    table.add_row("compiler", escape(info["compiler"] or "none"))
    table.add_row("version", escape(info["version"]))
    console.print(table)
    return 0
