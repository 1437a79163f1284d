import invar.core as mx
import invar.core.fast as fast

batch_size = 2
num_heads = 8
seq_len = 128
head_dim = 64

# Create query, key, value tensors
q = mx.random.normal((batch_size, num_heads, seq_len, head_dim))
k = mx.random.normal((batch_size, num_heads, seq_len, head_dim))
v = mx.random.normal((batch_size, num_heads, seq_len, head_dim))

# Create causal mask
mask = mx.tril(mx.ones((seq_len, seq_len)))
mask = mx.where(mask, 0.0, float('-inf'))

# Compute attention
out = fast.scaled_dot_product_attention(q, k, v, mask=mask)
print(out.shape)  # (2, 8, 128, 64)
