"""invar.core.fast for MLX's arrays, and in the place of mlx.core.fast.

The functions are right under mx.grad, mx.vjp, mx.jvp and mx.vmap, inside mx.compile, and in derivatives of any order. install()
puts them where mlx.core.fast's are, for code that calls those; uninstall() takes that back. Needs MLX: pip install "mlx[cpu]".
"""

try:
    import mlx.core as _mlx
except ImportError as error:
    raise ImportError('invar.mlx: expected MLX to be installed (pip install "mlx[cpu]"), found no mlx.core') from error

from ._mlx_install import (
    cuda_kernel as cuda_kernel,
    install as install,
    metal_kernel as metal_kernel,
    precompiled_cuda_kernel as precompiled_cuda_kernel,
    uninstall as uninstall,
)
from .core.fast import (
    add_rms_norm as add_rms_norm,
    explain as explain,
    layer_norm as layer_norm,
    layer_norm_vjp as layer_norm_vjp,
    rms_norm as rms_norm,
    rms_norm_vjp as rms_norm_vjp,
    rope as rope,
    rope_vjp as rope_vjp,
    scaled_dot_product_attention as scaled_dot_product_attention,
    scaled_dot_product_attention_vjp as scaled_dot_product_attention_vjp,
)

__all__ = [
    "add_rms_norm",
    "cuda_kernel",
    "explain",
    "install",
    "layer_norm",
    "layer_norm_vjp",
    "metal_kernel",
    "precompiled_cuda_kernel",
    "rms_norm",
    "rms_norm_vjp",
    "rope",
    "rope_vjp",
    "scaled_dot_product_attention",
    "scaled_dot_product_attention_vjp",
    "uninstall",
]
