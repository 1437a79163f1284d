"""Gradients of custom kernels under torch, JAX and MLX: the author's vjp is called, and without one differentiating fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invar.core.fast as fast
from invar import KernelCheckError

SOURCE = "uint i = thread_position_in_grid.x;\nout[i] = a[i] * a[i] * b[i];"
LAUNCH = {"grid": (4, 1, 1), "threadgroup": (4, 1, 1), "output_shapes": [(4,)], "output_dtypes": ["float32"]}
A, B = np.arange(4, dtype=np.float32), np.full(4, 3, np.float32)
WANTED = [2 * A * B, A * A]


def make(vjp: bool) -> Any:
    """a²·b, for which a gradient is known."""
    kernel = fast.metal_kernel(name="square_times", input_names=["a", "b"], output_names=["out"], source=SOURCE)
    if vjp:

        @kernel.vjp
        def gradient(primals, cotangents, outputs):
            (a, b), (dout,), (out,) = primals, cotangents, outputs
            assert out.shape == a.shape
            return [2 * a * b * dout, a * a * dout]

    return kernel


def forms(kernel: Any) -> list[Any]:
    """The short form and the one with everything said."""
    return [kernel, lambda a, b: kernel(inputs=[a, b], **LAUNCH)[0]]


def test_torch():
    torch = pytest.importorskip("torch")
    a, b = (torch.tensor(x, requires_grad=True) for x in (A, B))
    for form in forms(make(vjp=True)):
        out = form(a, b)
        assert np.array_equal(out.detach().numpy(), A * A * B)
        for found, wanted in zip(torch.autograd.grad(out.sum(), (a, b)), WANTED, strict=True):
            assert np.array_equal(found.numpy(), wanted)
        (only,) = torch.autograd.grad(form(a, b.detach()).sum(), (a,))
        assert np.array_equal(only.numpy(), WANTED[0])


def test_torch_without_a_vjp():
    torch = pytest.importorskip("torch")
    a = torch.tensor(A, requires_grad=True)
    with pytest.raises(ValueError, match=r"metal_kernel: square_times: .*kernel\.vjp.*detach") as caught:
        make(vjp=False)(a, a)
    assert caught.value.__context__ is None  # not "during handling of" what the first look at the arrays raised
    with torch.no_grad():
        out = make(vjp=False)(a, torch.tensor(B))
    assert not out.requires_grad and np.array_equal(out.numpy(), A * A * B)


def test_torch_sees_reports_and_the_text(capsys):
    """Where torch differentiates, check mode's reports are the same objects, and the text is printed once."""
    torch = pytest.importorskip("torch")
    kernel = fast.metal_kernel(name="beyond", input_names=["a"], output_names=["out"],
                               source="uint i = thread_position_in_grid.x;\nout[i] = a[i + 1];",
                               vjp=lambda primals, cotangents, outputs: [cotangents[0]])
    for a in (torch.tensor(A), torch.tensor(A, requires_grad=True)):
        with pytest.raises(KernelCheckError) as caught:
            kernel(a, check=True, verbose=True)
        assert {(report.kind, report.line) for report in caught.value.reports} == {("out-of-bounds read", 2)}
        assert capsys.readouterr().out.count("a[i + 1]") == 1


def test_jax():
    jax = pytest.importorskip("jax")
    a, b = jax.numpy.asarray(A), jax.numpy.asarray(B)
    for form in forms(make(vjp=True)):
        found = jax.jit(jax.grad(lambda p, q, form=form: form(p, q).sum(), argnums=(0, 1)))(a, b)
        for one, wanted in zip(found, WANTED, strict=True):
            assert np.array_equal(one, wanted)


