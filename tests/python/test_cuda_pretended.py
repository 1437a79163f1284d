"""The package's side of a call on a GPU, with arrays and a driver that only pretend: pretended_gpu.py says how."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import invar
import pretended_gpu
from invar import _cuda
from invar.core import fast

ROOT = Path(__file__).resolve().parents[2]
CHECKS = [name for name in vars(pretended_gpu) if name.startswith("check_")]
linux = pytest.mark.skipif(sys.platform != "linux", reason="the loader finds a pretended driver by LD_LIBRARY_PATH on Linux alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With libcuda.so.1, which is none, and a compiler that compiles nothing."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("there is no C compiler to make the pretended driver with")
    path = tmp_path_factory.mktemp("driver")
    for source, name in (("cuda.c", "libcuda.so.1"), ("nvrtc.c", "nvrtc.so")):
        subprocess.run([compiler, "-std=gnu11", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", f"-I{ROOT / 'src'}",
                        f"-I{ROOT / 'include'}", f"-Wl,-soname,{name}", str(ROOT / "tests/fake" / source), "-o", str(path / name)],
                       check=True)
    return path


@linux
@pytest.mark.parametrize("check", CHECKS)
def test_pretended(check, folder, tmp_path):
    environment = {**os.environ, "INVAR_NVRTC": str(folder / "nvrtc.so"), "INVAR_CACHE_DIR": str(tmp_path)}
    environment["LD_LIBRARY_PATH"] = str(folder) + os.pathsep + os.environ.get("LD_LIBRARY_PATH", "")
    if check == "check_no_driver":
        if _driver():
            pytest.skip("there is a driver")
        environment = dict(os.environ)
    done = subprocess.run([sys.executable, pretended_gpu.__file__, check], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _driver():
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


@pytest.mark.parametrize("package", ["other", "jaxlib", "mlx.core"])
@pytest.mark.parametrize("device", [2, 13])
def test_another_librarys_array_is_refused_unread(package, device):
    if package == "mlx.core":
        pytest.importorskip(package)  # whose arrays go through functions of its own

    class Array:
        __module__ = package

        def __dlpack_device__(self):
            return (device, 0)

        def __dlpack__(self, **keywords):
            raise AssertionError("exported")

    with pytest.raises(invar.DeviceError, match=r"^rms_norm: x: expected .* on CUDA device 0: pass torch\.from_dlpack\(array\)$"):
        fast.rms_norm(Array())


@pytest.mark.parametrize("wrong", ["cuda", b"", 1.5, [], {}])
def test_wrong_streams_are_refused_in_cpu_memory_too(wrong):
    x = [1.0, 2.0]
    with pytest.raises(TypeError, match="rms_norm: stream: expected a stream or None, got "):
        fast.rms_norm(x, stream=wrong)
    fast.rms_norm(x, stream=object())  # no stream is needed, so any is taken
    fast.rms_norm(x, stream=-1)


class NVML:
    """The functions that are called of it, for two GPUs, one of which it says nothing about."""
    def nvmlInit_v2(self):
        return 0

    nvmlShutdown = nvmlInit_v2

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        handle._obj.value = index + 1
        return 0

    def nvmlDeviceGetName(self, handle, name, size):
        name.value = b"NVIDIA H100 80GB HBM3"
        return handle.value - 1

    def nvmlDeviceGetCudaComputeCapability(self, handle, major, minor):
        major._obj.value, minor._obj.value = 9, 0
        return 0


def test_info_tells_of_gpus(monkeypatch):
    libraries = {"libcuda.so.1": object(), "libnvidia-ml.so.1": NVML()}

    def load(name):
        if name not in libraries:
            raise OSError(f"{name}: cannot open shared object file")
        return libraries[name]

    monkeypatch.setattr(_cuda.ctypes, "CDLL", load)
    assert invar.info()["gpus"] == [{"name": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0"}]
    assert invar.info()["gpus_reason"] == ""
    del libraries["libnvidia-ml.so.1"]
    monkeypatch.setattr(_cuda, "_from_files", lambda: [])
    assert invar.info()["gpus_reason"] == "the NVIDIA driver shows no GPU"
    del libraries["libcuda.so.1"]
    assert invar.info()["gpus"] == [] and invar.info()["gpus_reason"].startswith("there is no NVIDIA driver: libcuda.so.1")
