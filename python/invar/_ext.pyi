"""Types of the C extension. An array is one of NumPy, torch, JAX, MLX, or anything with DLPack or the buffer protocol."""

from typing import Any, Literal, Sequence, TypeVar, overload

ArrayT = TypeVar("ArrayT")

__version__: str

class CompileError(RuntimeError): ...
class DeviceError(RuntimeError): ...

class KernelCheckError(RuntimeError):
    reports: Sequence[Any]

def context_info() -> dict[str, Any]: ...
def set_num_threads(n: int, /) -> None: ...
def apply(op: str, /, **kwargs: Any) -> Any: ...
def check(op: str, /, **kwargs: Any) -> None: ...
def explain(op: Any, /, *args: Any, **kwargs: Any) -> dict[str, Any]: ...
def rms_norm(
    x: ArrayT, weight: Any | None = None, eps: float = 1e-5, *, out: ArrayT | None = None, stream: Any = None
) -> ArrayT: ...
def rms_norm_vjp(
    dy: Any, x: ArrayT, weight: Any | None = None, eps: float = 1e-5, *, out: Sequence[Any] | None = None, stream: Any = None
) -> tuple[ArrayT, Any | None]: ...
def add_rms_norm(
    x: ArrayT,
    residual: Any,
    weight: Any | None = None,
    eps: float = 1e-5,
    *,
    out: Sequence[Any] | None = None,
    stream: Any = None,
) -> tuple[ArrayT, ArrayT]: ...
def layer_norm(
    x: ArrayT,
    weight: Any | None = None,
    bias: Any | None = None,
    eps: float = 1e-5,
    *,
    out: ArrayT | None = None,
    stream: Any = None,
) -> ArrayT: ...
def layer_norm_vjp(
    dy: Any,
    x: ArrayT,
    weight: Any | None = None,
    bias: Any | None = None,
    eps: float = 1e-5,
    *,
    out: Sequence[Any] | None = None,
    stream: Any = None,
) -> tuple[ArrayT, Any | None, Any | None]: ...
@overload
def rope(
    x: ArrayT,
    dims: int,
    traditional: bool = False,
    base: float | None = 10000,
    scale: float = 1.0,
    offset: Any = 0,
    freqs: Any | None = None,
    *,
    out: ArrayT | None = None,
    stream: Any = None,
) -> ArrayT: ...
@overload
def rope(
    *,
    a: ArrayT,
    dims: int,
    traditional: bool = False,
    base: float | None = 10000,
    scale: float = 1.0,
    offset: Any = 0,
    freqs: Any | None = None,
    out: ArrayT | None = None,
    stream: Any = None,
) -> ArrayT: ...
def rope_vjp(
    dy: ArrayT,
    dims: int,
    traditional: bool = False,
    base: float | None = 10000,
    scale: float = 1.0,
    offset: Any = 0,
    freqs: Any | None = None,
    *,
    out: ArrayT | None = None,
    stream: Any = None,
) -> ArrayT: ...
@overload
def scaled_dot_product_attention(
    q: ArrayT,
    k: Any,
    v: Any,
    scale: float | None = None,
    mask: Any | None = None,
    *,
    sinks: Any | None = None,
    window: tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
    kv_lengths: Any | None = None,
    return_lse: Literal[False] = False,
    force_fused: bool = False,
    out: ArrayT | None = None,
    stream: Any = None,
) -> ArrayT: ...
@overload
def scaled_dot_product_attention(
    q: ArrayT,
    k: Any,
    v: Any,
    scale: float | None = None,
    mask: Any | None = None,
    *,
    sinks: Any | None = None,
    window: tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
    kv_lengths: Any | None = None,
    return_lse: Literal[True],
    force_fused: bool = False,
    out: Sequence[Any] | None = None,
    stream: Any = None,
) -> tuple[ArrayT, ArrayT]: ...
@overload
def scaled_dot_product_attention(
    *,
    queries: ArrayT,
    keys: Any,
    values: Any,
    scale: float | None = None,
    mask: Any | None = None,
    sinks: Any | None = None,
    window: tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
    kv_lengths: Any | None = None,
    return_lse: bool = False,
    force_fused: bool = False,
    out: Any | None = None,
    stream: Any = None,
) -> Any: ...
def scaled_dot_product_attention_vjp(
    dout: Any,
    q: ArrayT,
    k: Any,
    v: Any,
    out: Any,
    lse: Any,
    scale: float | None = None,
    mask: Any | None = None,
    *,
    sinks: Any | None = None,
    window: tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
    kv_lengths: Any | None = None,
    dlse: Any | None = None,
    mask_grad: bool = False,
    force_fused: bool = False,
    gradients: Sequence[Any] | None = None,
    stream: Any = None,
) -> tuple[ArrayT, Any, Any, Any | None, Any | None]: ...

# The functions that invar._kernels stands on, by position only.
def kernel_create(
    dialect: int,
    name: str,
    input_names: tuple[str, ...],
    output_names: tuple[str, ...],
    source: str | None,
    header: str | None,
    ensure_row_contiguous: bool,
    atomic_outputs: bool,
    math_mode: int,
    shared_memory: int,
    image: str | bytes | None,
    /,
) -> Any: ...
def kernel_launch(
    kernel: Any,
    inputs: Sequence[Any],
    output_shapes: Sequence[Sequence[int]],
    output_dtypes: Sequence[Any],
    grid: Sequence[int],
    threadgroup: Sequence[int],
    template: Sequence[tuple[str, Any]] | None,
    init_value: float | None,
    check: bool | str | None,
    stream: Any,
    scalars: Sequence[float] | None,
    /,
) -> list[Any]: ...
def kernel_elementwise(
    kernel: Any,
    inputs: Sequence[Any],
    template: Sequence[tuple[str, Any]] | None,
    init_value: float | None,
    check: bool | str | None,
    stream: Any,
    /,
) -> list[Any]: ...
def kernel_generate(
    kernel: Any,
    target: int,
    inputs: Sequence[Any],
    output_shapes: Sequence[Sequence[int]] | None,
    output_dtypes: Sequence[Any] | None,
    template: Sequence[tuple[str, Any]] | None,
    check: bool | str | None,
    /,
) -> str: ...
def kernel_cache_info() -> dict[str, Any]: ...
def kernel_cache_clear() -> None: ...
def kernel_fallback_compiler(words: tuple[str, ...], /) -> None: ...
