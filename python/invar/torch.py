"""invar.core.fast for torch's tensors, differentiable: under autograd, torch.func, torch.vmap, torch.compile and torch.export.

The functions have the meaning, types, errors and bits of invar.core.fast's, on the CPU and on NVIDIA GPUs, and return new tensors.
Each operation and its gradient are operators of torch.library ("invar::rms_norm" and "invar::rms_norm_vjp"), which torch traces
as one step. rope has derivatives of every order; a second derivative of the others, a derivative for freqs and forward-mode
differentiation are errors. vmap runs one call after the other. Needs torch: pip install torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("invar.torch: expected torch to be installed (pip install torch), found none") from error

from .core import fast

__all__ = ["add_rms_norm", "layer_norm", "rms_norm", "rope", "scaled_dot_product_attention"]


# ---- operators --------------------------------------------------------------------------------------

Gradients = Callable[[list[Any], list[Any], Sequence[Any], Sequence[bool]], Sequence[Any]]

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _nothing(like: torch.Tensor) -> torch.Tensor:
    """For None, which an operator's results cannot be."""
    return like.new_empty(0)


class _Operator:
    """run on tensors with values; where torch traces, a step whose results have the shapes and types of fake's."""

    def __init__(self, name: str, schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> None:
        self.name, self._run = name, run
        torch.library.define(f"invar::{name}", schema, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.impl(f"invar::{name}", ("cpu", "cuda"))(self._run_detached)
        torch.library.register_fake(f"invar::{name}")(fake)
        self._step = getattr(torch.ops.invar, name).default
        self.gradients: Gradients | None = None
        self.kept_inputs, self.kept_outputs = slice(None), slice(0)

    def differentiate(self, gradients: Gradients, inputs: slice = slice(None), outputs: slice = slice(0)) -> None:
        """gradients(inputs, outputs, cotangents, needed) are those of the first inputs; only these tensors are kept for it."""
        self.gradients, self.kept_inputs, self.kept_outputs = gradients, inputs, outputs

    def _run_detached(self, *arguments: Any) -> Any:
        plain = [x.detach() if isinstance(x, torch.Tensor) and x.requires_grad else x for x in arguments]
        results = self._run(*plain)
        if not isinstance(results, tuple) or all(y is not None for y in results):
            return results
        return tuple(_nothing(plain[0]) if y is None else y for y in results)

    def __call__(self, *arguments: Any) -> Any:
        traced = torch.compiler.is_compiling() or any(isinstance(x, torch.Tensor) and type(x) not in _PLAIN for x in arguments)
        return self._step(*arguments) if traced else self._run_detached(*arguments)


def _empty(like: torch.Tensor, shape: Sequence[Any], *others: torch.Tensor | None) -> torch.Tensor:
    dtype = like.dtype
    for x in others:
        dtype = dtype if x is None else torch.promote_types(dtype, x.dtype)
    return like.new_empty(tuple(shape), dtype=dtype)


def _gradients_of(*arguments: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    like = next(x for x in arguments if x is not None)
    return tuple(_nothing(like) if x is None else x.new_empty(x.shape) for x in arguments)


_rms_norm = _Operator(
    "rms_norm", "(Tensor x, Tensor? weight, float eps) -> Tensor",
    fast.rms_norm, lambda x, weight, eps: _empty(x, x.shape, weight),
)
_rms_norm_vjp = _Operator(
    "rms_norm_vjp", "(Tensor dy, Tensor x, Tensor? weight, float eps) -> (Tensor, Tensor)",
    fast.rms_norm_vjp, lambda dy, x, weight, eps: _gradients_of(x, weight),
)
_add_rms_norm = _Operator(
    "add_rms_norm", "(Tensor x, Tensor residual, Tensor? weight, float eps) -> (Tensor, Tensor)",
    fast.add_rms_norm,
    lambda x, residual, weight, eps: (_empty(x, x.shape, residual, weight), _empty(x, x.shape, residual)),
)
_layer_norm = _Operator(
    "layer_norm", "(Tensor x, Tensor? weight, Tensor? bias, float eps) -> Tensor",
    fast.layer_norm, lambda x, weight, bias, eps: _empty(x, x.shape, weight, bias),
)
_layer_norm_vjp = _Operator(
    "layer_norm_vjp", "(Tensor dy, Tensor x, Tensor? weight, Tensor? bias, float eps) -> (Tensor, Tensor, Tensor)",
    fast.layer_norm_vjp, lambda dy, x, weight, bias, eps: _gradients_of(x, weight, bias),
)


def _run_rope(x: torch.Tensor, *arguments: Any) -> torch.Tensor:
    *settings, offset, offsets, freqs, inverse = arguments
    turn = fast.rope_vjp if inverse else fast.rope
    return turn(x, *settings, offset if offsets is None else offsets, freqs)


_rope = _Operator(
    "rope",
    "(Tensor x, int dims, bool traditional, float? base, float scale, SymInt offset, Tensor? offsets, Tensor? freqs, bool inverse)"
    " -> Tensor",
    _run_rope, lambda x, *_: _empty(x, x.shape),
)

# What attention's operators end with: scale, causal, then the keywords.
_OPTIONS = "float? scale, bool causal, SymInt? left, SymInt? right, float? softcap"


def _options(scale: Any, causal: bool, left: Any, right: Any, softcap: Any, mask: Any) -> dict[str, Any]:
    return dict(scale=scale, mask="causal" if causal else mask, window=(left, right), softcap=softcap)


def _run_attention(q: Any, k: Any, v: Any, mask: Any, sinks: Any, kv_lengths: Any, *options: Any) -> tuple[Any, Any]:
    return fast.scaled_dot_product_attention(q, k, v, sinks=sinks, kv_lengths=kv_lengths, return_lse=True,
                                             **_options(*options, mask))


def _fake_attention(q: Any, k: Any, v: Any, *_: Any) -> tuple[Any, Any]:
    out = _empty(q, (*q.shape[:-1], v.shape[-1]), k, v)
    return out, q.new_empty(q.shape[:-1], dtype=torch.float64 if out.dtype == torch.float64 else torch.float32)


def _run_attention_vjp(dout: Any, dlse: Any, out: Any, lse: Any, mask_grad: bool, q: Any, k: Any, v: Any, mask: Any, sinks: Any,
                       kv_lengths: Any, *options: Any) -> tuple[Any, ...]:
    gradients = fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse, sinks=sinks, kv_lengths=kv_lengths, dlse=dlse,
                                                      mask_grad=mask_grad, **_options(*options, mask))
    dq, dk, dv, dsinks, dmask = gradients
    return dq, dk, dv, dmask, dsinks


def _fake_attention_vjp(dout: Any, dlse: Any, out: Any, lse: Any, mask_grad: bool, q: Any, k: Any, v: Any, mask: Any, sinks: Any,
                        *_: Any) -> tuple[Any, ...]:
    return _gradients_of(q, k, v, mask if mask_grad else None, sinks)


_attention = _Operator(
    "attention", f"(Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor? sinks, Tensor? kv_lengths, {_OPTIONS}) -> (Tensor, Tensor)",
    _run_attention, _fake_attention,
)
_attention_vjp = _Operator(
    "attention_vjp",
    "(Tensor dout, Tensor dlse, Tensor out, Tensor lse, bool mask_grad, Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor? sinks, "
    f"Tensor? kv_lengths, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _run_attention_vjp, _fake_attention_vjp,
)


# ---- derivatives: operators again -------------------------------------------------------------------


def _add_rms_norm_gradients(inputs: Any, outputs: Any, cotangents: Any, needed: Any) -> Sequence[Any]:
    x, residual, weight, eps = inputs
    dsum, dweight = _call(_rms_norm_vjp, cotangents[0], outputs[0], weight, eps)
    dsum = dsum + cotangents[1]
    return dsum.to(x.dtype), dsum.to(residual.dtype), dweight


def _rope_gradients(inputs: Any, outputs: Any, cotangents: Any, needed: Any) -> Sequence[Any]:
    _, *settings, freqs, inverse = inputs
    if needed[7]:
        raise ValueError("rope: freqs: expected an argument that is not differentiated, got one that is")
    return (_call(_rope, cotangents[0], *settings, freqs, not inverse),)


_rms_norm.differentiate(lambda inputs, outputs, cotangents, needed: _call(_rms_norm_vjp, cotangents[0], *inputs))
_layer_norm.differentiate(lambda inputs, outputs, cotangents, needed: _call(_layer_norm_vjp, cotangents[0], *inputs))
_add_rms_norm.differentiate(_add_rms_norm_gradients, outputs=slice(1, 2))
_rope.differentiate(_rope_gradients, inputs=slice(1, None))
_attention.differentiate(
    lambda inputs, outputs, cotangents, needed: _call(_attention_vjp, *cotangents, *outputs, bool(needed[3]), *inputs),
    outputs=slice(None),
)


def _remember(context: Any, inputs: tuple[Any, ...], output: Any) -> None:
    operator, *arguments = inputs
    context.operator = operator
    kept = range(len(arguments))[operator.kept_inputs]
    context.places = [i for i in kept if isinstance(arguments[i], torch.Tensor)]
    context.arguments = [None if isinstance(x, torch.Tensor) else x for x in arguments]
    outputs = output if isinstance(output, tuple) else (output,)
    context.save_for_backward(*[arguments[i] for i in context.places], *outputs[operator.kept_outputs])


def _backward(context: Any, *cotangents: Any) -> Any:
    if not context.operator.gradients:
        raise NotImplementedError(f"{context.operator.name}: expected a first derivative, got a second one")
    inputs, saved = list(context.arguments), list(context.saved_tensors)
    for i in context.places:
        inputs[i] = saved.pop(0)
    needed = context.needs_input_grad[1:]
    found = context.operator.gradients(inputs, saved, cotangents, needed)
    found = [*found, *[None] * (len(inputs) - len(found))]
    return None, *[y if wanted else None for y, wanted in zip(found, needed, strict=True)]


class _EagerCall(torch.autograd.Function):
    """An operator in autograd's graph. torch.func asks for a context set up apart, which takes four times as long."""

    @staticmethod
    def forward(context: Any, *inputs: Any) -> Any:
        output = inputs[0](*inputs[1:])
        _remember(context, inputs, output)
        return output

    backward = staticmethod(_backward)


class _Call(torch.autograd.Function):
    """An operator in a graph that torch traces, or inside torch.func."""

    @staticmethod
    def forward(operator: Any, *arguments: Any) -> Any:
        return operator(*arguments)

    setup_context = staticmethod(_remember)
    backward = staticmethod(_backward)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], operator: Any, *arguments: Any) -> Any:
        dims = in_dims[1:]
        results = [
            _Call.apply(operator, *[x if d is None else x.select(d, i) for x, d in zip(arguments, dims, strict=True)])
            for i in range(info.batch_size)
        ]
        if isinstance(results[0], tuple):
            return tuple(torch.stack(parts) for parts in zip(*results, strict=True)), (0,) * len(results[0])
        return torch.stack(results), 0


