"""What the tests of custom kernels share: one cache folder that stays between runs, and running a case of the corpus."""

import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("INVAR_CACHE_DIR", str(ROOT / "build" / "kernel-cache"))
sys.path.insert(0, str(ROOT / "tests"))

from invar.core import fast  # noqa: E402


def make(case, dialect):
    """The case's kernel and its inputs."""
    inputs = case.inputs(np.random.default_rng(1))
    options = {"ensure_row_contiguous": case.ensure_row_contiguous, "atomic_outputs": case.atomic_outputs}
    header = case.header
    if dialect == "cuda":
        options["shared_memory"] = case.shared_memory
        header = case.header if case.cuda_header is None else case.cuda_header
    create = fast.cuda_kernel if dialect == "cuda" else fast.metal_kernel
    return create(case.name, list(inputs), list(case.outputs), getattr(case, dialect), header, **options), inputs


def run(case, dialect, check=False):
    """The case's inputs by name, and its outputs."""
    kernel, inputs = make(case, dialect)
    outputs = kernel(inputs=list(inputs.values()), output_shapes=[shape for shape, _ in case.outputs.values()],
                     output_dtypes=[dtype for _, dtype in case.outputs.values()], grid=case.grid, threadgroup=case.threadgroup,
                     template=list(case.template) or None, init_value=case.init_value, check=check)
    return inputs, outputs
