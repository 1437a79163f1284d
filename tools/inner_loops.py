"""Counts what an inner loop of a kernel costs, from its disassembly: steadier than any time.

usage: inner_loops.py [--build FOLDER] [--store FILE | --compare FILE]
For every function of the vector kernels (x86-64) it finds the innermost loops that hold at least 8 multiply-adds and prints
instructions, loads, broadcasts, shuffles and spills per multiply-add. --store writes the figures with the compiler's
version; --compare fails where one has risen by more than 3 %, or where a loop spills that did not, and says so when
the compiler is another than the stored one (then nothing is compared).
"""

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

SETS = ("avx2", "avx512", "avx512bf16", "amx")
LEAST = 8  # multiply-adds in a loop worth counting
RISE = 1.03
MULTIPLY_ADD = re.compile(r"vfn?m(add|sub)\d+ps|vdpbf16ps|tdpbf16ps")
SHUFFLE = re.compile(r"v(perm|shuf|unpck|pack|insert|extract|pslldq|alignr)")
MEMORY = re.compile(r"\(([^)]*)\)")


def functions(path):
    """name → [(address, mnemonic, operands)]"""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], check=True, capture_output=True, text=True).stdout
    result, body = {}, None
    for line in text.splitlines():
        head = re.match(r"[0-9a-f]+ <([^>]+)>:$", line)
        if head:
            body = result.setdefault(head[1], [])
            continue
        match = re.match(r"\s*([0-9a-f]+):\s+(\S+)\s*(.*)", line)
        if match and body is not None:
            body.append((int(match[1], 16), match[2], match[3]))
    return result


def innermost_loops(body):
    """Slices of the body between the target of a backward jump and the jump, with no other such slice inside. A loop that
    only prefetches counts as a part of the one around it."""
    place = {address: i for i, (address, _, _) in enumerate(body)}
    spans = set()
    for i, (address, mnemonic, operands) in enumerate(body):
        target = re.match(r"([0-9a-f]+) <", operands)
        if mnemonic.startswith("j") and target and int(target[1], 16) <= address and int(target[1], 16) in place:
            spans.add((place[int(target[1], 16)], i))

    def only_calls_ahead(begin, end):
        mnemonics = [mnemonic for _, mnemonic, _ in body[begin : end + 1]]
        return any(m.startswith("prefetch") for m in mnemonics) and not any(map(MULTIPLY_ADD.match, mnemonics))

    spans = {span for span in spans if not only_calls_ahead(*span)}
    for begin, end in sorted(spans):
        if not any((b, e) != (begin, end) and begin <= b and e <= end for b, e in spans):
            yield body[begin : end + 1]


def count(loop, frame):
    result = Counter(instructions=len(loop))
    for _, mnemonic, operands in loop:
        memory = MEMORY.search(operands)
        result["multiply_adds"] += bool(MULTIPLY_ADD.match(mnemonic))
        result["shuffles"] += bool(SHUFFLE.match(mnemonic))
        result["broadcasts"] += "broadcast" in mnemonic or "{1to" in operands
        if memory and mnemonic[0] == "v" and "mm" in operands:
            stack = memory[1].startswith("%rsp") or (frame and memory[1].startswith("%rbp"))
            result["spills"] += stack
            result["loads"] += not stack and not operands.endswith(memory[0])
    return result


def measure(build):
    figures = {}
    for name in SETS:
        for path in sorted((build / f"CMakeFiles/invar_{name}.dir/src/cpu/kernels").glob("*.o")):
            for function, body in functions(path).items():
                frame = any(m == "mov" and o == "%rsp,%rbp" for _, m, o in body)
                total = Counter()
                for loop in innermost_loops(body):
                    counts = count(loop, frame)
                    if counts["multiply_adds"] >= LEAST:
                        total += counts
                        total["loops"] += 1
                if total:
                    figures[f"{name} {path.name.split('.')[0]} {function}"] = dict(total)
    return figures


def show(figures):
    table = Table("kernel", "loops", "multiply-adds", "instructions each", "loads", "broadcasts", "shuffles", "spills")
    for name, f in figures.items():
        each = (f"{f.get(key, 0) / f['multiply_adds']:.2f}" for key in ("instructions", "loads", "broadcasts", "shuffles"))
        table.add_row(name, str(f["loops"]), str(f["multiply_adds"]), *each, str(f.get("spills", 0)))
    Console(width=150).print(table)


def compare(figures, stored):
    worse = []
    for name, f in figures.items():
        old = stored.get(name)
        if not old:
            continue
        now, then = (x["instructions"] / x["multiply_adds"] for x in (f, old))
        if now > RISE * then:
            worse.append(f"{name}: {then:.3f} instructions a multiply-add became {now:.3f}")
        if f.get("spills", 0) > old.get("spills", 0):
            worse.append(f"{name}: {old.get('spills', 0)} spills in inner loops became {f['spills']}")
    return worse


def compiler(build):
    cache = (build / "CMakeCache.txt").read_text()
    path = re.search(r"CMAKE_C_COMPILER:\w+=(.*)", cache)[1]
    return subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]


def arguments(doc, name, default):
    """The one named, and what is to be done with the figures."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(name, type=Path, default=Path(default))
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--store", type=Path)
    action.add_argument("--compare", type=Path)
    return parser.parse_args()


def store_or_compare(options, version, key, figures, compare, what):
    """Ends the program where they are compared: compare(figures, stored ones) gives a line for each that is worse."""
    if options.store:
        options.store.write_text(json.dumps({"compiler": version, key: figures}, indent=1) + "\n")
    if options.compare:
        stored = json.loads(options.compare.read_text())
        if stored["compiler"] != version:
            print(f"not compared: stored with {stored['compiler']}, built with {version}")
            return
        worse = compare(figures, stored[key])
        print("\n".join(worse) or f"{len(figures)} {what} no worse than stored")
        sys.exit(bool(worse))


def main():
    options = arguments(__doc__, "--build", "build")
    figures = measure(options.build)
    show(figures)
    store_or_compare(options, compiler(options.build), "loops", figures, compare, "kernels")


if __name__ == "__main__":
    main()
