"""invar.torch gives invar.core.fast's bits, its gradients are right, and torch may transform, trace and export its calls."""

import subprocess
import sys

import numpy as np
import pytest
from examples import run_examples
from libraries import torch

if not torch:
    pytest.skip("torch is not installed", allow_module_level=True)

import invar.torch as invar_torch
from invar.core import fast

pytestmark = pytest.mark.once


def case(name, *shapes, **keywords):
    """One function of tensors of these shapes, of invar.torch or of fast."""
    return lambda module: lambda *tensors: getattr(module, name)(*tensors, **keywords), shapes


def with_sinks(module):
    return lambda q, k, v, mask, sinks: module.scaled_dot_product_attention(q, k, v, 0.3, mask, sinks=sinks, return_lse=True)


def with_freqs(module):
    return lambda x: module.rope(x, 8, base=None, freqs=torch.arange(1, 5), offset=torch.tensor([3, 5]))


CASES = {
    "rms_norm": case("rms_norm", (3, 5, 8), (8,)),
    "rms_norm alone": case("rms_norm", (3, 5, 8), eps=0.1),
    "add_rms_norm": case("add_rms_norm", (3, 5, 8), (3, 5, 8), (8,)),
    "layer_norm": case("layer_norm", (3, 5, 8), (8,), (8,)),
    "layer_norm without weight": (lambda module: lambda x, bias: module.layer_norm(x, None, bias), [(3, 5, 8), (8,)]),
    "rope": case("rope", (2, 3, 5, 8), dims=6, traditional=True, offset=4),
    "rope by freqs": (with_freqs, [(2, 3, 5, 8)]),
    "attention": (with_sinks, [(2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 6), (2, 1, 3, 5), (4,)]),
    "causal": case("scaled_dot_product_attention", (1, 2, 4, 8), (1, 2, 6, 8), (1, 2, 6, 8), mask="causal", window=(3, None),
                   softcap=2.0),
    "lengths": (lambda module: lambda q, k: module.scaled_dot_product_attention(q, k, k, kv_lengths=torch.tensor([2, 5])),
                [(2, 2, 4, 8), (2, 2, 6, 8)]),
}
every_case = pytest.mark.parametrize("name", CASES)


def both(name):
    """invar.torch's function and fast's, and tensors for them."""
    make, shapes = CASES[name]
    generator = torch.Generator().manual_seed(7)
    return make(invar_torch), make(fast), [torch.randn(shape, generator=generator) for shape in shapes]


def listed(values):
    return list(values) if isinstance(values, (list, tuple)) else [values]


def same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)


def total(function):
    """A number of which every result has a part, with cotangents that differ."""
    return lambda *tensors: sum(torch.sin(y).sum() for y in listed(function(*tensors)))


def gradients(function, tensors):
    leaves = [x.clone().requires_grad_() for x in tensors]
    return listed(torch.autograd.grad(total(function)(*leaves), leaves))


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_values_are_those_of_fast(name, dtype):
    function, of_fast, tensors = both(name)
    tensors = [x.to(getattr(torch, dtype)) for x in tensors]
    same(listed(function(*tensors)), listed(of_fast(*tensors)))
    leaves = [x.clone().requires_grad_() for x in tensors]
    recorded = listed(function(*leaves))
    same([y.detach() for y in recorded], listed(of_fast(*tensors)))
    assert all(y.grad_fn is not None for y in recorded)
    with torch.no_grad():
        assert not any(y.requires_grad for y in listed(function(*leaves)))


@every_case
def test_gradients(name):
    function, _, tensors = both(name)
    assert torch.autograd.gradcheck(function, [x.double().requires_grad_() for x in tensors])


def test_gradients_are_those_of_fast():
    x, w, b, dy = (torch.randn(shape) for shape in ((6, 40), (40,), (40,), (6, 40)))
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    same(torch.autograd.grad(invar_torch.layer_norm(*leaves), leaves, dy), fast.layer_norm_vjp(dy, x, w, b))
    q, k, v, dout = (torch.randn(1, 2, 20, 8) for _ in range(4))
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    found = torch.autograd.grad(invar_torch.scaled_dot_product_attention(*leaves, mask="causal"), leaves, dout)
    out, lse = fast.scaled_dot_product_attention(q, k, v, mask="causal", return_lse=True)
    same(found, fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse, mask="causal")[:3])


