"""Where the package looks for CUDA's run-time compiler."""

import ctypes
import sys

import pytest
from invar import _nvrtc


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder that is site-packages, with NVRTC of two versions and what lies beside them."""
    for path in ["cu13/lib/libnvrtc.so.13", "cuda_nvrtc/lib/libnvrtc.so.12", "cu13/lib/libnvrtc-builtins.so.13.0",
                 "cu13/lib/libnvrtc.so.old"]:
        file = tmp_path / "nvidia" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"no library")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name == "nvidia" or name.startswith("nvidia.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(_nvrtc, "_prepared", False)
    monkeypatch.delenv("INVAR_NVRTC", raising=False)
    return tmp_path / "nvidia"


def test_the_newest_is_found(wheels):
    assert _nvrtc.find() == str(wheels / "cu13/lib/libnvrtc.so.13")


def test_none_is_found_where_there_is_none(wheels, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path / "elsewhere")])
    assert _nvrtc.find() is None
    _nvrtc.prepare()


def test_it_is_loaded_once(wheels, monkeypatch):
    loaded = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    _nvrtc.prepare()
    _nvrtc.prepare()
    assert loaded == [str(wheels / "cu13/lib/libnvrtc.so.13")]


def test_a_file_that_is_no_library_is_passed_over(wheels):
    _nvrtc.prepare()


def test_the_users_choice_comes_first(wheels, monkeypatch):
    monkeypatch.setenv("INVAR_NVRTC", "/my/libnvrtc.so")
    monkeypatch.setattr(ctypes, "CDLL", lambda path: pytest.fail("loaded"))
    _nvrtc.prepare()
