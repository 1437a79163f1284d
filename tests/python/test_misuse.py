"""Every function, every argument, every kind of misuse: the exception's type, a sentence that names the operation and the
argument, and no byte of any output changed."""

import ctypes

import numpy as np
import pytest

import invar
import invar.core.fast as fast

pytestmark = pytest.mark.once

B, H, T, D = 2, 4, 5, 8


class OnCuda:
    """An array that says it lives on a GPU."""

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, **keywords):
        raise AssertionError("exported")


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def overflowing(*shape):
    """A view whose sizes overflow 64 bits, of one element: NumPy makes none, but DLPack can say so."""
    return Forged(shape)


class Forged:
    """Exports a legacy DLPack tensor of any shape over one float32."""

    class Tensor(ctypes.Structure):
        _fields_ = [
            ("data", ctypes.c_void_p),
            ("device", ctypes.c_int32 * 2),
            ("ndim", ctypes.c_int32),
            ("code", ctypes.c_uint8),
            ("bits", ctypes.c_uint8),
            ("lanes", ctypes.c_uint16),
            ("shape", ctypes.POINTER(ctypes.c_int64)),
            ("strides", ctypes.POINTER(ctypes.c_int64)),
            ("byte_offset", ctypes.c_uint64),
            ("owner", ctypes.c_void_p),
            ("deleter", ctypes.c_void_p),
        ]

    def __init__(self, shape):
        self.memory = ctypes.create_string_buffer(64)
        numbers = ctypes.c_int64 * len(shape)
        self.shape, self.strides = numbers(*shape), numbers(*[0] * len(shape))
        self.tensor = self.Tensor(
            ctypes.addressof(self.memory),
            (ctypes.c_int32 * 2)(1, 0),
            len(shape),
            2,
            32,
            1,
            self.shape,
            self.strides,
            0,
            None,
            None,
        )

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **keywords):
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return make(ctypes.addressof(self.tensor), b"dltensor", None)


class Function:
    """One function: its valid arguments, and its destinations, which misuse must leave alone."""

    def __init__(self, name, arguments, outputs, destination="out", bad=()):
        self.name, self.call = name, getattr(fast, name)
        self.arguments, self.outputs, self.destination, self.bad = arguments, outputs, destination, bad

    def destinations(self):
        return [np.full(shape, 7, np.float32) for shape in self.outputs]

    def keywords(self, destinations):
        return {self.destination: destinations[0] if len(destinations) == 1 else tuple(destinations)}


X, W = ones(3, 4, D), ones(D)
Q, K, V = ones(B, H, T, D), ones(B, 2, 7, D), ones(B, 2, 7, D + 1)
OUT, LSE = ones(B, H, T, D + 1), ones(B, H, T)
SHAPE_OUT = (B, H, T, D + 1)

NOT_ARRAYS = [
    ("text", TypeError),
    (b"bytes", TypeError),
    (object(), TypeError),
    ({}, TypeError),
    (OnCuda(), invar.DeviceError),
]
NOT_FLOATS = [(t, ValueError) for t in (np.int32, np.int64, np.uint8, bool, np.complex64)]
NOT_NUMBERS = [("1e-5", TypeError), ([1.0], TypeError), (object(), TypeError), (1j, TypeError)]
NOT_INTEGERS = [("8", TypeError), (8.0, TypeError), (True, TypeError), (np.True_, TypeError), (None, TypeError), ([8], TypeError),
                (2**70, ValueError)]
NOT_FLAGS = [("yes", TypeError), (None, TypeError), (1.5, TypeError), ([], TypeError)]
NOT_STREAMS = [("cpu", TypeError), (1.5, TypeError), ([], TypeError)]


def array_misuse(name, shape, wrong_shapes, optional=False):
    """Misuse of one floating array argument."""
    rows = [(name, value, error) for value, error in NOT_ARRAYS + ([] if optional else [(None, TypeError)])]
    rows += [(name, ones(*shape, dtype=dtype), error) for dtype, error in NOT_FLOATS]
    rows += [(name, ones(*wrong), ValueError) for wrong in wrong_shapes]
    rows += [
        (name, ones(*[1] * 9), ValueError),
        (name, [[1.0], [1.0, 2.0]], ValueError),
        (name, ones(*shape).astype(">f4"), ValueError),
    ]
    return rows