def test_gradients_have_the_types_of_their_arguments():
    x, residual, weight = torch.randn(3, 8).half(), torch.randn(3, 8).bfloat16(), torch.randn(8)
    leaves = [t.requires_grad_() for t in (x, residual, weight)]
    found = torch.autograd.grad(sum(y.sum() for y in invar_torch.add_rms_norm(*leaves)), leaves)
    assert [t.dtype for t in found] == [torch.float16, torch.bfloat16, torch.float32]
    torch._dynamo.reset()
    compiled = torch.compile(invar_torch.add_rms_norm, fullgraph=True, backend="aot_eager")
    plain = [t.detach() for t in leaves]
    same(compiled(*plain), fast.add_rms_norm(*plain))
    same(torch.autograd.grad(sum(y.sum() for y in compiled(*leaves)), leaves), found)


def test_only_what_is_asked_for_has_a_gradient():
    q, mask = torch.randn(1, 2, 3, 8, requires_grad=True), torch.zeros(3, 3, requires_grad=True)
    weight = torch.ones(8)
    (invar_torch.rms_norm(invar_torch.scaled_dot_product_attention(q, q, q, mask=mask.detach()), weight)).sum().backward()
    assert q.grad is not None and mask.grad is None and weight.grad is None
    for other in (torch.ones(3, 3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.int32)):
        expected = torch.autograd.grad(invar_torch.scaled_dot_product_attention(q, q, q).sum(), q)
        same(torch.autograd.grad(invar_torch.scaled_dot_product_attention(q, q, q, mask=other).sum(), q), expected)


@pytest.mark.parametrize(("name", "count"), [("rms_norm", 2), ("add_rms_norm", 4), ("rope", 0), ("layer_norm", 3), ("causal", 5)])
def test_what_is_kept_for_the_gradient(name, count):
    function, _, tensors = both(name)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        function(*[x.requires_grad_() for x in tensors])
    assert len(kept) == count


# ---- transformations --------------------------------------------------------------------------------


@every_case
def test_functional_gradients(name):
    function, _, tensors = both(name)
    found = torch.func.grad(total(function), argnums=tuple(range(len(tensors))))(*tensors)
    same(found, gradients(function, tensors))


@every_case
def test_vmap(name):
    """Over all arguments, then over the first alone; of a function, then of its gradient."""
    function, _, tensors = both(name)
    stacks = [torch.stack([x, 2 * x], 1) for x in tensors]
    turns = [[stack[:, i] for stack in stacks] for i in range(2)]
    places = tuple(range(len(tensors)))
    for f in (lambda *a: listed(function(*a)), lambda *a: listed(torch.func.grad(total(function), argnums=places)(*a))):
        for found, *expected in zip(torch.vmap(f, in_dims=1)(*stacks), *[f(*turn) for turn in turns], strict=True):
            same([found], [torch.stack(expected)])
        found = torch.vmap(f, in_dims=(1, *(None,) * (len(tensors) - 1)))(stacks[0], *tensors[1:])
        for a, *expected in zip(found, *[f(turn[0], *tensors[1:]) for turn in turns], strict=True):
            same([a], [torch.stack(expected)])


@every_case
def test_compiled(name):
    """In one graph, forward and backward, with the bits of what is not compiled."""
    function, _, tensors = both(name)
    torch._dynamo.reset()
    compiled = torch.compile(lambda *a: [2 * y for y in listed(function(*a))], fullgraph=True, backend="aot_eager")
    same(compiled(*tensors), [2 * y for y in listed(function(*tensors))])
    same(gradients(compiled, tensors), gradients(lambda *a: [2 * y for y in listed(function(*a))], tensors))


def test_transformed_and_compiled():
    function, _, tensors = both("attention")
    gradient = torch.func.grad(total(function), argnums=(0, 1, 2, 3, 4))
    for f in (gradient, torch.vmap(function)):
        stacks = tensors if f is gradient else [torch.stack([x, 2 * x]) for x in tensors]
        torch._dynamo.reset()
        same(torch.compile(f, fullgraph=True, backend="aot_eager")(*stacks), f(*stacks))


def test_one_graph_for_every_length():
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, backend=counter, dynamic=True)
    def layer(x, offset):
        x = invar_torch.rope(invar_torch.rms_norm(x), 8, offset=offset)
        return invar_torch.scaled_dot_product_attention(x, x, x, mask="causal", window=(offset, None))

    counts = []
    for length in (5, 6, 9):
        x = torch.randn(1, 2, length, 8)
        y = fast.rope(fast.rms_norm(x), 8, offset=length + 20)
        same([layer(x, length + 20)], [fast.scaled_dot_product_attention(y, y, y, mask="causal", window=(length + 20, None))])
        counts.append(counter.frame_count)
    assert counts[0] == counts[-1] > 0


