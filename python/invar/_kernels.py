"""Custom kernels: the body of a GPU kernel, in Metal Shading Language or CUDA C, compiled for where its arrays are and run there.

docs/custom-kernels.md tells what is predefined, what is refused, and what check mode finds.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from . import _ext
from ._dtypes import as_numpy_dtype
from ._ext import KernelCheckError
from ._kernel_vjp import is_mlx, run_jax, run_mlx, run_torch, transformed

__all__ = ["Kernel", "KernelReport", "cuda_kernel", "metal_kernel", "precompiled_cuda_kernel"]

_METAL, _CUDA, _PRECOMPILED = 1, 2, 3
_MATH_MODES = {"safe": 0, "relaxed": 1, "fast": 2}
_TARGETS = {"cpu": 1, "cuda": 2}

# DLPack's code · 256 + bits.
_CODES = {
    np.dtype(name): code * 256 + bits
    for code, names in (
        (0, (("int8", 8), ("int16", 16), ("int32", 32), ("int64", 64))),
        (1, (("uint8", 8), ("uint16", 16), ("uint32", 32), ("uint64", 64))),
        (2, (("float16", 16), ("float32", 32), ("float64", 64))),
        (4, ((ml_dtypes.bfloat16, 16),)),
        (5, (("complex64", 64),)),
        (6, (("bool", 8),)),
    )
    for name, bits in names
}


def dtype_code(dtype: Any, operation: str) -> int:
    """The number by which the C extension knows an output's type. Raises ValueError or TypeError where there is none."""
    place = f"{operation}: output_dtypes: "
    if dtype is None:  # NumPy takes None for float64
        raise TypeError(f"{place}expected an element type or its name, got None")
    try:
        found = as_numpy_dtype(dtype)
    except (ValueError, TypeError) as error:
        raise type(error)(place + str(error).removeprefix("dtype: ")) from None
    code = _CODES.get(found)
    if code is None:
        raise ValueError(f"{place}expected a real type, bool or complex64, got {found}")
    return code


@dataclass(frozen=True)
class KernelReport:
    """One defect that check mode found. `thread`, `group` and `other_thread` are positions (x, y, z), or None."""

    kind: str
    text: str
    file: str
    line: int
    thread: tuple[int, int, int] | None
    group: tuple[int, int, int] | None
    array: str
    index: int
    other_line: int
    other_thread: tuple[int, int, int] | None

    def __str__(self) -> str:
        return self.text


