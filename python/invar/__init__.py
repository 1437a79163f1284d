"""Invar: fused rms_norm, layer_norm, rope and scaled_dot_product_attention whose bits do not vary.

The operations are in invar.core.fast, under MLX's names; invar.core has the few functions around them that code written
for mlx.core uses. Arrays of NumPy, torch, JAX and MLX go in without copies and come back as the kind that was given.
"""

from __future__ import annotations

from typing import Any

from . import _cuda, _ext
from ._ext import CompileError, DeviceError, KernelCheckError, set_num_threads
from ._kernels import KernelReport, cache_info
from . import core

__all__ = ["CompileError", "DeviceError", "KernelCheckError", "KernelReport", "core", "info", "set_num_threads"]

for _exception in (CompileError, DeviceError, KernelCheckError):
    _exception.__module__ = __name__
KernelCheckError.reports = ()


def info() -> dict[str, Any]:
    """What was chosen for this machine, and why.

    Returns a dict: version; cpu, the instruction set in use; cpu_available, the values INVAR_CPU may take here, and
    cpu_reason; processor; compiler, which built the library; num_threads; caches, their sizes in bytes (0 where unknown);
    kept_bytes, memory kept for the next results; kernels, where compiled custom kernels are kept (folder, or the reason why
    there is none; entries, bytes, limit) and the C++ compiler that was found (compiler, version; empty where there is none);
    gpus, a dict for each that NVIDIA's driver has (name; compute_capability, as in "9.0"), and gpus_reason, why there is none.
    Raises ValueError when an INVAR_* variable cannot be honoured.
    """
    found = _ext.context_info()
    caches = {name: found.pop(f"{name}_bytes") for name in ("l1d", "l2", "l3")}
    gpus, reason = _cuda.gpus()
    return {**found, "caches": caches, "kernels": cache_info(), "gpus": gpus, "gpus_reason": reason}


__version__: str = _ext.__version__
