// in: w uint32 1 / out: o float32 1 / out: back uint32 1
// body
uint i = thread_position_in_grid.x;
float4 f = metal::unpack_unorm4x8_to_float(w[i] & 0x03030303u);
half2 h = unpack_snorm2x16_to_half(w[i]);
o[i] = dot(f, float4(1.0f)) + float(h.x);
back[i] = pack_float_to_unorm4x8(f) ^ pack_half_to_snorm2x16(h) ^ pack_float_to_srgb_unorm4x8(unpack_unorm4x8_srgb_to_float(w[i]));