class Kernel:
    """A kernel that metal_kernel or cuda_kernel made.

    Called with keywords alone it takes MLX's arguments and returns a list of outputs:

        kernel(inputs=[x], output_shapes=[x.shape], output_dtypes=[x.dtype], grid=(x.size, 1, 1), threadgroup=(256, 1, 1))

    Called with arrays by position it runs one thread for each element of their broadcast shape, each array expanded to
    that shape; outputs have that shape and the arrays' promoted type, and a single output is returned itself:

        kernel(a, b)
    """

    __slots__ = ("__weakref__", "_handle", "_operation", "_vjp", "input_names", "name", "output_names")

    def __init__(self, operation: str, handle: Any, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...],
                 vjp: Callable[..., Any] | None) -> None:
        self._operation, self._handle = operation, handle
        self.name, self.input_names, self.output_names = name, inputs, outputs
        self._vjp: Callable[..., Any] | None = None
        if vjp is not None:
            self.vjp(vjp)

    def __repr__(self) -> str:
        return f"<{self._operation} {self.name}({', '.join(self.input_names)}) -> {', '.join(self.output_names)}>"

    def __call__(
        self,
        *arrays: Any,
        inputs: Sequence[Any] | None = None,
        output_shapes: Sequence[Sequence[int]] | None = None,
        output_dtypes: Sequence[Any] | None = None,
        grid: tuple[int, int, int] | None = None,
        threadgroup: tuple[int, int, int] | None = None,
        template: Sequence[tuple[str, Any]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: Any = None,
        check: bool | str | None = None,
    ) -> Any:
        """Run the kernel.

        inputs: one array for each input name, or a Python bool, int or float.
        output_shapes, output_dtypes: one for each output name.
        grid: threads, not groups; threadgroup: threads a group, at most 1024 in all.
        template: (name, value) pairs; a value is a bool, an int or a dtype.
        init_value: what every element of every output is before the kernel starts; left out, outputs start undefined.
        verbose: print the text that is compiled.
        stream: a CUDA stream, for arrays on a GPU instead of their library's current one; ignored for arrays in CPU memory.
        check: True runs the kernel in check mode, "strict" reports equal values stored to one place by several threads
        too; None leaves it to INVAR_KERNEL_CHECK. It runs on the CPU.

        Returns outputs of the first input array's kind (NumPy where there is none). Arrays of torch or CuPy on a GPU run the
        kernel there, beside numbers and arrays of one element in CPU memory; nothing is waited for. Raises ValueError and
        TypeError for wrong arguments before anything is compiled, CompileError with the compiler's words, KernelCheckError
        with all defects (and .reports), RuntimeError for threads that wait for ever.
        """
        short = bool(arrays)
        self._check_form(short, {"inputs": inputs, "output_shapes": output_shapes, "output_dtypes": output_dtypes,
                                 "grid": grid, "threadgroup": threadgroup})
        if short:
            inputs = arrays

        def run(given: Sequence[Any]) -> list[Any]:
            if verbose:
                print(_ext.kernel_generate(self._handle, 0, given, output_shapes, output_dtypes, template, check))
            try:
                if short:
                    return _ext.kernel_elementwise(self._handle, given, template, init_value, check, stream)
                return _ext.kernel_launch(self._handle, given, output_shapes, output_dtypes, grid, threadgroup, template,
                                          init_value, check, stream, None)
            except KernelCheckError as error:
                error.reports = [KernelReport(*report) for report in error.reports]
                raise

        library = None
        try:
            if isinstance(inputs, (list, tuple)) and is_mlx(inputs):
                outputs = run_mlx(inputs, run, self.gradients, self._operation, ": a kernel's author gives a vjp only")
            else:
                outputs = run(inputs)
        except ValueError:  # arrays that a library differentiates or traces hand out no data
            library = transformed(inputs) if isinstance(inputs, (list, tuple)) else None
            if library is None:
                raise
        if library:
            outputs = self._run_transformed(library, inputs, run, output_shapes, output_dtypes)
        return outputs[0] if short and len(outputs) == 1 else outputs

    def _run_transformed(self, library: str, inputs: Sequence[Any], run: Any, shapes: Any, dtypes: Any) -> list[Any]:
        if library == "torch":
            return run_torch(inputs, run, self.gradients, self._vjp is not None, f"{self._operation}: {self.name}")
        if shapes is None:  # the short form, which without elements gives empty outputs of the promoted type
            empty = [np.empty(0, x.dtype) if hasattr(x, "shape") else x for x in inputs]
            dtypes = [y.dtype for y in _ext.kernel_elementwise(self._handle, empty, None, None, False, None)]
            shapes = [np.broadcast_shapes(*(x.shape for x in inputs if hasattr(x, "shape")))] * len(dtypes)
        return run_jax(inputs, run, self.gradients, shapes, [as_numpy_dtype(dtype) for dtype in dtypes])

    def generate(self, *arrays: Any, inputs: Sequence[Any] | None = None, output_shapes: Any = None, output_dtypes: Any = None,
                 template: Any = None, target: str = "cpu", check: bool | str | None = None) -> str:
        """The text that such a call compiles, less what is the same for every kernel: C++ for "cpu", CUDA for "cuda"."""
        if target not in _TARGETS:
            raise ValueError(f"{self._operation}: target: expected 'cpu' or 'cuda', got {target!r}")
        given = arrays if inputs is None else inputs
        return _ext.kernel_generate(self._handle, _TARGETS[target], given, output_shapes, output_dtypes, template, check)

    def vjp(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give the kernel its gradient; a decorator.

        function(primals, cotangents, outputs) gets three lists (the inputs, the gradient of each output, the outputs) and
        returns one gradient for each input, None for an input that has none.
        """
        if not callable(function):
            raise TypeError(f"{self._operation}: vjp: expected a function, got {type(function).__name__}")
        self._vjp = function
        return function

    def gradients(self, primals: Sequence[Any], cotangents: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        """What the kernel's own vjp returns: one gradient for each input. ValueError where it has none."""
        if self._vjp is None:
            raise ValueError(f"{self._operation}: {self.name}: expected a gradient given by its author (kernel.vjp), got none")
        found = self._vjp(list(primals), list(cotangents), list(outputs))
        found = list(found) if isinstance(found, (list, tuple)) else [found]
        if len(found) != len(self.input_names):
            raise ValueError(f"{self._operation}: {self.name}: vjp: expected {len(self.input_names)} gradients, one for each "
                             f"input, got {len(found)}")
        return found

    def _check_form(self, short: bool, keywords: dict[str, Any]) -> None:
        missing = [name for name, value in keywords.items() if value is None]
        if short and len(missing) < len(keywords):
            raise TypeError(f"{self._operation}: arrays by position: expected no inputs, output_shapes, output_dtypes, "
                            "grid or threadgroup beside them")
        if missing and not short:
            raise TypeError(f"{self._operation}: expected arrays by position, or the keywords inputs, output_shapes, "
                            f"output_dtypes, grid and threadgroup, got no {', '.join(missing)}")


def metal_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    atomic_outputs: bool = False,
    compile_options: dict[str, Any] | None = None,
    *,
    vjp: Callable[..., Any] | None = None,
) -> Kernel:
    """A kernel from the body of a Metal function.

    name: an identifier, which may begin with a digit; messages call the text <name>.metal.
    input_names, output_names: the names that the body has for its arrays; at least one output.
    source: the body. header: what stands before the function.
    ensure_row_contiguous: inputs that are not row-contiguous are copied before the kernel runs.
    atomic_outputs: the outputs are atomic<T>.
    compile_options: {"math_mode": "safe" | "relaxed" | "fast"}; safe where it is left out.
    vjp: the kernel's gradient, as Kernel.vjp takes it.

    Raises ValueError for names, options, and constructs that cannot be translated (by name and line).
    """
    return _create("metal_kernel", _METAL, name, input_names, output_names, source, header, ensure_row_contiguous,
                   atomic_outputs, _math_mode(compile_options), 0, vjp)


def cuda_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    shared_memory: int = 0,
    atomic_outputs: bool = False,
    *,
    vjp: Callable[..., Any] | None = None,
) -> Kernel:
    """A kernel from the body of a CUDA function.

    shared_memory: bytes behind `extern __shared__`. atomic_outputs changes nothing: CUDA's atomics take any memory. A bool
    in shared_memory's place is atomic_outputs, which is the seventh argument in the short form. The rest is as in
    metal_kernel; arithmetic is always safe.
    """
    if isinstance(shared_memory, bool):
        shared_memory, atomic_outputs = 0, shared_memory
    return _create("cuda_kernel", _CUDA, name, input_names, output_names, source, header, ensure_row_contiguous,
                   atomic_outputs, 0, shared_memory, vjp)


