"""ONNX Runtime's sessions for the cases it has: one fused node each, inputs and outputs bound once."""

import itertools

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

_FLOAT, _INT32, _INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


def _session(node, inputs, opset, threads):
    declared = [helper.make_tensor_value_info(n, t, list(s)) for n, t, s in inputs]
    outputs = [helper.make_tensor_value_info(n, _FLOAT, None) for n in node.output]
    graph = helper.make_graph([node], "case", declared, outputs)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _bound(node, feeds, opset, threads):
    """feeds maps a name to an array. The first has y's shape, and a copy of it takes turns with it, as with every peer
    (peers.py, _rotating): what is bound by memory must not find its input in the cache."""
    types = {np.dtype(np.float32): _FLOAT, np.dtype(np.int32): _INT32, np.dtype(np.int64): _INT64}
    session = _session(node, [(n, types[a.dtype], a.shape) for n, a in feeds.items()], opset, threads)
    first = next(iter(feeds))
    output = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty_like(feeds[first]))
    bindings = []
    for array in (feeds[first], feeds[first].copy()):
        bindings.append(session.io_binding())
        for name, fed in (feeds | {first: array}).items():
            bindings[-1].bind_cpu_input(name, fed)
        bindings[-1].bind_ortvalue_output("y", output)
    turns = itertools.cycle(bindings)
    return lambda: session.run_with_iobinding(next(turns))


def _random(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _norm(case, threads):
    n, d = case["n"], case["d"]
    if case["op"] == "rms_norm":
        node = helper.make_node("RMSNormalization", ["x", "w"], ["y"], epsilon=1e-5)
        return _bound(node, dict(x=_random(n, d), w=_random(d)), 23, threads)
    node = helper.make_node("LayerNormalization", ["x", "w", "b"], ["y"], epsilon=1e-5)
    return _bound(node, dict(x=_random(n, d), w=_random(d), b=_random(d)), 17, threads)


def _rope(case, threads):
    b, h, t, d = (case[k] for k in "BHTD")
    node = helper.make_node("RotaryEmbedding", ["x", "c", "s", "p"], ["y"])
    positions = np.tile(np.arange(t, dtype=np.int64), (b, 1))
    return _bound(node, dict(x=_random(b, h, t, d), c=_random(t, d // 2), s=_random(t, d // 2), p=positions), 23, threads)


def _grouped(case, threads):
    """GroupQueryAttention over a cache that past and present share, as its decoders use it."""
    b, h, kv, t, s, d = (case[k] for k in "BHKTSD")
    names = ["q", "k", "v", "past_k", "past_v", "lengths", "total"]
    node = helper.make_node("GroupQueryAttention", names, ["y", "present_k", "present_v"], domain="com.microsoft",
                            num_heads=h, kv_num_heads=kv)
    feeds = dict(q=_random(b, t, h * d), k=_random(b, t, kv * d), v=_random(b, t, kv * d))
    feeds |= dict(lengths=np.full(b, s - 1, np.int32), total=np.array(s, np.int32))
    types = {"lengths": _INT32, "total": _INT32}
    declared = [(n, types.get(n, _FLOAT), feeds[n].shape if n in feeds else (b, kv, s, d)) for n in names]
    session = _session(node, declared, 21, threads)
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    for past, present in (("past_k", "present_k"), ("past_v", "present_v")):
        cache = onnxruntime.OrtValue.ortvalue_from_numpy(_random(b, kv, s, d))
        binding.bind_ortvalue_input(past, cache)
        binding.bind_ortvalue_output(present, cache)
    binding.bind_output("y", "cpu")
    return lambda: session.run_with_iobinding(binding)


def _multi_head(case, threads):
    b, h, t, s, d = (case[k] for k in "BHTSD")
    feeds = dict(q=_random(b, t, h * d), k=_random(b, s, h * d), v=_random(b, s, h * d))
    names = ["q", "k", "v"]
    if case["mask"] == "additive":
        names += ["", "", "m"]
        feeds["m"] = np.where(np.tril(np.ones((t, s))), 0, -np.inf).astype(np.float32)[None, None]
    keywords = {"unidirectional": 1} if case["mask"] == "causal" else {}
    node = helper.make_node("MultiHeadAttention", names, ["y"], domain="com.microsoft", num_heads=h, **keywords)
    return _bound(node, feeds, 21, threads)


def bound_session(case, threads):
    if "norm" in case["op"]:
        return _norm(case, threads)
    if case["op"] == "rope":
        return _rope(case, threads)
    if case["H"] != case["K"] or case["T"] != case["S"]:
        return _grouped(case, threads)
    return _multi_head(case, threads)
