"""A corpus of kernels in the style of published ones, each with a twin in NumPy, most in both dialects."""

from . import (
    attention,
    elementwise,
    gather,
    images,
    matrices,
    physics,
    quantised,
    recurrences,
    reductions,
    scans,
    sorting,
)
from .case import Case

CASES: list[Case] = [
    case
    for module in (elementwise, reductions, scans, recurrences, quantised, attention, gather, images, physics, matrices, sorting)
    for case in module.CASES
]
