"""The package from outside: examples, signatures, stubs, documentation, information, environment, and the time of nothing."""

import ast
import inspect
import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import invar
import invar.core as mx
import invar.core.fast as fast

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = [
    name for name in fast.__all__ if isinstance(getattr(fast, name), type(fast.rms_norm)) and name != "explain"
]


def python(program, **environment):
    return subprocess.run([sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True)


# ---- the examples of the documentation page, with mlx replaced by invar ------------------------------


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm", "rope", "scaled_dot_product_attention"])
def test_example_prints_what_its_comments_say(name):
    path = ROOT / "examples" / f"{name}.py"
    promised = re.findall(r"^print\(.*\)  # (.*)$", path.read_text(), re.M)
    result = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    assert promised and result.stdout.splitlines() == promised


def test_fast_is_reached_both_ways():
    assert mx.fast is fast and invar.core.fast is fast


# ---- signatures and stubs ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS + ["explain"])
def test_documentation_names_every_parameter(name):
    function = getattr(fast, name)
    signature = inspect.signature(function)
    assert len(function.__doc__) > 200 and "Returns" in function.__doc__ and "Raises" in function.__doc__
    inherited = (
        {"stream", "eps", "out", "args", "kwargs"}
        if name.endswith("_vjp") or name in ("add_rms_norm", "explain")
        else set()
    )
    if name.endswith("_vjp"):
        inherited = set(signature.parameters) - {"dy", "dout", "gradients", "dlse", "mask_grad"}
    for parameter in set(signature.parameters) - inherited:
        assert re.search(rf"\b{parameter}\b", function.__doc__), parameter


@pytest.mark.parametrize("name", OPERATIONS)
def test_stub_agrees_with_the_signature(name):
    """The first overload of the stub: same names, order, kinds and defaults as the function itself."""
    tree = ast.parse((Path(invar.__file__).parent / "_ext.pyi").read_text())
    stub = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    namespace = {}
    stub.decorator_list, stub.returns = [], None
    for argument in [*stub.args.args, *stub.args.kwonlyargs]:
        argument.annotation = None
    exec(compile(ast.Module([stub], []), "stub", "exec"), namespace)
    assert str(inspect.signature(namespace[name])) == str(inspect.signature(getattr(fast, name)))


def test_stub_has_every_name():
    tree = ast.parse((Path(invar.__file__).parent / "_ext.pyi").read_text())
    stubbed = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    from invar import _ext

    assert {name for name in dir(_ext) if not name.startswith("_")} <= stubbed
    assert (Path(invar.__file__).parent / "py.typed").exists()


def test_functions_pickle():
    assert pickle.loads(pickle.dumps(fast.rms_norm)) is fast.rms_norm


# ---- information ---------------------------------------------------------------------------------------


def test_info():
    info = invar.info()
    assert info["version"] == invar.__version__ and re.fullmatch(r"\d+\.\d+\.\d+", info["version"])
    assert info["cpu"] in info["cpu_available"].split() and info["cpu_reason"]
    assert info["num_threads"] >= 1 and set(info["caches"]) == {"l1d", "l2", "l3"} and info["compiler"]
    assert all(gpu["name"] and set(gpu) == {"name", "compute_capability"} for gpu in info["gpus"])
    assert bool(info["gpus"]) != bool(info["gpus_reason"])


def test_info_tells_of_kernels(tmp_path, monkeypatch):
    """The folder in use, what is in it, and the compiler; without either, why."""
    monkeypatch.setenv("INVAR_CACHE_DIR", str(tmp_path))
    kernels = invar.info()["kernels"]
    assert kernels["folder"] == str(tmp_path) and kernels["entries"] == kernels["bytes"] == 0 and kernels["reason"] == ""
    assert Path(kernels["compiler"].split()[0]).is_absolute() and kernels["version"]
    kernel = fast.metal_kernel(name="one", input_names=["a"], output_names=["out"], source="out[0] = a[0];")
    kernel(np.ones(1, np.float32))
    kernels = invar.info()["kernels"]
    assert kernels["entries"] == 1 and 1000 < kernels["bytes"] < kernels["limit"]
    monkeypatch.setenv("INVAR_CXX", "/nowhere/c++")
    monkeypatch.setenv("INVAR_CACHE_DIR", "/dev/null/cache")
    kernels = invar.info()["kernels"]
    assert kernels["compiler"] == kernels["version"] == kernels["folder"] == "" and kernels["reason"]


def test_set_num_threads():
    before = invar.info()["num_threads"]
    for n in (1, 5, np.int64(2)):
        invar.set_num_threads(n)
        assert invar.info()["num_threads"] == n
    invar.set_num_threads(before)


def test_exceptions():
    for exception in (invar.CompileError, invar.DeviceError, invar.KernelCheckError):
        assert issubclass(exception, RuntimeError) and exception.__module__ == "invar"
    assert tuple(invar.KernelCheckError("x").reports) == ()


def test_explain_tells_the_plan():
    x = np.ones((64, 512), np.float32)
    plan = fast.explain(fast.rms_norm, x)
    assert plan["operation"] == "rms_norm" and plan["bytes"] > 0 and plan["tasks"] >= 1
    assert invar.info()["cpu"] in plan["kernel"] and plan["reason"]
    q = np.ones((1, 4, 1, 64), np.float32)
    k = np.ones((1, 4, 4096, 64), np.float32)
    plan = fast.explain("scaled_dot_product_attention", q, k, k)
    assert plan["key_block"] > 0 and plan["key_splits"] >= 1 and plan["flops"] == pytest.approx(2 * 4 * 4096 * 128)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_explain_predicts_what_bounds_a_call(dtype):
    one, many = (np.ones((1, 4, n, 64), dtype) for n in (1, 4096))  # so many that a busy machine does not read for longer
    prefill = fast.explain(fast.scaled_dot_product_attention, many, many, many, scale=1.0)
    assert prefill["bound"] == dtype and 0 < prefill["bound_seconds"] < 10
    for call in ((fast.rms_norm, many), (fast.scaled_dot_product_attention_vjp, one, one, many, many, one, one[..., 0])):
        plan = fast.explain(*call)
        assert plan["bound"] in ("memory", dtype) and plan["bound_seconds"] > 0
    half = fast.explain(fast.scaled_dot_product_attention, many[:, :, :2048], many, many, scale=1.0)
    assert half["bound_seconds"] * 2 == pytest.approx(prefill["bound_seconds"])


# ---- environment ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value",
    [
        ("INVAR_CPU", "avx9000"),
        ("INVAR_CPU", "neon" if "neon" not in invar.info()["cpu_available"] else "avx2"),
        ("INVAR_NUM_THREADS", "many"),
        ("INVAR_NUM_THREADS", "0"),
        ("INVAR_NUM_THREADS", "-3"),
    ],
)
def test_a_variable_that_cannot_be_honoured_is_an_error_that_says_so(name, value):
    program = "import numpy as np, invar.core.fast as fast\n"
    program += "try: fast.rms_norm(np.ones((2, 4)))\nexcept ValueError as e: print(e)"
    result = python(program, **{name: value})
    assert name in result.stdout and value in result.stdout and not result.stderr, result