def precompiled_cuda_kernel(
    *,
    name: str,
    compiled_source: bytes | str,
    inputs: Sequence[Any],
    output_shapes: Sequence[Sequence[int]],
    output_dtypes: Sequence[Any],
    scalars: Sequence[Any],
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    shared_memory: int = 0,
    init_value: float | None = None,
    ensure_row_contiguous: bool = False,
    stream: Any = None,
) -> list[Any]:
    """Run a PTX or cubin on an NVIDIA GPU, where the inputs are.

    name: the function's name in compiled_source. Its parameters are pointers to the inputs, then to the outputs, then the
    scalars: Python's bools, ints and floats as bool, int and float of C. The rest is as in cuda_kernel.
    Returns the outputs. Raises DeviceError where the inputs are not on a GPU, and where the driver refuses the code.
    """
    operation = "precompiled_cuda_kernel"
    _text(operation, "name", name)
    _expect(isinstance(compiled_source, (str, bytes)), operation, "compiled_source", "PTX text or a cubin's bytes",
            compiled_source)
    for argument, given in (("inputs", inputs), ("output_shapes", output_shapes), ("scalars", scalars)):
        _expect(isinstance(given, (list, tuple)), operation, argument, "a list", given)
    handle = _precompiled(name, compiled_source, len(inputs), len(output_shapes), bool(ensure_row_contiguous),
                          _bytes(operation, shared_memory))
    return _ext.kernel_launch(handle, inputs, output_shapes, output_dtypes, grid, threadgroup, None, init_value, False, stream,
                              scalars)


