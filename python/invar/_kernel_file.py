"""Kernels in files: a TOML file, or a .metal or .cu file that opens with a comment `/* invar … */` of TOML.

The format is documented in docs/custom-kernels.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import _kernels
from ._dtypes import as_numpy_dtype

_DIALECTS = {"metal": _kernels.metal_kernel, "cuda": _kernels.cuda_kernel}
_ENDINGS = {".metal": "metal", ".cu": "cuda"}
_OPENING = re.compile(r"\s*/\*\s*invar\b(.*?)\*/", re.S)
_TOP = {"dialect", "name", "source", "source_file", "header", "header_file", "ensure_row_contiguous", "atomic_outputs",
        "shared_memory", "math_mode", "grid", "threadgroup", "init_value", "seed", "allow", "template", "inputs",
        "outputs"}
_INPUT = {"shape", "dtype", "value", "data", "file", "random", "low", "high"}
_KINDS = ("out-of-bounds read", "out-of-bounds write", "write to an input", "uninitialised read", "unwritten output", "race",
          "barrier not reached", "schedule-dependent result", "endless loop", "deadlock", "division by zero",
          "division overflow", "out-of-bounds index", "missing return", "trap", "stack overflow")
_OUTPUT = {"shape", "dtype", "expect", "expect_file", "rtol", "atol"}

# What the values of some keys must be; other values are looked at where they go.
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("dialect", "source_file", "header_file", "file", "expect_file"), (lambda x: isinstance(x, str), "a string")),
    **dict.fromkeys(("low", "high", "rtol", "atol"), (lambda x: type(x) in (int, float), "a number")),
    **dict.fromkeys(("grid", "threadgroup", "shape"),
                    (lambda x: isinstance(x, list) and all(type(size) is int and size >= 0 for size in x), "a list of sizes")),
    "seed": (lambda x: type(x) is int and x >= 0, "an integer from 0 on"),
    "random": (lambda x: x in ("normal", "uniform"), "'normal' or 'uniform'"),
}


class KernelFileError(ValueError):
    """What is wrong with a kernel file, in one sentence."""


@dataclass
class KernelFile:
    """A kernel and one call of it."""

    path: Path
    kernel: _kernels.Kernel
    call: dict[str, Any]
    expected: list[tuple[str, np.ndarray, float, float]] = field(default_factory=list)
    allowed: tuple[str, ...] = ()  # kinds of reports that are no defects here

    def run(self, check: bool | str | None) -> list[np.ndarray]:
        return self.kernel(**self.call, check=check)


def load(path: str | Path, seed: int | None = None) -> KernelFile:
    """Read the file, make its kernel and its inputs. Raises KernelFileError, OSError, or what metal_kernel raises."""
    path = Path(path)
    table, source = _read(path)
    dialect = table.get("dialect", _ENDINGS.get(path.suffix))
    if dialect not in _DIALECTS:
        raise KernelFileError(f"{path}: dialect: expected 'metal' or 'cuda', got {dialect!r}")
    inputs = _section(table, "inputs", path)
    outputs = _section(table, "outputs", path)
    named = ("ensure_row_contiguous", "atomic_outputs", "shared_memory")
    options: dict[str, Any] = {key: table[key] for key in named if key in table}
    if "math_mode" in table:
        options["compile_options"] = {"math_mode": table["math_mode"]}
    try:
        kernel = _DIALECTS[dialect](table.get("name", _identifier(path.stem)), list(inputs), list(outputs), source,
                                    _text(table, "header", path) or "", **options)
    except TypeError as error:
        raise KernelFileError(f"{path}: {error}") from None
    random = np.random.default_rng(table.get("seed", 0) if seed is None else seed)
    for name, entry in outputs.items():
        _known(entry, _OUTPUT, f"{path}: {name}: ")
    arrays = [_input(path, name, entry, random) for name, entry in inputs.items()]
    shapes = [_shape(path, name, entry) for name, entry in outputs.items()]
    dtypes = [_dtype(path, name, entry) for name, entry in outputs.items()]
    grid = table.get("grid", [max(int(np.prod(shapes[0])), 1), 1, 1] if shapes else [1, 1, 1])
    call = {
        "inputs": arrays, "output_shapes": shapes, "output_dtypes": dtypes, "grid": tuple(grid),
        "threadgroup": tuple(table.get("threadgroup", [min([256, *grid[:1]]), 1, 1])),
        "template": list(_section(table, "template", path, plain=True).items()) or None,
        "init_value": table.get("init_value"),
    }
    return KernelFile(path, kernel, call, _expectations(path, outputs, dtypes), _allowed(path, table.get("allow", [])))


def _allowed(path: Path, kinds: Any) -> tuple[str, ...]:
    if not isinstance(kinds, list) or any(kind not in _KINDS for kind in kinds):
        raise KernelFileError(f"{path}: allow: expected a list of {', '.join(map(repr, _KINDS))}, got {kinds!r}")
    return tuple(kinds)


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """The file's table and the kernel's body."""
    text = path.read_text()
    opening = _OPENING.match(text) if path.suffix in _ENDINGS else None
    if path.suffix in _ENDINGS and not opening:
        raise KernelFileError(f"{path}: expected a comment /* invar ... */ of TOML at its beginning, got none")
    try:
        table = tomllib.loads(opening[1] if opening else text)
    except tomllib.TOMLDecodeError as error:
        raise KernelFileError(f"{path}: {error}") from None
    _known(table, _TOP, f"{path}: ")
    source = text if opening else _text(table, "source", path)
    if source is None:
        raise KernelFileError(f"{path}: expected source or source_file, got neither")
    return table, source


def _text(table: dict[str, Any], key: str, path: Path) -> str | None:
    named = table.get(f"{key}_file")
    return table.get(key) if named is None else (path.parent / named).read_text()


def _identifier(stem: str) -> str:
    name = re.sub(r"\W", "_", stem, flags=re.A)
    return f"_{name}" if name[:1].isdigit() else name


def _known(table: dict[str, Any], keys: set[str], place: str) -> None:
    for key, value in table.items():
        if key not in keys:
            raise KernelFileError(f"{place}expected {', '.join(sorted(keys))}, got {key!r}")
        good, what = _VALUES.get(key, (None, ""))
        if good and not good(value):
            raise KernelFileError(f"{place}{key}: expected {what}, got {value!r}")


def _section(table: dict[str, Any], name: str, path: Path, plain: bool = False) -> dict[str, Any]:
    section = table.get(name, {})
    if not isinstance(section, dict) or not (plain or all(isinstance(entry, dict) for entry in section.values())):
        raise KernelFileError(f"{path}: {name}: expected a table{'' if plain else ' of tables'}, got {section!r}")
    return section


def _shape(path: Path, name: str, entry: dict[str, Any]) -> tuple[int, ...]:
    if "shape" not in entry:
        raise KernelFileError(f"{path}: {name}: shape: expected a list of sizes, got none")
    return tuple(entry["shape"])


def _dtype(path: Path, name: str, entry: dict[str, Any]) -> np.dtype:
    try:
        return as_numpy_dtype(entry.get("dtype", "float32"))
    except (TypeError, ValueError) as error:
        raise KernelFileError(f"{path}: {name}: {error}") from None


def _input(path: Path, name: str, entry: dict[str, Any], random: np.random.Generator) -> Any:
    """An array that is given, read from a .npy file, or random; `value` alone is a number passed as such."""
    _known(entry, _INPUT, f"{path}: {name}: ")
    if "value" in entry and "shape" not in entry:
        return np.asarray(entry["value"], _dtype(path, name, entry)) if "dtype" in entry else entry["value"]
    dtype = _dtype(path, name, entry)
    shape = _shape(path, name, entry) if "shape" in entry or not {"file", "data"} & entry.keys() else None
    try:
        if "file" in entry:
            found = np.load(path.parent / entry["file"])
            return found.astype(dtype) if "dtype" in entry else found
        if "data" in entry:
            array = np.array(entry["data"], dtype)
            return array if shape is None else array.reshape(shape)
        return np.full(shape, entry["value"], dtype) if "value" in entry else _random(entry, shape, dtype, random)
    except (ValueError, TypeError, OSError) as error:
        raise KernelFileError(f"{path}: {name}: {error}") from None


def _random(entry: dict[str, Any], shape: Any, dtype: np.dtype, random: np.random.Generator) -> np.ndarray:
    """Normal numbers, or with low and high uniform ones; integers from low to high - 1, 0 to 99 unless told."""
    if dtype == np.bool_:
        return random.random(shape) < 0.5
    if np.issubdtype(dtype, np.integer):
        return random.integers(entry.get("low", 0), entry.get("high", 100), shape).astype(dtype)
    if entry.get("random", "uniform" if "low" in entry or "high" in entry else "normal") == "normal":
        return random.standard_normal(shape).astype(dtype)
    return random.uniform(entry.get("low", 0.0), entry.get("high", 1.0), shape).astype(dtype)


def _expectations(path: Path, outputs: dict[str, Any], dtypes: list[np.dtype]) -> list[tuple[str, np.ndarray, float, float]]:
    expected = []
    for (name, entry), dtype in zip(outputs.items(), dtypes):
        if "expect" not in entry and "expect_file" not in entry:
            continue
        values = np.load(path.parent / entry["expect_file"]) if "expect_file" in entry else np.array(entry["expect"])
        try:
            values = values.astype(np.float64 if dtype.kind not in "biuc" else dtype).reshape(_shape(path, name, entry))
        except ValueError as error:
            raise KernelFileError(f"{path}: {name}: expect: {error}") from None
        exact = dtype.kind in "biu"
        expected.append((name, values, entry.get("rtol", 0.0 if exact else 1e-5), entry.get("atol", 0.0 if exact else 1e-6)))
    return expected
