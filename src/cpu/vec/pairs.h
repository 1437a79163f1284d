/* Pairs of bfloat16 numbers, where the processor multiplies them (AVX512-BF16): a vector of VW pairs is a vf whose lanes hold
 * two numbers each, the one of the lower index in the lower half.
 *
 *   vf_dot_pairs(a, b, c)       c plus both products of each lane, as VDPBF16PS rounds them; denormals count as 0
 *   vf_pairs(low, high)         lane i: low[i] and high[i], each rounded to nearest even; denormals become 0
 *   vf_pairs_row(a, b)          the 2·VW floats of a, then b, as VW pairs of neighbours
 *   vf_pairs_load(low, high)    lane i: the bfloat16 numbers low[i] and high[i]; _n(low, high, n): of n lanes, the rest 0
 *   vf_pairs_load_mixed(low, high, &a, &b)  2·VW pairs by one shuffle each, in another order that suits sums of products;
 *   vf_pairs_order(&a, &b)      puts such sums into order: a those of the first VW, b of the rest
 *   vf_pairs_keep(a, l, h)      a with its lower halves 0 unless l, its higher ones unless h
 *   vf_pairs_finite(p, kept, &hides)  the 2·VW bfloat16 numbers at p whose bit in `kept` is set, with the least finite one for -inf;
 *                               0 for the others, which are not read. hides: gets the bits of those that are -inf besides
 *   vf_pairs_of_bytes(p, kept, &hides)  the same of booleans: 0, or that least number for one that is false
 *
 * A float as the sum of two bfloat16 numbers, its leading part and the rest (Henry, Tang & Heinecke, 2019):
 *
 *   vf_pairs_split(a, b, nearest, &h, &l)  lane i: the leading parts of a[i] and b[i], their first 8 bits or the nearest number
 *                               of as many, and the rest of each, of float16's numbers all. A rest of 0, and of no nearest part,
 *                               is 2⁻²³ of its number, so that an infinity times both parts is infinite, not NaN. An infinity's
 *                               rest is finite
 *   vf_pairs_split_weights(a, b, &h, &l)  the same of any finite numbers >= 0: what the two leave out is below 2⁻¹⁵, on average none
 */
#define VEC_PAIRS 1

VEC_INLINE vf vf_dot_pairs(vf a, vf b, vf c) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }

VEC_INLINE vf vf_pairs_row(vf a, vf b) { return (vf)_mm512_cvtne2ps_pbh(b, a); }

VEC_INLINE vf vf_pairs(vf low, vf high) {
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                           20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both));
}

VEC_INLINE vf vf_pairs_load(const uint16_t *low, const uint16_t *high) {
    const __m512i a = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)low));
    const __m512i b = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)high));
    return _mm512_castsi512_ps(_mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
}

VEC_INLINE void vf_pairs_load_mixed(const uint16_t *low, const uint16_t *high, vf *a, vf *b) {
    const __m512i first = _mm512_loadu_si512((const void *)low), second = _mm512_loadu_si512((const void *)high);
    *a = _mm512_castsi512_ps(_mm512_unpacklo_epi16(first, second)); /* of every eight numbers the lower four */
    *b = _mm512_castsi512_ps(_mm512_unpackhi_epi16(first, second));
}

VEC_INLINE void vf_pairs_order(vf *a, vf *b) {
    const __m512i first = _mm512_set_epi32(23, 22, 21, 20, 7, 6, 5, 4, 19, 18, 17, 16, 3, 2, 1, 0);
    const vf x = _mm512_permutex2var_ps(*a, first, *b);
    *b = _mm512_permutex2var_ps(*a, _mm512_add_epi32(first, _mm512_set1_epi32(8)), *b);
    *a = x;
}

VEC_INLINE vf vf_pairs_load_n(const uint16_t *low, const uint16_t *high, int n) {
    const __m512i a = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vm_first(n), low));
    const __m512i b = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vm_first(n), high));
    return _mm512_castsi512_ps(_mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
}

VEC_INLINE vf vf_pairs_finite(const void *p, uint32_t kept, uint32_t *hides) {
    const __m512i x = _mm512_maskz_loadu_epi16(kept, p);
    const __mmask32 hidden = _mm512_cmpeq_epi16_mask(x, _mm512_set1_epi16((short)0xff80));
    *hides |= hidden;
    return _mm512_castsi512_ps(_mm512_mask_mov_epi16(x, hidden, _mm512_set1_epi16((short)0xff7f)));
}
VEC_INLINE vf vf_pairs_of_bytes(const void *p, uint32_t kept, uint32_t *hides) {
    const __m256i bytes = _mm256_maskz_loadu_epi8(kept, p);
    const __mmask32 hidden = _mm256_mask_testn_epi8_mask(kept, bytes, bytes);
    *hides |= hidden;
    return _mm512_castsi512_ps(_mm512_maskz_set1_epi16(hidden, (short)0xff7f));
}

/* The upper halves of each lane of a and b. */
VEC_INLINE vf vec_upper_halves_(vf a, vf b) {
    const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(a), 16), mask = _mm512_set1_epi32((int)0xffff0000u);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(low, _mm512_castps_si512(b), mask, 0xf8)); /* low | (b & mask) */
}

/* What is left of a without the upper half of `leading`, and a little of a that is lost again where anything is left. */
VEC_INLINE vf vec_rest_(vf a, vf leading, float more) {
    const __m512i mask = _mm512_set1_epi32((int)0xffff0000u);
    return _mm512_fmsub_ps(a, _mm512_set1_ps(more), _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(leading), mask)));
}

VEC_INLINE vf vec_half_up_(vf a, const bool nearest) {
    return nearest ? _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_set1_epi32(0x8000))) : a;
}

VEC_INLINE void vf_pairs_split(vf a, vf b, const bool nearest, vf *high, vf *low) {
    const vf first = vec_half_up_(a, nearest), second = vec_half_up_(b, nearest);
    const float more = nearest ? 1 : 1 + 0x1p-23f;
    const vf rest = vec_upper_halves_(vec_rest_(a, first, more), vec_rest_(b, second, more));
    const __m512i most = _mm512_set1_epi16((short)0xc400); /* -512: no rest's bits are more, but those of an invalid difference */
    *high = vec_upper_halves_(first, second);
    *low = _mm512_castsi512_ps(_mm512_min_epu16(_mm512_castps_si512(rest), most));
}

/* The rest's own rest is cut off, 2⁻¹⁶·⁶ of the number on average: that much is added first. */
VEC_INLINE void vf_pairs_split_weights(vf a, vf b, vf *high, vf *low) {
    *high = vec_upper_halves_(a, b);
    *low = vec_upper_halves_(vec_rest_(a, a, 1.000007f), vec_rest_(b, b, 1.000007f));
}

VEC_INLINE vf vf_pairs_keep(vf a, bool low, bool high) {
    const uint32_t kept = (low ? 0xffffu : 0) | (high ? 0xffff0000u : 0);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32((int)kept)));
}
