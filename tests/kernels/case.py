"""What a case of the corpus is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

F32 = np.float32


@dataclass(frozen=True)
class Case:
    """A kernel, its inputs, and what it must give.

    twin gets the inputs by name and returns the outputs in order; it computes in float64 unless the comparison is exact.
    rtol and atol bound |got - twin|, with the arithmetic that explains them in a comment where they are not the default:
    float32 sums of a few hundred terms. Both 0: the same bits.
    """

    name: str
    inputs: Callable[[np.random.Generator], dict[str, Any]]
    outputs: dict[str, tuple[tuple[int, ...], Any]]
    twin: Callable[..., Any]
    grid: tuple[int, int, int]
    threadgroup: tuple[int, int, int]
    metal: str | None = None
    cuda: str | None = None
    header: str = ""
    cuda_header: str | None = None  # where the header of the CUDA kernel is another text
    template: tuple[tuple[str, Any], ...] = ()
    init_value: float | None = None
    atomic_outputs: bool = False
    ensure_row_contiguous: bool = True
    shared_memory: int = 0
    rtol: float = 2e-5
    atol: float = 1e-5
    arrange: Callable[[np.ndarray], np.ndarray] | None = None  # applied to outputs whose order is any order
    metal_defect: str | None = None  # what check mode reports of the Metal kernel: Metal's rules are stricter than CUDA's
    same_bits: bool = True  # both dialects give the same bits; not so where atomics add floats in any order

    @property
    def dialects(self) -> tuple[str, ...]:
        return tuple(name for name in ("metal", "cuda") if getattr(self, name) is not None)


def each(body: str) -> dict[str, str]:
    """A body that needs its thread's number only, for both dialects; `n` is how many threads have work."""
    metal = "uint i = thread_position_in_grid.x;\n"
    cuda = "unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
    return {"metal": metal + body, "cuda": cuda + body}


def normal(*shape: int, scale: float = 1.0) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda random: (scale * random.standard_normal(shape)).astype(np.float32)


def integers(low: int, high: int, *shape: int, dtype: Any = np.int32) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda random: random.integers(low, high, shape).astype(dtype)


def draw(**makers: Any) -> Callable[[np.random.Generator], dict[str, Any]]:
    """Inputs by name: each from a function of the generator, or as it stands."""
    return lambda random: {name: maker(random) if callable(maker) else maker for name, maker in makers.items()}
