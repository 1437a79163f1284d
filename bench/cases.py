"""The cases that are timed: what each computes, and the work it is counted as (docs/performance.md).

A case is a dict: family, op, its sizes, dtype, mask, variant; bytes is the least traffic to memory (each input read
once, each output written once), flops the arithmetic of the matrix products, causal counted half.
"""

SIZE = {"f32": 4, "bf16": 2, "f16": 2}


def _norms():
    for dtype in ("f32", "bf16"):
        for rows, width in ((1, 4096), (8192, 4096), (65536, 512)):
            for op in ("rms_norm", "layer_norm", "rms_norm_vjp", "layer_norm_vjp"):
                passes = 3 if op.endswith("vjp") else 2
                size = dict(n=rows, d=width, bytes=passes * rows * width * SIZE[dtype])
                yield dict(family="norms", op=op, dtype=dtype, out=False, **size)
                if rows > 1:
                    yield dict(family="norms", op=op, dtype=dtype, out=True, **size)


# batch, heads, positions, head size: queries of a prompt and of one position, keys of a prompt, image patches
_ROPE = ((1, 32, 2048, 128), (1, 32, 1, 128), (1, 8, 4096, 64), (4, 12, 197, 64))


def _rope():
    for dtype in ("f32", "bf16"):
        for b, h, t, d in _ROPE:
            size = dict(B=b, H=h, T=t, D=d, bytes=2 * b * h * t * d * SIZE[dtype])
            yield dict(family="rope", op="rope", dtype=dtype, out=False, **size)
            if t > 1:
                yield dict(family="rope", op="rope", dtype=dtype, out=True, **size)


# batch, query heads, kv heads, queries, keys, head size, mask
_PREFILL = (
    (2, 8, 8, 128, 128, 64, "additive"),
    (1, 32, 8, 2048, 2048, 128, "causal"),
    (1, 8, 8, 4096, 4096, 64, None),
    (1, 16, 16, 1024, 1024, 80, None),
    (1, 8, 8, 1024, 1024, 256, "causal"),
)
_EXTRA = (
    (1, 8, 8, 4096, 4096, 64, "window"),
    (1, 8, 8, 2048, 2048, 64, None),
    (1, 8, 8, 2048, 2048, 64, "additive"),
    (1, 8, 8, 2048, 2048, 64, "bias"),
    (1, 8, 8, 2048, 2048, 64, "bool"),
    (1, 16, 16, 1024, 1024, 40, None),
    (1, 16, 16, 1024, 1024, 96, None),
    (1, 16, 16, 1024, 1024, 100, None),
)
# As models call it: a chunk of a long prompt, one head of one, image patches, an image's queries on the keys of its text.
_MODELS = (
    (1, 32, 8, 128, 4096, 128, None),
    (1, 1, 1, 256, 4096, 128, None),
    (8, 12, 12, 197, 197, 64, None),
    (2, 8, 8, 4096, 77, 40, None),
)
_DECODE = ((1, 32, 8, 1, 4096, 128, None), (1, 32, 8, 1, 32768, 128, None), (8, 32, 8, 1, 4096, 128, None))
_SMALL = ((1, 1, 1, 1, 64, 64, None),)
_BACKWARD = ((1, 8, 8, 1024, 1024, 64, None), (1, 8, 8, 1024, 1024, 128, "causal"), (32, 8, 8, 16, 16, 64, None))
WINDOW = 256
# additive and bool masks have causal's shape; a bias hides no key


def _attention():
    def case(family, sizes, dtype):
        b, h, kv, t, s, d, mask = sizes
        keys = min(s, WINDOW + 1) if mask == "window" else s / 2 if mask == "causal" else s
        return dict(
            family=family, op="attention", dtype=dtype, B=b, H=h, K=kv, T=t, S=s, D=d, mask=mask,
            flops=4 * b * h * t * keys * d, bytes=SIZE[dtype] * (2 * b * h * t * d + 2 * b * kv * s * d),
        )

    for dtype in ("f32", "bf16", "f16"):
        yield from (case("prefill", sizes, dtype) for sizes in _PREFILL)
        yield from (case("decode", sizes, dtype) for sizes in _DECODE)
    yield from (case("prefill", sizes, "f32") for sizes in _EXTRA)
    yield from (case("prefill", sizes, dtype) for dtype in ("f32", "bf16") for sizes in _MODELS)
    yield from (case("decode", sizes, "f32") for sizes in _SMALL)


def _backward():
    for dtype in ("f32", "bf16"):
        for b, h, kv, t, s, d, mask in _BACKWARD:
            flops = 10 * b * h * t * s * d * (0.5 if mask else 1)
            yield dict(family="backward", op="attention_vjp", dtype=dtype, B=b, H=h, K=kv, T=t, S=s, D=d, mask=mask,
                       flops=flops, bytes=0)


def cases():
    return [*_norms(), *_rope(), *_attention(), *_backward()]


def name(case):
    """One short line that says which case this is."""
    if "n" in case:
        size = f"{case['n']}x{case['d']}"
    elif case["op"] == "rope":
        size = f"{case['B']}x{case['H']}x{case['T']}x{case['D']}"
    else:
        size = f"{case['B']}x{case['H']}/{case['K']} {case['T']}x{case['S']} D{case['D']}"
    extra = [case[k] if k == "mask" else "out=" for k in ("mask", "out") if case.get(k)]
    return " ".join([case["op"], case["dtype"], size, *extra])


def work(case):
    """What bounds this case, as bench/roofs.c names it, and the work to divide by that roof's rate."""
    if case["family"] in ("norms", "rope"):
        return "copy", case["bytes"]
    if case["family"] == "decode":
        return "read", case["bytes"]
    return "dot" if case["dtype"] == "bf16" else "fma", case["flops"]
