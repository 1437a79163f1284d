import invar.core as mx
import invar.core.fast as fast

# Input tensor
x = mx.random.normal((4, 128, 768))
weight = mx.ones((768,))
bias = mx.zeros((768,))

# Apply layer normalization
out = fast.layer_norm(x, weight, bias)
print(out.shape)  # (4, 128, 768)