@every_case
def test_exported(name):
    function, of_fast, tensors = both(name)

    class Module(torch.nn.Module):
        def forward(self, *tensors):
            return listed(function(*tensors))

    for strict in (False, True):
        program = torch.export.export(Module(), tuple(tensors), strict=strict)
        assert any(str(node.target).startswith("invar.") for node in program.graph.nodes)
        same(program.module()(*tensors), listed(of_fast(*tensors)))


@every_case
def test_operators_keep_torchs_rules(name, monkeypatch):
    """Schemas, and shapes, types and strides of fake results, with torch's own checks of the calls that a case makes."""
    function, _, tensors = both(name)
    calls, call = [], invar_torch._Operator.__call__
    monkeypatch.setattr(invar_torch._Operator, "__call__", lambda self, *a: calls.append((self._step, a)) or call(self, *a))
    gradients(function, tensors)
    assert len(calls) == 2  # the operation and its gradient
    for operator, arguments in calls:
        plain = [x.detach() if isinstance(x, torch.Tensor) else x for x in arguments]
        torch.library.opcheck(operator, plain, test_utils=("test_schema", "test_faketensor"))


# ---- errors -----------------------------------------------------------------------------------------


def test_further_derivatives(rng):
    x = torch.from_numpy(rng.standard_normal((1, 2, 5, 8))).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: invar_torch.rope(x, 8, offset=torch.tensor(3)), x)
    for name, function in (("rms_norm", invar_torch.rms_norm), ("layer_norm", invar_torch.layer_norm),
                           ("attention", lambda x: invar_torch.scaled_dot_product_attention(x, x, x))):
        (first,) = torch.autograd.grad(total(function)(x), x, create_graph=True)
        with pytest.raises(NotImplementedError, match=f"{name}_vjp: expected a first derivative, got a second one"):
            first.sum().backward()
        with pytest.raises(NotImplementedError, match="jvp"):
            torch.func.jvp(function, (x.detach(),), (x.detach(),))


def test_freqs_have_no_derivative():
    freqs = torch.arange(1.0, 5.0, requires_grad=True)
    y = invar_torch.rope(torch.ones(1, 3, 8), 8, freqs=freqs)
    with pytest.raises(ValueError, match="rope: freqs: expected an argument that is not differentiated, got one that is"):
        y.sum().backward()


@pytest.mark.parametrize("leaf", [False, True])
def test_errors_are_those_of_fast(leaf):
    x = torch.ones(1, 2, 3, 8, requires_grad=leaf)
    for module_call in (
        lambda module, x: module.rms_norm(x, torch.ones(7)),
        lambda module, x: module.rms_norm(x.int()),
        lambda module, x: module.layer_norm(x, eps="small"),
        lambda module, x: module.rope(x, 9),
        lambda module, x: module.rope(x, 8, base=None),
        lambda module, x: module.rope(x, 8, base=10000, freqs=torch.ones(4)),
        lambda module, x: module.rope(x, 8, offset=1.5),
        lambda module, x: module.scaled_dot_product_attention(x, x[..., :4], x),
        lambda module, x: module.scaled_dot_product_attention(x, x, x, kv_lengths=torch.tensor([9])),
        lambda module, x: module.scaled_dot_product_attention(x, x, x, window=3),
        lambda module, x: module.scaled_dot_product_attention(x, x, x, mask="casual"),
        lambda module, x: module.scaled_dot_product_attention(x, x, x, mask=torch.ones(4, 4)),
    ):
        with pytest.raises((ValueError, TypeError)) as expected:
            module_call(fast, x.detach())
        with pytest.raises(expected.type) as found:
            module_call(invar_torch, x)
        assert str(found.value) == str(expected.value)
    with pytest.raises(TypeError, match="rms_norm: expected a tensor first, got ndarray"):
        invar_torch.rms_norm(np.ones((2, 3), np.float32))


def test_documentation(capsys):
    run_examples("torch-and-jax.md", capsys, "import invar.torch")


def test_without_torch():
    program = "import sys, invar; sys.modules['torch'] = None; import invar.torch"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "ImportError: invar.torch: expected torch to be installed (pip install torch), found none" in run.stderr
