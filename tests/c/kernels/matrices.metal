// in: x float32 1, frame float32 1 / out: y float32 1
float3x3 turn(float angle) {
    float c = cos(angle), s = sin(angle);
    return float3x3(float3(c, s, 0), float3(-s, c, 0), float3(0, 0, 1));
}
// body
uint i = thread_position_in_grid.x;
float3x3 m = turn(frame[i]);
m *= transpose(turn(0.5f));
float3 v = m * float3(x[3 * i], x[3 * i + 1], x[3 * i + 2]) + float3(1, 0, 0) * m;
half2x2 h(1.0h, 2.0h, 3.0h, 4.0h);
matrix<float, 2, 4> tall(float4(1), float4(2));
y[i] = v.x + m[1].y * determinant(m) + float(determinant(h)) + (tall * float2(1, 2)).w + float4x4(2.0f)[3][3];
