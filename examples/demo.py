"""What make demo runs: what was chosen for this machine, the documentation's examples, and a real sentence encoder."""

import runpy
import sys
from pathlib import Path

import invar
import numpy as np
from minilm import Encoder, Float64, Invar
from rich.console import Console
from rich.table import Table

SENTENCES = (
    "A man is playing a guitar on the street.",
    "Someone makes music outdoors.",
    "The recipe needs two eggs and a cup of flour.",
    "Whisk the eggs before you add the sugar.",
    "The train to Vienna leaves at noon.",
    "When does the railway service depart?",
)
EXAMPLES = ("rms_norm", "layer_norm", "rope", "scaled_dot_product_attention", "metal_kernel", "cuda_kernel")
# float32 has a unit of 6e-8; six layers of sums over 384 to 1536 terms keep an embedding within some 100 of them.
TOLERANCE = 5e-6

console = Console(width=110)


def machine():
    table = Table(title=f"Invar {invar.__version__} on this machine", show_header=False)
    for key, value in invar.info().items():
        table.add_row(key, str(value))
    console.print(table)


def examples():
    for name in EXAMPLES:
        console.print(f"[bold]examples/{name}.py")
        runpy.run_path(str(Path(__file__).with_name(f"{name}.py")))


def encoder():
    model = Encoder(Invar)
    model(SENTENCES)
    model.seconds.clear()
    vectors = model(SENTENCES)
    expected = Encoder(Float64)(SENTENCES)
    table = Table("similarity (cosine)", *(str(i + 1) for i in range(len(SENTENCES))), title="all-MiniLM-L6-v2")
    for i, row in enumerate(vectors @ vectors.T):
        table.add_row(f"{i + 1} {SENTENCES[i]}", *(f"{value:.2f}" for value in row))
    console.print(table)
    times = Table("part", "ms", title="One padded batch")
    for part, seconds in sorted(model.seconds.items(), key=lambda item: -item[1]):
        times.add_row(part, f"{seconds * 1e3:.2f}")
    console.print(times)
    error = np.abs(vectors - expected).max()
    console.print(f"Largest difference from the model in float64 NumPy: {error:.1e} (allowed: {TOLERANCE:.0e})")
    return error <= TOLERANCE


def main():
    machine()
    examples()
    if not encoder():
        sys.exit("the embeddings differ from float64 by more than float32 explains")


if __name__ == "__main__":
    main()
