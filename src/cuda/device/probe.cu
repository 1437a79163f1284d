/* Adds one to each of `count` words: whether a program can be compiled, loaded and launched here. */
struct probe_job {
    unsigned *words;
    unsigned count;
};

extern "C" __global__ void invar_probe(const __grid_constant__ probe_job job) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < job.count) job.words[i] += 1;
}
