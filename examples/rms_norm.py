import invar.core as mx
import invar.core.fast as fast

# Input tensor
x = mx.random.normal((2, 10, 512))
weight = mx.ones((512,))

# Apply RMS normalization
out = fast.rms_norm(x, weight, eps=1e-6)
print(out.shape)  # (2, 10, 512)
