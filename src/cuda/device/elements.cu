/* Copies an array to row-major order, or fills one. An element is WORDS words of UNIT bytes: no array is sure to be aligned to
 * more than a word. */
#include "elements_job.h"

#if UNIT == 1
typedef unsigned char word;
#elif UNIT == 2
typedef unsigned short word;
#elif UNIT == 4
typedef unsigned word;
#else
typedef unsigned long long word;
#endif

struct element {
    word words[WORDS];
};

__device__ inline element filling(unsigned long long value) {
    element made;
    for (int i = 0; i < WORDS; i++) made.words[i] = (word)(value >> 8 * UNIT * i);
    return made;
}

extern "C" __global__ void invar_elements(const __grid_constant__ invar_cuda_elements_job job) {
    element *to = (element *)job.to;
    const element *from = (const element *)job.from;
    const element value = filling(job.value);
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < job.count; i += step) {
        long long offset = 0, rest = i;
        for (int d = job.ndim - 1; d >= 0; d--) {
            const long long above = d ? rest / job.shape[d] : 0;
            offset += (rest - above * job.shape[d]) * job.stride[d];
            rest = above;
        }
        to[i] = from ? from[offset] : value;
    }
}
