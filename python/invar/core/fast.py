"""mlx.core.fast's operations: norms, rotary embedding and attention, with their gradients.

Every function takes arrays of NumPy, torch, JAX, MLX or any library with DLPack or the buffer protocol, reads them in
place, and returns the kind of array that it was given, at once. MLX may differentiate, vectorise and compile them on its arrays
(invar.mlx); for torch and JAX, invar.torch and invar.jax have the functions to do that with. Arrays of torch and CuPy on a GPU are
computed there, on their library's current stream; nothing waits for the results. explain(function, ...) tells what a call would do.
metal_kernel and cuda_kernel make functions of the bodies of GPU kernels.
"""

from .._ext import (
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
from .._kernels import (
    cuda_kernel as cuda_kernel,
    metal_kernel as metal_kernel,
    precompiled_cuda_kernel as precompiled_cuda_kernel,
)

__all__ = [
    "add_rms_norm",
    "cuda_kernel",
    "explain",
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
]