def test_variables_are_honoured():
    for cpu in invar.info()["cpu_available"].split():
        result = python(
            "import invar; i = invar.info(); print(i['cpu'], i['num_threads'])", INVAR_CPU=cpu, INVAR_NUM_THREADS="3"
        )
        assert result.stdout.split() == [cpu, "3"]


# ---- threads and processes -----------------------------------------------------------------------------


def test_calls_from_many_threads_agree():
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((1, 2, 100, 32)).astype(np.float32) for _ in range(8)]
    expected = [fast.scaled_dot_product_attention(q, q, q, mask="causal").tobytes() for q in inputs]
    wrong = []

    def work(index):
        for _ in range(20):
            if fast.scaled_dot_product_attention(*[inputs[index]] * 3, mask="causal").tobytes() != expected[index]:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_interpreter_lock_is_released():
    """Another thread wakes every millisecond while a call computes; with the lock held it would wake once, after it."""
    x = np.ones((1, 8, 4096, 64), np.float32)
    wakings, done = [0], threading.Event()

    def wake():
        while not done.wait(0.001):
            wakings[0] += 1

    thread = threading.Thread(target=wake)
    thread.start()
    before = wakings[0]
    fast.scaled_dot_product_attention(x, x, x)
    after = wakings[0]
    done.set()
    thread.join()
    assert after - before >= 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_calls_after_fork():
    program = """
import os, numpy as np, invar, invar.core.fast as fast
invar.set_num_threads(3)
x = np.random.default_rng(0).standard_normal((400, 512)).astype(np.float32)
expected = fast.rms_norm(x).tobytes()
child = os.fork()
if child == 0:
    os._exit(0 if fast.rms_norm(x).tobytes() == expected else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), fast.rms_norm(x).tobytes() == expected)
"""
    assert python(program).stdout.split() == ["0", "True"]


def test_no_references_are_lost():
    """Neither by calls that succeed nor by calls that fail."""
    x, w = np.ones((2, 8), np.float32), np.ones(8, np.float32)
    q = np.ones((1, 2, 3, 8), np.float32)

    def calls():
        fast.rms_norm(x, w), fast.rms_norm(x, w, out=x), fast.layer_norm_vjp(x, x, w, w), fast.rope(x, 8, offset=[1])
        fast.scaled_dot_product_attention(q, q, q, mask=0.5, return_lse=True)
        fast.rms_norm(memoryview(x), memoryview(w))  # what a view was read through holds x and w
        for bad in (dict(weight=w[:3]), dict(eps="1"), dict(out="x"), dict(out=x[:1])):
            with pytest.raises((ValueError, TypeError)):
                fast.rms_norm(x, **bad)

    calls()
    counts = [sys.getrefcount(o) for o in (x, w, q, None)]
    for _ in range(50):
        calls()
    after = [sys.getrefcount(o) for o in (x, w, q, None)]
    assert after[:3] == counts[:3] and abs(after[3] - counts[3]) < 25


def test_nothing_is_printed():
    program = "import invar, numpy as np, invar.core.fast as f\nf.rms_norm(np.ones((2,4)))\n"
    program += "try: f.rms_norm('x')\nexcept TypeError: pass"
    result = python(program)
    assert result.returncode == 0 and result.stdout == result.stderr == ""
