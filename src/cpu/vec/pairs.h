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

VEC_INLINE vf vf_pairs_keep(vf a, bool low, bool high) {
    const uint32_t kept = (low ? 0xffffu : 0) | (high ? 0xffff0000u : 0);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32((int)kept)));
}
