"""Arrays on GPUs, where a library has no table of C functions for it: its streams, its memory, and which GPUs there are."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path
from typing import Any

from ._nvrtc import prepare as prepare

_NVML_NAME_BYTES = 96


def _library(array: Any) -> Any:
    """torch or cupy, whose array it is, or one of a class derived from its own."""
    for base in type(array).__mro__:
        root = base.__module__.partition(".")[0]
        if root in ("torch", "cupy"):
            return sys.modules[root]
    raise TypeError(f"{type(array).__name__} is no array of torch or CuPy: leave stream out, or make its stream the current one")


def current_stream(array: Any, device: int) -> int:
    """The address of the stream that the array's library works on there."""
    library = _library(array)
    if library.__name__ == "torch":
        return library.cuda.current_stream(device).cuda_stream
    with library.cuda.Device(device):
        return library.cuda.get_current_stream().ptr


def empty(array: Any, shape: tuple[int, ...], dtype: str, device: int, stream: int) -> Any:
    """A new array of the library's own, in memory that belongs to that stream."""
    library = _library(array)
    if library.__name__ == "torch":
        with library.cuda.stream(library.cuda.ExternalStream(stream, device)):
            return library.empty(shape, dtype=getattr(library, dtype), device=f"cuda:{device}")
    if dtype == "bfloat16":
        from ml_dtypes import bfloat16 as dtype
    with library.cuda.Device(device):
        current = library.cuda.get_current_stream().ptr == stream
        with contextlib.nullcontext() if current else library.cuda.ExternalStream(stream):
            return library.empty(shape, dtype)


def gpus() -> tuple[list[dict[str, str]], str]:
    """The GPUs that NVIDIA's driver has, or why there are none. CUDA is not started, which a process that forks later must not
    do: NVML, the driver's other library, tells, and what it does not, the driver's files in /proc."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return [], f"there is no NVIDIA driver: {error}"
    found = _from_nvml() or _from_files()
    return found, "" if found else "the NVIDIA driver shows no GPU"


def _from_nvml() -> list[dict[str, str]]:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if nvml.nvmlInit_v2():
        return []
    count = ctypes.c_uint(0)
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    found = [_describe(nvml, index) for index in range(count.value)]
    nvml.nvmlShutdown()
    return [gpu for gpu in found if gpu]


def _describe(nvml: Any, index: int) -> dict[str, str] | None:
    handle, name = ctypes.c_void_p(), ctypes.create_string_buffer(_NVML_NAME_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    if (nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) or
            nvml.nvmlDeviceGetName(handle, name, _NVML_NAME_BYTES) or
            nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor))):
        return None
    return {"name": name.value.decode(errors="replace"), "compute_capability": f"{major.value}.{minor.value}"}


def _from_files() -> list[dict[str, str]]:
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for file in files for line in file.read_text().splitlines() if line.startswith("Model:")]
    return [{"name": line.removeprefix("Model:").strip(), "compute_capability": ""} for line in lines]
