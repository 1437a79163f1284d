"""Gradients of custom kernels, where a library differentiates: torch.autograd, jax.custom_vjp, mlx.core.custom_function.

Each runs the kernel on plain arrays and hands the library the gradient that the kernel's author gave. A kernel without one
runs all the same, and raises ValueError when it is differentiated; so does a derivative that a vjp does not give.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Run = Callable[[list[Any]], list[Any]]
Gradients = Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], list[Any]]


def transformed(inputs: Sequence[Any]) -> str | None:
    """The library that is differentiating or tracing these inputs, as far as their type can tell; None for plain arrays."""
    for name, is_traced in (("torch", _requires_grad), ("jax", _is_tracer)):
        if name in sys.modules and any(is_traced(sys.modules[name], x) for x in inputs):
            return name
    return None


def _requires_grad(torch: Any, x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.requires_grad


def _is_tracer(jax: Any, x: Any) -> bool:
    return isinstance(x, jax.core.Tracer)


def is_mlx(inputs: Sequence[Any]) -> bool:
    """Whether one of the inputs is an MLX array: nothing tells whether MLX differentiates it."""
    mlx = sys.modules.get("mlx.core")
    return mlx is not None and any(type(x) is mlx.array for x in inputs)


# ---- torch -----------------------------------------------------------------------------------------


def run_torch(inputs: Sequence[Any], run: Run, gradients: Gradients, has_vjp: bool, operation: str) -> list[Any]:
    """Run on detached tensors; autograd calls the kernel's vjp with the tensors that the forward pass had."""
    import torch

    if torch.is_grad_enabled() and not has_vjp:
        raise ValueError(f"{operation}: expected a gradient given by the kernel's author (kernel.vjp) to differentiate it, got "
                         "none: give it one, or pass tensor.detach()")
    detached = [x.detach() if isinstance(x, torch.Tensor) else x for x in inputs]
    if not torch.is_grad_enabled():
        return run(detached)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, *_: Any) -> Any:
            outputs = run(detached)
            context.save_for_backward(*[x for x in inputs if isinstance(x, torch.Tensor)], *outputs)
            return tuple(outputs)

        @staticmethod
        def backward(context: Any, *cotangents: Any) -> Any:
            saved = iter(context.saved_tensors)
            primals = [next(saved) if isinstance(x, torch.Tensor) else x for x in inputs]
            return tuple(gradients(primals, cotangents, list(saved)))

    return list(Function.apply(*inputs))


# ---- JAX -------------------------------------------------------------------------------------------


def run_jax(inputs: Sequence[Any], run: Run, gradients: Gradients, shapes: Sequence[Any], dtypes: Sequence[Any]) -> list[Any]:
    """Run through pure_callback, so that the kernel works under jit, vmap and grad; custom_vjp asks for the gradient."""
    import jax
    import jax.numpy as jnp

    known = [jax.dtypes.canonicalize_dtype(dtype) for dtype in dtypes]  # JAX has 64 bits only where it is told so
    results = tuple(jax.ShapeDtypeStruct(tuple(shape), dtype) for shape, dtype in zip(shapes, known, strict=True))
    traced = [i for i, x in enumerate(inputs) if isinstance(x, (jax.Array, np.ndarray))]

    def complete(arrays: Sequence[Any]) -> list[Any]:
        values = list(inputs)
        for i, x in zip(traced, arrays, strict=True):
            values[i] = x
        return values

    def on_host(*arrays: Any) -> tuple[Any, ...]:
        outputs = run(complete([np.asarray(x) for x in arrays]))
        return tuple(np.asarray(y, dtype) for y, dtype in zip(outputs, known, strict=True))

    def forward(*arrays: Any) -> Any:
        outputs = jax.pure_callback(on_host, results, *arrays, vmap_method="sequential")
        return outputs, (arrays, outputs)

    def backward(saved: Any, cotangents: Any) -> tuple[Any, ...]:
        arrays, outputs = saved
        found = gradients(complete(arrays), cotangents, outputs)
        return tuple(_jax_gradient(jax, jnp, x, found[i]) for i, x in zip(traced, arrays, strict=True))

    function = jax.custom_vjp(lambda *arrays: forward(*arrays)[0])
    function.defvjp(forward, backward)
    return list(function(*[inputs[i] for i in traced]))


def _jax_gradient(jax: Any, jnp: Any, x: Any, gradient: Any) -> Any:
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return np.zeros(x.shape, jax.dtypes.float0)
    return jnp.zeros_like(x) if gradient is None else jnp.asarray(gradient, x.dtype)


# ---- MLX -------------------------------------------------------------------------------------------


def run_mlx(inputs: Sequence[Any], run: Run, gradients: Gradients, operation: str, why: str) -> list[Any]:
    """Run inside mlx.core.custom_function, without which MLX would take the outputs for constants, of gradient zero.

    why ends the sentence of the error that mx.jvp raises.
    """
    import mlx.core as mx

    arrays = [i for i, x in enumerate(inputs) if isinstance(x, mx.array)]

    def complete(values: Any) -> list[Any]:
        values = [values] if isinstance(values, mx.array) else values
        primals = list(inputs)
        for i, x in zip(arrays, values, strict=True):
            primals[i] = x
        return primals

    def forward(*values: Any) -> list[Any]:
        return run(complete(values))

    def backward(values: Any, cotangents: Any, outputs: Any) -> Any:
        found = gradients(complete(values), cotangents, outputs)
        given = [mx.zeros_like(inputs[i]) if found[i] is None else found[i] for i in arrays]
        return given[0] if len(given) == 1 else tuple(given)

    def tangents(*_: Any) -> Any:
        raise ValueError(f"{operation}: expected reverse-mode differentiation, got mx.jvp{why}")

    function = mx.custom_function(forward)
    function.vjp(backward)
    function.jvp(tangents)
    return list(function(*[inputs[i] for i in arrays]))