def test_jax_promotes_alike_where_it_traces():
    """The short form's outputs have the type that they have outside jit, also of types that NumPy promotes otherwise."""
    jax = pytest.importorskip("jax")
    kernel = fast.metal_kernel(name="add", input_names=["a", "b"], output_names=["out"],
                               source="uint i = thread_position_in_grid.x;\nout[i] = a[i] + b[i];")
    for left, right in (("int32", "float32"), ("int32", "float16"), ("float16", "bfloat16"), ("int32", "uint32")):
        a, b = jax.numpy.ones(4, left), jax.numpy.arange(4).astype(right)
        traced = jax.jit(kernel)(a, b)
        assert traced.dtype == kernel(a, b).dtype and np.array_equal(traced, [1, 2, 3, 4]), (left, right)
    assert jax.jit(lambda a: kernel(a, 2))(jax.numpy.ones(4, "float16")).dtype == "float16"


def test_jax_without_a_vjp():
    jax = pytest.importorskip("jax")
    kernel, a, b = make(vjp=False), jax.numpy.asarray(A), jax.numpy.asarray(B)
    assert np.array_equal(jax.jit(lambda p: kernel(p, b))(a), A * A * B)
    assert np.array_equal(jax.vmap(lambda p: kernel(p, b))(jax.numpy.stack([a, a + 1]))[1], (A + 1) * (A + 1) * B)
    with pytest.raises(ValueError, match=r"square_times: expected a gradient given by its author \(kernel\.vjp\)"):
        jax.grad(lambda p: kernel(p, b).sum())(a)


def test_mlx():
    mx = pytest.importorskip("mlx.core")
    a, b = mx.array(A), mx.array(B)
    for form in forms(make(vjp=True)):
        found = mx.grad(lambda p, q, form=form: form(p, q).sum(), argnums=(0, 1))(a, b)
        for one, wanted in zip(found, WANTED, strict=True):
            assert np.array_equal(np.array(one), wanted)
        assert np.array_equal(np.array(mx.grad(lambda p, form=form: form(p, b).sum())(a)), WANTED[0])
    with pytest.raises(ValueError, match=r"mx\.jvp"):
        mx.jvp(lambda p: make(vjp=True)(p, b), [a], [a])


def test_mlx_without_a_vjp():
    """MLX takes what was computed outside of it for a constant: without custom_function the gradient would be zero."""
    mx = pytest.importorskip("mlx.core")
    kernel, a, b = make(vjp=False), mx.array(A), mx.array(B)
    assert np.array_equal(np.array(kernel(a, b)), A * A * B)
    with pytest.raises(ValueError, match=r"square_times: expected a gradient given by its author \(kernel\.vjp\)"):
        mx.grad(lambda p: kernel(p, b).sum())(a)


@pytest.mark.parametrize("library", ["torch", "jax", "mlx.core"])
def test_an_input_without_a_gradient(library):
    """A vjp gives None for an index, and the wrong number of gradients is an error."""
    module = pytest.importorskip(library)
    kernel = fast.metal_kernel(name="take", input_names=["a", "index"], output_names=["out"],
                               source="uint i = thread_position_in_grid.x;\nout[i] = a[index[i]];",
                               vjp=lambda primals, cotangents, outputs: [cotangents[0] * 2, None])
    wrong = fast.metal_kernel(name="wrong", input_names=["a", "index"], output_names=["out"], source="out[0] = a[index[0]];",
                              vjp=lambda primals, cotangents, outputs: [cotangents[0]])
    index = np.array([1, 0, 3, 2], np.int32)

    def call(kernel, a, index):
        return kernel(inputs=[a, index], **LAUNCH)[0].sum()

    if library == "torch":
        a = module.tensor(A, requires_grad=True)
        differentiate = lambda kernel: module.autograd.grad(call(kernel, a, module.tensor(index)), (a,))[0].numpy()
    elif library == "jax":
        places, a = module.numpy.asarray(index), module.numpy.asarray(A)
        differentiate = lambda kernel: module.grad(lambda a: call(kernel, a, places))(a)
    else:
        differentiate = lambda kernel: np.array(module.grad(lambda a: call(kernel, a, module.array(index)))(module.array(A)))
    assert np.array_equal(differentiate(kernel), np.full(4, 2, np.float32))
    with pytest.raises(ValueError, match="expected 2 gradients, one for each input, got 1"):
        differentiate(wrong)
