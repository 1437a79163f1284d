"""Invar's functions in the place of mlx.core.fast's, in this process."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from . import _kernels
from ._mlx import is_traced
from ._mlx_compose import as_mlx
from .core import fast


class _Kernel(_kernels.Kernel):
    """A kernel whose outputs are MLX's arrays, whatever its inputs are."""

    __slots__ = ()

    def __call__(self, *arrays: Any, **keywords: Any) -> Any:
        outputs = super().__call__(*arrays, **keywords)
        return [as_mlx(y) for y in outputs] if isinstance(outputs, list) else as_mlx(outputs)


def _for_mlx(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def create(*arguments: Any, **keywords: Any) -> Any:
        made = make(*arguments, **keywords)
        return _Kernel(made._operation, made._handle, made.name, made.input_names, made.output_names, made._vjp)

    return create


metal_kernel, cuda_kernel = _for_mlx(_kernels.metal_kernel), _for_mlx(_kernels.cuda_kernel)
precompiled_cuda_kernel = _kernels.precompiled_cuda_kernel

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "rms_norm": fast.rms_norm,
    "layer_norm": fast.layer_norm,
    "rope": fast.rope,
    "scaled_dot_product_attention": fast.scaled_dot_product_attention,
    "metal_kernel": metal_kernel,
    "cuda_kernel": cuda_kernel,
    "precompiled_cuda_kernel": precompiled_cuda_kernel,
}

_replaced: dict[tuple[Any, str], Any] = {}
_turned_compilation_off = False  # by install(), so that uninstall() turns it on


def _replace(module: Any, name: str, function: Any) -> None:
    _replaced.setdefault((module, name), getattr(module, name, None))
    setattr(module, name, function)


def _compiles() -> bool:
    """Whether mx.compile compiles now. MLX does not tell, but what it compiles it traces."""
    found = []
    mx.compile(lambda x: found.append(is_traced(x)) or x)(mx.array(0))
    return found[0]


def install(metal: bool = False) -> None:
    """Replace mlx.core.fast's functions by invar's, in this process; uninstall() puts them back.

    metal: mx.metal.is_available() says True too, so that code with a Metal kernel of its own runs it, here on the CPU. So that it
    does inside mx.compile as well, compilation is turned off (mx.disable_compile): such functions then run as written.

    A name that was imported before ("from mlx.core.fast import rope") stays MLX's, and so, unless metal is True, does a function
    that MLX has compiled.
    """
    global _turned_compilation_off
    if not isinstance(metal, bool):
        raise TypeError(f"install: metal: expected True or False, got {type(metal).__name__}")
    uninstall()
    for name, function in _FUNCTIONS.items():
        _replace(mx.fast, name, function)
    if metal:
        _replace(mx.metal, "is_available", lambda: True)
        _turned_compilation_off = _compiles()
        mx.disable_compile()


def uninstall() -> None:
    """Put back what install() replaced; without it, do nothing."""
    global _turned_compilation_off
    for (module, name), function in _replaced.items():
        if function is None:
            delattr(module, name)
        else:
            setattr(module, name, function)
    _replaced.clear()
    if _turned_compilation_off:
        mx.enable_compile()
    _turned_compilation_off = False
