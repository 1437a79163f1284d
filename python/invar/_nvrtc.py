"""CUDA's run-time compiler as pip installs it: PyTorch's wheels, and nvidia-cuda-nvrtc, bring libnvrtc where no loader looks."""

import ctypes
import importlib.util
import os
from pathlib import Path

__all__ = ["find", "prepare"]

_prepared = False


def find():
    """The path of the newest libnvrtc below site-packages/nvidia, or None."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations or [] if spec else []
    found = [path for folder in folders for path in Path(folder).glob("*/lib/libnvrtc.so.*")]
    found = [path for path in found if path.suffix[1:].isdigit()]
    return str(max(found, key=lambda path: int(path.suffix[1:]))) if found else None


def prepare():
    """Loads it, once, before a CUDA device is first used: the library takes the process's own before it asks the loader. Nothing
    where INVAR_NVRTC names another, or where there is none."""
    global _prepared
    if _prepared or os.environ.get("INVAR_NVRTC"):
        return
    _prepared = True
    path = find()
    if path:
        try:
            ctypes.CDLL(path)
        except OSError:
            pass  # a wheel for another machine: the loader may still know one, and its absence is told where it is needed