def scalar_misuse(name, kinds, values=()):
    return [(name, value, error) for value, error in kinds] + [(name, value, ValueError) for value in values]


WRONG_ROWS = [(), (3, 4, D + 1)]
WRONG_VECTORS = [(), (D + 1,), (1,), (1, D)]
EPS = scalar_misuse("eps", NOT_NUMBERS + [(None, TypeError)], [-1e-5, float("nan"), float("inf")])
STREAM = scalar_misuse("stream", NOT_STREAMS)
ROPE = (
    scalar_misuse("dims", NOT_INTEGERS, [0, -2, 3, D + 2])
    + scalar_misuse("traditional", NOT_FLAGS)
    + scalar_misuse("base", NOT_NUMBERS, [0, -1.0, float("nan"), float("inf"), None])
    + scalar_misuse("scale", NOT_NUMBERS + [(None, TypeError)], [float("nan"), float("inf")])
    + scalar_misuse(
        "offset",
        [("1", TypeError), (object(), TypeError), (None, TypeError)],
        [1.5, True, 2**63, np.ones(3), np.zeros((1, 3), int), np.zeros(2, int), np.zeros(3, bool)],
    )
    + scalar_misuse("freqs", NOT_ARRAYS, [ones(D), ones(1, D // 2), ones(D // 2, dtype=np.complex64)])
    + STREAM
)
ATTENTION = (
    array_misuse("q", Q.shape, [(D,), (B, H, T, D + 1), (B + 1, H, T, D), (B, H + 1, T, D), (H, T, D)])
    + array_misuse("k", K.shape, [(D,), (B, 2, 7, D + 1), (1, 2, 7, D), (B, 3, 7, D), (B, 2, 6, D), (B, 0, 7, D)])
    + array_misuse("v", V.shape, [(D,), (1, 2, 7, D), (B, 1, 7, D), (B, 2, 6, D)])
    + scalar_misuse("scale", NOT_NUMBERS, [float("nan"), float("inf")])
    + scalar_misuse(
        "mask",
        NOT_ARRAYS[2:],
        [
            "full",
            "",
            ones(3, 7),
            ones(B, 2, T, 7),
            ones(1, B, H, T, 7),
            ones(1, dtype=np.float64),
            ones(1, dtype=np.complex64),
        ],
    )
    + [("sinks", value, error) for value, error in NOT_ARRAYS]
    + scalar_misuse("sinks", [], [ones(2), ones(1, H), ones(), ones(H, dtype=np.float64), ones(H, dtype=np.int32)])
    + scalar_misuse(
        "window",
        [(3, TypeError), ("ab", TypeError), ((1.5, 0), TypeError), (("1", 0), TypeError), ((True, 0), TypeError)],
        [(1,), (1, 2, 3), (-1, 0), (0, -2), (2**64, 0)],
    )
    + scalar_misuse("softcap", NOT_NUMBERS, [0, -3.0, float("nan"), float("inf")])
    + scalar_misuse("kv_lengths", NOT_ARRAYS, [[1.0, 2.0], [1], [[1, 2]], [1, 8], [-1, 3], [True, False]])
    + scalar_misuse("force_fused", NOT_FLAGS)
    + STREAM
)
FUNCTIONS = [
    Function(
        "rms_norm",
        dict(x=X, weight=W),
        [X.shape],
        bad=array_misuse("x", X.shape, WRONG_ROWS)
        + array_misuse("weight", W.shape, WRONG_VECTORS, True)
        + EPS
        + STREAM,
    ),
    Function(
        "rms_norm_vjp",
        dict(dy=X, x=X, weight=W),
        [X.shape, W.shape],
        bad=array_misuse("dy", X.shape, WRONG_ROWS + [(3, 1, D)])
        + array_misuse("x", X.shape, WRONG_ROWS)
        + array_misuse("weight", W.shape, WRONG_VECTORS, True)
        + EPS
        + STREAM,
    ),
    Function(
        "add_rms_norm",
        dict(x=X, residual=X, weight=W),
        [X.shape, X.shape],
        bad=array_misuse("x", X.shape, WRONG_ROWS)
        + array_misuse("residual", X.shape, WRONG_ROWS + [(1, 4, D)])
        + array_misuse("weight", W.shape, WRONG_VECTORS, True)
        + EPS
        + STREAM,
    ),
    Function(
        "layer_norm",
        dict(x=X, weight=W, bias=W),
        [X.shape],
        bad=array_misuse("x", X.shape, WRONG_ROWS)
        + array_misuse("weight", W.shape, WRONG_VECTORS, True)
        + array_misuse("bias", W.shape, WRONG_VECTORS, True)
        + EPS
        + STREAM,
    ),
    Function(
        "layer_norm_vjp",
        dict(dy=X, x=X, weight=W, bias=W),
        [X.shape, W.shape, W.shape],
        bad=array_misuse("dy", X.shape, WRONG_ROWS)
        + array_misuse("x", X.shape, WRONG_ROWS)
        + array_misuse("weight", W.shape, WRONG_VECTORS, True)
        + array_misuse("bias", W.shape, WRONG_VECTORS, True)
        + EPS
        + STREAM,
    ),
    Function("rope", dict(x=X, dims=D), [X.shape], bad=array_misuse("x", X.shape, [(), (D,)]) + ROPE),
    Function("rope_vjp", dict(dy=X, dims=D), [X.shape], bad=array_misuse("dy", X.shape, [(), (D,)]) + ROPE),
    Function(
        "scaled_dot_product_attention",
        dict(q=Q, k=K, v=V),
        [SHAPE_OUT],
        bad=ATTENTION + scalar_misuse("return_lse", NOT_FLAGS),
    ),
    Function(
        "scaled_dot_product_attention_vjp",
        dict(dout=OUT, q=Q, k=K, v=V, out=OUT, lse=LSE),
        [Q.shape, K.shape, V.shape],
        "gradients",
        bad=array_misuse("dout", SHAPE_OUT, [(D,), (B, H, T, D)])
        + array_misuse("out", SHAPE_OUT, [(D,), (B, H, T, D)])
        + array_misuse("lse", LSE.shape, [(), (B, H, T, 1), (B, H)])
        + [("lse", ones(B, H, T, dtype=np.float16), ValueError)]
        + ATTENTION
        + [("dlse", value, error) for value, error in NOT_ARRAYS]
        + scalar_misuse("dlse", [], [ones(B, H), ones(B, H, T, dtype=np.int32)])
        + scalar_misuse("mask_grad", NOT_FLAGS, [True]),
    ),
]
BY_NAME = {f.name: f for f in FUNCTIONS}
# A wrong shape may be blamed on the argument that it does not fit.
PARTNERS = {
    "x": {"dy", "weight", "bias", "residual"},
    "q": {"k", "v", "dout", "out", "lse"},
    "k": {"q", "v"},
    "v": {"k", "q", "out", "dout"},
    "mask_grad": {"mask"},
}


def refused(function, keywords, error, arguments, destinations):
    """The call raises exactly `error`, with a sentence on one of `arguments`, and writes nothing."""
    before = [d.tobytes() for d in destinations]
    with pytest.raises(error) as caught:
        function.call(**keywords)
    sentence = str(caught.value)
    assert caught.type is error, sentence
    assert sentence.startswith(tuple(f"{function.name}: {argument}" for argument in arguments)), sentence
    assert "\n" not in sentence
    assert "expected" in sentence, sentence
    assert [d.tobytes() for d in destinations] == before


def rows():
    for function in FUNCTIONS:
        for number, (argument, value, error) in enumerate(function.bad):
            text = f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            yield pytest.param(function, argument, value, error, id=f"{function.name}-{argument}-{number}-{text}")


@pytest.mark.parametrize("function, argument, value, error", list(rows()))
def test_wrong_argument(function, argument, value, error):
    destinations = function.destinations()
    if function.destination == "gradients":
        keywords = {"gradients": (*destinations, None, None)}
    else:
        keywords = function.keywords(destinations)
    keywords = function.arguments | keywords | {argument: value}
    refused(function, keywords, error, {argument} | PARTNERS.get(argument, set()), destinations)
    # And the same without a destination.
    with pytest.raises(error, match=f"^{function.name}: "):
        function.call(**(function.arguments | {argument: value}))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_the_valid_call_is_accepted(function):
    """Otherwise the tests above would prove nothing."""
    function.call(**function.arguments)
    destinations = function.destinations()
    if function.destination == "gradients":
        function.call(**function.arguments, gradients=(*destinations, None, None))
    else:
        function.call(**function.arguments, **function.keywords(destinations))
    assert all((d != 7).any() for d in destinations)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_calls_of_the_wrong_form(function):
    required = [name for name in function.arguments if name not in ("weight", "bias")]
    for name in required:
        with pytest.raises(TypeError, match=f"^{function.name}: {name}: expected"):
            function.call(**{n: v for n, v in function.arguments.items() if n != name})
    with pytest.raises(TypeError, match=f"^{function.name}: epsilon: expected"):
        function.call(**function.arguments, epsilon=1)
    with pytest.raises(TypeError, match=f"^{function.name}: {required[0]}: expected once"):
        function.call(function.arguments[required[0]], **function.arguments)
    with pytest.raises(TypeError, match=f"^{function.name}: .*by keyword"):
        function.call(*[1] * 16)


def test_a_length_above_the_largest_signed_number_is_told_as_it_came():
    lengths = np.array([2**63 + 1, 1], np.uint64)
    with pytest.raises(ValueError, match="kv_lengths: expected 0 to 7, got 9223372036854775809 for batch 0"):
        fast.scaled_dot_product_attention(Q, K, V, kv_lengths=lengths)


@pytest.mark.parametrize("mask", [None, "causal", ones(T, T, dtype=bool), ones(T, T, dtype=np.int32)], ids=str)
def test_the_gradient_of_a_mask_that_has_none(mask):
    """The sentence names the argument that Python's callers know, not C's dmask."""
    function = BY_NAME["scaled_dot_product_attention_vjp"]
    with pytest.raises(ValueError, match=f"^{function.name}: mask_grad: expected False without an additive floating mask"):
        function.call(**(function.arguments | {"mask": mask, "mask_grad": True}))


def test_a_bool_is_the_number_that_mlx_takes_it_for():
    """As eps, base and scale, where MLX converts it; as dims and offset it is refused above, as it is there."""
    for call in (lambda one: fast.rms_norm(X, eps=one), lambda one: fast.layer_norm(X, eps=one),
                 lambda one: fast.rope(X, D, base=one), lambda one: fast.rope(X, D, scale=one),
                 lambda one: fast.scaled_dot_product_attention(Q, K, V, scale=one),
                 lambda one: fast.scaled_dot_product_attention(Q, K, V, softcap=one)):
        assert call(True).tobytes() == call(np.True_).tobytes() == call(1.0).tobytes()


def wrong_destinations(shape):
    reversed_shape = shape[:-1] + (shape[-1] + 1,)
    frozen = np.full(shape, 7, np.float32)
    frozen.flags.writeable = False
    return [
        (np.full(reversed_shape, 7, np.float32), ValueError),
        (np.full(shape, 7, np.float64), ValueError),
        (np.full(shape, 7, np.float16), ValueError),
        (np.full(shape, 7, np.int32), ValueError),
        (frozen, ValueError),
        (np.full((1,) + shape, 7, np.float32), ValueError),
        ("text", TypeError),
        ([1.0], TypeError),
        (3.0, TypeError),
        (OnCuda(), invar.DeviceError),
    ]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_wrong_destination(function):
    count = 5 if function.destination == "gradients" else len(function.outputs)
    for place, shape in enumerate(function.outputs):
        for wrong, error in wrong_destinations(shape):
            destinations = function.destinations()
            given = destinations + [None] * (count - len(destinations))
            given[place] = wrong
            watched = [d for d in given if isinstance(d, np.ndarray)]
            value = given[0] if count == 1 else tuple(given)
            before = [d.tobytes() for d in watched]
            with pytest.raises(error, match=f"^{function.name}: (out|gradients|d[a-z]+)"):
                function.call(**function.arguments, **{function.destination: value})
            assert [d.tobytes() for d in watched] == before


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if len(f.outputs) > 1], ids=lambda f: f.name)
def test_destinations_that_do_not_fit_the_results(function):
    one = function.destinations()[0]
    for value, error in [(one, TypeError), ((one,), ValueError), ((one,) * 6, ValueError), ("ab", TypeError)]:
        with pytest.raises(error, match=f"^{function.name}: {function.destination}: "):
            function.call(**function.arguments, **{function.destination: value})
    assert (one == 7).all()


def test_a_destination_for_a_gradient_that_is_not_there():
    place = np.full(D, 7, np.float32)
    with pytest.raises(ValueError, match="^rms_norm_vjp: out"):
        fast.rms_norm_vjp(X, X, out=(None, place))
    assert (place == 7).all()


def test_destinations_that_overlap():
    memory = np.arange(2 * X.size, dtype=np.float32)
    x = memory[: X.size].reshape(X.shape)
    shifted = memory[4 : 4 + X.size].reshape(X.shape)
    before = memory.tobytes()
    of_x, of_dy = r"\(exactly x's is allowed\)", r"\(exactly dy's is allowed\)"
    calls = [
        (lambda: fast.rms_norm(x, W, out=shifted), of_x),
        (lambda: fast.layer_norm(x, W, W, out=shifted), of_x),
        (lambda: fast.rope(x, D, out=shifted), of_x),
        (lambda: fast.rope_vjp(x, D, out=shifted), of_dy),
        (lambda: fast.rms_norm_vjp(X, x, W, out=(x, None)), of_dy),
        (lambda: fast.add_rms_norm(X, X, W, out=(x, x)), "got an overlap"),
        (lambda: fast.add_rms_norm(x, X, W, out=(None, shifted)), r"\(exactly x's or residual's is allowed\)"),
        (lambda: fast.rms_norm(X, W, out=overlapping(memory)), "overlap"),
        (lambda: fast.scaled_dot_product_attention(x, x, x, out=x), "arguments, got an overlap"),
        (lambda: fast.scaled_dot_product_attention(x, X, X, out=x), "arguments, got an overlap"),
    ]
    for call, sentence in calls:
        with pytest.raises(ValueError, match=sentence):
            call()
        assert memory.tobytes() == before


def overlapping(memory):
    """A writable view of X's shape in which two indices are one element."""
    return np.lib.stride_tricks.as_strided(memory, X.shape, (4 * D, 0, 4))


@pytest.mark.parametrize("shape", [(2**40, 2**40, 8), (2**62, 8), (-1, 8)])
def test_sizes_that_overflow_64_bits(shape):
    x = overflowing(*shape)
    calls = [
        lambda: fast.rms_norm(x),
        lambda: fast.layer_norm(x),
        lambda: fast.rope(x, 8),
        lambda: fast.scaled_dot_product_attention(x, x, x),
        lambda: fast.rms_norm_vjp(x, x),
        lambda: fast.layer_norm_vjp(x, x),
        lambda: fast.add_rms_norm(x, x),
        lambda: fast.rope_vjp(x, 8),
    ]
    for call in calls:
        with pytest.raises((ValueError, MemoryError), match=": "):
            call()


def test_a_result_larger_than_memory():
    x = np.broadcast_to(np.float32(1), (2**50, 8))
    with pytest.raises(MemoryError, match="^rms_norm: "):
        fast.rms_norm(x)


@pytest.mark.parametrize(
    "n, error",
    [
        ("2", TypeError),
        (1.5, TypeError),
        (None, TypeError),
        (True, TypeError),
        (0, ValueError),
        (-1, ValueError),
        (1025, ValueError),
        (2**70, ValueError),
    ],
)
def test_set_num_threads(n, error):
    before = invar.info()["num_threads"]
    with pytest.raises(error, match="^set_num_threads: n: expected"):
        invar.set_num_threads(n)
    assert invar.info()["num_threads"] == before


def test_explain_refuses_what_the_call_refuses():
    for function in FUNCTIONS:
        assert fast.explain(function.name, **function.arguments)["operation"] == function.name
        assert fast.explain(function.call, **function.arguments)["operation"] == function.name
        argument, value, error = function.bad[0]
        with pytest.raises(error, match=f"^{function.name}: {argument}"):
            fast.explain(function.name, **(function.arguments | {argument: value}))
    for op, error in [("conv", ValueError), (3, TypeError), (None, TypeError), (len, ValueError)]:
        with pytest.raises(error, match="^explain: op: expected"):
            fast.explain(op, X)
    with pytest.raises(TypeError, match="^explain: op: expected"):
        fast.explain()


def test_explain_computes_nothing():
    for function in FUNCTIONS:
        destinations = function.destinations()
        given = (
            (*destinations, None, None)
            if function.destination == "gradients"
            else (destinations[0] if len(destinations) == 1 else tuple(destinations))
        )
        fast.explain(function.name, **function.arguments, **{function.destination: given})
        assert all((d == 7).all() for d in destinations)