@functools.lru_cache(maxsize=64)
def _precompiled(name: str, image: bytes | str, inputs: int, outputs: int, contiguous: bool, shared_memory: int) -> Any:
    """The same code again is the same kernel."""
    names = (tuple(f"{kind}_{i}" for i in range(count)) for kind, count in (("input", inputs), ("output", outputs)))
    return _ext.kernel_create(_PRECOMPILED, name, *names, None, None, contiguous, False, 0, shared_memory, image)


# ---- creating --------------------------------------------------------------------------------------


def _expect(good: bool, operation: str, argument: str, expected: str, got: Any) -> None:
    if not good:
        raise TypeError(f"{operation}: {argument}: expected {expected}, got {type(got).__name__}")


def _math_mode(options: dict[str, Any] | None) -> int:
    if options is None:
        return 0
    _expect(isinstance(options, dict), "metal_kernel", "compile_options", "a dict", options)
    for option in options:
        if option != "math_mode":
            raise ValueError(f"metal_kernel: compile_options: expected math_mode, got {option!r}")
    mode = options.get("math_mode", "safe")
    if not isinstance(mode, str) or mode not in _MATH_MODES:
        raise ValueError(f"metal_kernel: compile_options: math_mode: expected 'safe', 'relaxed' or 'fast', got {mode!r}")
    return _MATH_MODES[mode]


def _names(operation: str, argument: str, names: Any) -> tuple[str, ...]:
    good = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    _expect(good, operation, argument, "a list of strings", names)
    for name in names:
        _text(operation, argument, name)
    return tuple(names)


def _text(operation: str, argument: str, text: Any) -> None:
    """Raise for what C cannot be given: another object, a null character, half a surrogate pair."""
    _expect(isinstance(text, str), operation, argument, "a string", text)
    found = re.search("[\0\ud800-\udfff]", text)
    if found:
        what = "a null character" if found[0] == "\0" else "half a surrogate pair"
        raise ValueError(f"{operation}: {argument}: expected text without {what}, got one at {found.start()}")


def _bytes(operation: str, shared_memory: Any) -> int:
    _expect(isinstance(shared_memory, (int, np.integer)), operation, "shared_memory", "an integer", shared_memory)
    if not -(2**63) <= shared_memory < 2**63:
        raise ValueError(f"{operation}: shared_memory: expected an integer of 64 bits, got {shared_memory}")
    return int(shared_memory)


def _create(operation: str, dialect: int, name: str, input_names: Any, output_names: Any, source: str, header: str,
            contiguous: bool, atomic: bool, math_mode: int, shared_memory: int, vjp: Any) -> Kernel:
    for argument, text in (("name", name), ("source", source), ("header", header)):
        _text(operation, argument, text)
    for argument, flag in (("ensure_row_contiguous", contiguous), ("atomic_outputs", atomic)):
        _expect(isinstance(flag, (bool, np.bool_)), operation, argument, "True or False", flag)
    inputs, outputs = _names(operation, "input_names", input_names), _names(operation, "output_names", output_names)
    _offer_fallback_compiler()
    handle = _ext.kernel_create(dialect, name, inputs, outputs, source, header, bool(contiguous), bool(atomic), math_mode,
                                _bytes(operation, shared_memory), None)
    return Kernel(operation, handle, name, inputs, outputs, vjp)


def cache_info() -> dict[str, Any]:
    """Folder, reason, entries, bytes and limit of the cache; the compiler and its version."""
    _offer_fallback_compiler()
    return _ext.kernel_cache_info()


_fallback_offered = False


def _offer_fallback_compiler() -> None:
    """Name the ziglang wheel's compiler, where it is installed, for machines that have none of their own."""
    global _fallback_offered
    if _fallback_offered:
        return
    _fallback_offered = True
    found = importlib.util.find_spec("ziglang")
    for folder in (found.submodule_search_locations or ()) if found else ():
        program = os.path.join(folder, "zig")
        if os.access(program, os.X_OK):
            _ext.kernel_fallback_compiler((program, "c++"))
            return
