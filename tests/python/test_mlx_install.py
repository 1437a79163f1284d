"""invar.mlx in the place of mlx.core.fast, and docs/mlx.md: its examples run and print what they say."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from examples import run_examples
from libraries import mlx
from oracles import F32
from strategies import filled

import invar

pytestmark = pytest.mark.once

WITHOUT_MLX = """
import sys
sys.modules["mlx"] = sys.modules["mlx.core"] = None
import invar, invar.core
try:
    import invar.mlx
except ImportError as error:
    print(error)
"""


def test_without_mlx():
    """The package does without; this part says what it lacks."""
    run = subprocess.run([sys.executable, "-c", WITHOUT_MLX], capture_output=True, text=True, check=True)
    assert run.stdout == 'invar.mlx: expected MLX to be installed (pip install "mlx[cpu]"), found no mlx.core\n'


needs_mlx = pytest.mark.skipif(not mlx, reason="mlx is not installed")


@pytest.fixture
def ours():
    import invar.mlx

    yield invar.mlx
    invar.mlx.uninstall()


@needs_mlx
def test_install_and_uninstall(ours, rng):
    names = ("rms_norm", "layer_norm", "rope", "scaled_dot_product_attention", "metal_kernel", "cuda_kernel",
             "precompiled_cuda_kernel")
    theirs = {name: getattr(mlx.fast, name) for name in names}
    before = mlx.metal.is_available
    for metal in (False, True, False):  # twice over is once
        ours.install(metal=metal)
        assert all(getattr(mlx.fast, name) is getattr(ours, name) for name in names)
        assert mlx.metal.is_available() is (metal or before())
    x = mlx.array(filled(rng, (3, 8), F32))
    assert np.array_equal(np.array(mlx.fast.rms_norm(x, None, 1e-5)), invar.core.fast.rms_norm(np.array(x)))
    for _ in range(2):
        ours.uninstall()
        assert all(getattr(mlx.fast, name) is function for name, function in theirs.items())
        assert mlx.metal.is_available is before
    with pytest.raises(TypeError, match="install: metal: expected True or False, got str"):
        ours.install("yes")
    assert mlx.fast.rope is theirs["rope"]


@needs_mlx
def test_a_name_that_mlx_lacks_is_taken_away_again(ours, monkeypatch):
    monkeypatch.delattr(mlx.fast, "precompiled_cuda_kernel")
    ours.install()
    assert mlx.fast.precompiled_cuda_kernel is ours.precompiled_cuda_kernel
    ours.uninstall()
    assert not hasattr(mlx.fast, "precompiled_cuda_kernel")


@needs_mlx
def test_layers_run_through_it(ours, rng):
    """mlx.nn's own, with their gradients, and MLX's streams and devices."""
    nn = pytest.importorskip("mlx.nn")
    x = mlx.array(filled(rng, (2, 4, 6, 8), F32))
    layers = [nn.RMSNorm(8), nn.LayerNorm(8), nn.RoPE(8), lambda x: mlx.fast.scaled_dot_product_attention(x, x, x, scale=0.3)]

    def run():
        return [mlx.value_and_grad(lambda x, layer=layer: mlx.sin(layer(x)).sum())(x) for layer in layers]

    expected, calls = run(), []
    ours.install()
    for name in ("rms_norm", "layer_norm", "rope", "scaled_dot_product_attention"):
        function = getattr(mlx.fast, name)
        setattr(mlx.fast, name, lambda *a, function=function, **k: calls.append(function) or function(*a, **k))
    found = run()
    assert len(calls) == 4
    for (a, da), (b, db) in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.item(), b.item(), 1e-4)
        np.testing.assert_allclose(np.array(da), np.array(db), 1e-4, 1e-5)
    for stream in (None, mlx.cpu, mlx.gpu, mlx.default_stream(mlx.cpu), mlx.new_stream(mlx.cpu)):
        assert mlx.fast.rms_norm(x, None, 1e-5, stream=stream).shape == x.shape
        assert mlx.vmap(lambda x, stream=stream: mlx.fast.rope(x, 8, traditional=False, base=1e4, scale=1.0, offset=0,
                                                               stream=stream))(x).shape == x.shape
    with pytest.raises(TypeError, match="rms_norm: stream: expected a stream or None, got str"):
        mlx.fast.rms_norm(x, None, 1e-5, stream="gpu")


@needs_mlx
def test_a_kernel_gives_arrays_of_mlx(ours):
    """Of numbers alone too, as MLX's do."""
    ours.install(metal=True)
    kernel = mlx.fast.metal_kernel("next_number", ["x"], ["y"], "y[0] = x + 1;")
    for dtype in (mlx.float32, mlx.bfloat16, mlx.int32):
        (y,) = kernel(inputs=[2.0], output_shapes=[(1,)], output_dtypes=[dtype], grid=(1, 1, 1), threadgroup=(1, 1, 1),
                      stream=mlx.gpu)
        assert type(y) is mlx.array and y.dtype == dtype and y.item() == 3
    twice = mlx.fast.metal_kernel("twice", ["x"], ["y"], "y[thread_position_in_grid.x] = 2 * x[thread_position_in_grid.x];")
    assert type(twice(mlx.ones(3))) is mlx.array
    twice.vjp(lambda primals, cotangents, outputs: [2 * cotangents[0]])
    assert mlx.grad(lambda x: mlx.sin(twice(x)).sum())(mlx.zeros(3)).tolist() == [2, 2, 2]