def _distinct(arguments: tuple[Any, ...]) -> list[Any]:
    """torch.compile knows no function that is given one tensor twice, as attention of a tensor to itself is."""
    found: list[Any] = []
    for x in arguments:
        twice = isinstance(x, torch.Tensor) and any(x is y for y in found)
        found.append(x.view_as(x) if twice else x)
    return found


def _call(operator: _Operator, *arguments: Any) -> Any:
    """The operator, in the graph of derivatives where there is one."""
    if torch._C._are_functorch_transforms_active():
        return _Call.apply(operator, *arguments)
    if not isinstance(arguments[0], torch.Tensor):
        raise TypeError(f"{operator.name}: expected a tensor first, got {type(arguments[0]).__name__}")
    if not torch.is_grad_enabled() or not any(isinstance(x, torch.Tensor) and x.requires_grad for x in arguments):
        return operator(*arguments)
    return _Call.apply(operator, *_distinct(arguments)) if torch.compiler.is_compiling() else _EagerCall.apply(operator, *arguments)


# ---- the functions ----------------------------------------------------------------------------------


def rms_norm(x: torch.Tensor, weight: torch.Tensor | None = None, eps: float = 1e-5) -> torch.Tensor:
    """x / sqrt(mean(x², last axis) + eps) · weight. x: (…, D), weight: (D,); the result has x's shape and their promoted type."""
    return _call(_rms_norm, x, weight, eps)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor | None = None, eps: float = 1e-5
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rms_norm(x + residual), x + residual)."""
    return _call(_add_rms_norm, x, residual, weight, eps)


def layer_norm(
    x: torch.Tensor, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None, eps: float = 1e-5
) -> torch.Tensor:
    """(x - mean) / sqrt(variance + eps) · weight + bias over the last axis. x: (…, D), weight and bias: (D,)."""
    return _call(_layer_norm, x, weight, bias, eps)


def rope(
    x: torch.Tensor,
    dims: int,
    traditional: bool = False,
    base: Any = ...,
    scale: float = 1.0,
    offset: int | torch.Tensor = 0,
    freqs: torch.Tensor | None = None,
) -> torch.Tensor:
    """x: (batch, …, T, D), whose first dims features are turned by their position; offset: an int, or a tensor (batch,) of them.

    base is 10000 unless it is given, or freqs, (dims/2,), in its place.
    """
    if base is ...:
        base = 10000.0 if freqs is None else None
    offsets = offset if isinstance(offset, torch.Tensor) else None
    return _call(_rope, x, dims, traditional, base, scale, 0 if offsets is not None else offset, offsets, freqs, False)


def scaled_dot_product_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None = None,
    mask: torch.Tensor | str | None = None,
    *,
    sinks: torch.Tensor | None = None,
    window: tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
    kv_lengths: torch.Tensor | None = None,
    return_lse: bool = False,
) -> Any:
    """softmax(scale · q kᵀ [+ mask]) v: (…, Hq, Tq, Dv), with return_lse also the logarithm of the denominators, (…, Hq, Tq).

    q: (…, Hq, Tq, D), k: (…, Hkv, Tkv, D), v: (…, Hkv, Tkv, Dv), Hq a multiple of Hkv. mask: "causal", booleans (True attends) or
    numbers that are added, broadcast to (…, Hq, Tq, Tkv); the last are differentiated too, as are sinks, (Hq,).
    """
    causal = isinstance(mask, str) and mask == "causal"
    if isinstance(mask, str) and not causal or window is not None and not (isinstance(window, (tuple, list)) and len(window) == 2):
        fast.scaled_dot_product_attention(*(x.detach() for x in (q, k, v)), mask=mask, window=window)  # says what is wrong
    left, right = window or (None, None)
    out, lse = _call(_attention, q, k, v, None if causal else mask, sinks, kv_lengths, scale, causal, left, right, softcap)
    return (out, lse) if return_lse else out