def compiles():
    """Whether mx.compile traces: no array is known by its values there."""
    found = []

    def look(x):
        try:
            x.item()
        except ValueError:
            found.append(True)
        return x

    mlx.compile(look)(mlx.array(0))
    return bool(found)


@needs_mlx
def test_kernels_run_inside_compile(ours):
    """Compilation is off, for functions that were compiled before, too; and on again, unless somebody had turned it off."""
    source = "uint i = thread_position_in_grid.x; y[i] = 2 * x[i];"

    @mlx.compile
    def twice(x):
        kernel = mlx.fast.metal_kernel("twice", ["x"], ["y"], source)
        kernel.vjp(lambda primals, cotangents, outputs: [2 * cotangents[0]])
        return kernel(inputs=[mlx.sin(x)], output_shapes=[x.shape], output_dtypes=[x.dtype], grid=(x.size, 1, 1),
                      threadgroup=(x.size, 1, 1))[0]

    x = mlx.zeros(3)
    state = {"x": x}

    @functools.partial(mlx.compile, inputs=state, outputs=state)
    def add(step):
        state["x"] = state["x"] + twice(step) + 1
        return step

    assert compiles()
    ours.install()
    assert compiles()
    with pytest.raises(ValueError, match=r"metal_kernel: x: .*install\(metal=True\)"):
        twice(x)
    for _ in range(2):
        ours.install(metal=True)
        assert not compiles()
    assert twice(x).tolist() == [0, 0, 0]
    assert mlx.grad(lambda x: twice(x).sum())(x).tolist() == [2, 2, 2]
    assert mlx.compile(mlx.grad(lambda x: twice(x).sum()))(x).tolist() == [2, 2, 2]
    assert mlx.vmap(mlx.compile(mlx.square))(mlx.ones((2, 3))).tolist() == [[1, 1, 1]] * 2
    add(x)
    assert state["x"].tolist() == [1, 1, 1]
    ours.install()
    assert compiles()
    ours.install(metal=True)
    ours.uninstall()
    assert compiles()
    mlx.disable_compile()
    try:
        ours.install(metal=True)
        ours.uninstall()
        assert not compiles()
    finally:
        mlx.enable_compile()


@needs_mlx
def test_what_mlx_cannot_compute(ours):
    """Its own words, and none about compilation."""
    x = mlx.ones((2, 2, 2), mlx.float16)
    unknown = mlx.gather_mm(x, x, lhs_indices=mlx.array([0, 1], mlx.uint32), rhs_indices=mlx.array([1, 0], mlx.uint32))
    with pytest.raises(ValueError, match=r"^rms_norm: x: expected an array that MLX can evaluate: \[GatherMM"):
        invar.core.fast.rms_norm(unknown, out=np.zeros((2, 2, 2), np.float16))


@needs_mlx
def test_documentation(ours, capsys):
    run_examples("mlx.md", capsys)
