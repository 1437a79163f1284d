/* The entry point on a CUDA device, and the parameter that a launch hands to it. */
#include "jit/program.h"

#include <string.h>

/* ---- the parameter ---- */

/* The argument of the kernel, by value: what of a launch it uses. invar_pack_launch writes the same, member by member. */
static void put_device_launch(const invar_generator *g) {
    const invar_source *source = g->source;
    PUT("struct invar_launch {\n    void *arrays[%d];\n    int64_t size;\n"
        "    uint32_t grid[3], threadgroup[3], groups[3];\n", (int)source->array_count);
    for (int32_t k = 0; k < source->array_count; k++) {
        int ndim = g->key->arrays[k].ndim;
        bool metal = invar_is_metal(source);
        if (source->uses[k] & INVAR_USES_SHAPE) {
            if (metal) PUT("    int shape_%d[%d];\n", (int)k, ndim ? ndim : 1);
            else PUT("    Shape shape_%d;\n", (int)k);
        }
        if (source->uses[k] & INVAR_USES_STRIDES) {
            if (metal) PUT("    int64_t strides_%d[%d];\n", (int)k, ndim ? ndim : 1);
            else PUT("    Strides strides_%d;\n", (int)k);
        }
        if (source->uses[k] & INVAR_USES_SIZE) PUT("    int64_t size_%d;\n", (int)k);
        if (invar_is_number(g, k)) PUT("    uint64_t number_%d;\n", (int)k);
    }
    PUT("};\nstatic_assert(sizeof(invar_launch) == %zu, \"packed otherwise\");\n",
        invar_pack_launch(source, g->key->arrays, NULL, NULL, NULL));
}

/* Writes values of `size` bytes behind each other, aligned to their size, as the compiler lays members out. */
typedef struct packer {
    char *bytes; /* NULL: counts only */
    size_t length;
} packer;

/* `count` values, and zeros up to `places` of them. values NULL: counts only. */
static void pack(packer *p, size_t size, int places, const void *values, int count) {
    p->length = (p->length + size - 1) / size * size;
    if (p->bytes) {
        memset(p->bytes + p->length, 0, size * (size_t)places);
        if (values && count) memcpy(p->bytes + p->length, values, size * (size_t)count);
    }
    p->length += size * (size_t)places;
}

size_t invar_pack_launch(const invar_source *source, const invar_array_key *arrays, const invar_launch *launch,
                         const uint64_t *numbers, char *bytes) {
    enum { CUDA_DIMS = 10 }; /* MAX_NDIM of shim/cuda.h */
    static const invar_launch none = { 0 };
    packer p = { launch ? bytes : NULL, 0 };
    const invar_launch *l = launch ? launch : &none;
    pack(&p, sizeof(void *), source->array_count, l->arrays, source->array_count);
    pack(&p, sizeof l->size, 1, &l->size, 1);
    pack(&p, sizeof *l->grid, 3, l->grid, 3);
    pack(&p, sizeof *l->threadgroup, 3, l->threadgroup, 3);
    pack(&p, sizeof *l->groups, 3, l->groups, 3);
    for (int32_t k = 0; k < source->array_count; k++) {
        const int ndim = arrays[k].ndim, places = !invar_is_metal(source) ? CUDA_DIMS : ndim ? ndim : 1;
        int64_t size = 1;
        for (int d = 0; launch && d < ndim; d++) size *= l->shapes[k][d];
        if (source->uses[k] & INVAR_USES_SHAPE) pack(&p, sizeof(int32_t), places, launch ? l->shapes[k] : NULL, ndim);
        if (source->uses[k] & INVAR_USES_STRIDES) pack(&p, sizeof(int64_t), places, launch ? l->strides[k] : NULL, ndim);
        if (source->uses[k] & INVAR_USES_SIZE) pack(&p, sizeof size, 1, &size, 1);
        if (k < source->input_count && !ndim) pack(&p, sizeof(uint64_t), 1, numbers ? &numbers[k] : NULL, numbers ? 1 : 0);
    }
    pack(&p, sizeof(void *), 0, NULL, 0);
    return p.length;
}

/* ---- the entry point ---- */

/* Locals of the entry point: the arrays. A number has no address where the launch brings its value. */
static void put_device_arrays(const invar_generator *g) {
    for (int32_t k = 0; k < g->source->array_count; k++) {
        const char *type = invar_array_type(g, k), *constant = invar_is_output(g, k) ? "" : "const ";
        int i = (int)k;
        PUT("    auto *invar_%s_%d = (%s%s%s%s *)", invar_is_scalar(g, k) ? "place" : "array", i, constant,
            invar_is_atomic(g, k) ? "atomic<" : "", type, invar_is_atomic(g, k) ? ">" : "");
        if (invar_is_number(g, k)) PUT("(invar_l.arrays[%d] ? invar_l.arrays[%d] : &invar_l.number_%d);\n", i, i, i);
        else PUT("invar_l.arrays[%d];\n", i);
        if (invar_is_scalar(g, k)) PUT("    const %s invar_array_%d = *invar_place_%d;\n", type, i, i);
    }
}

static void put_device_shapes(const invar_generator *g) {
    const invar_source *source = g->source;
    for (int32_t k = 0; k < source->array_count; k++) {
        int i = (int)k;
        if (source->uses[k] & INVAR_USES_SHAPE) PUT("    const auto &invar_shape_%d = invar_l.shape_%d;\n", i, i);
        if (source->uses[k] & INVAR_USES_STRIDES) PUT("    const auto &invar_stride_%d = invar_l.strides_%d;\n", i, i);
        if (source->uses[k] & INVAR_USES_SIZE) PUT("    const int64_t invar_size_%d = invar_l.size_%d;\n", i, i);
    }
}

/* Metal's edge groups have only the threads of the grid, counted by the group's own size: blocks are lines of threads, and the
 * groups are a line of blocks where there are more of them along y or z than CUDA has blocks. */
static const char DEVICE_POSITION[] =
    "    invar_position invar_p;\n"
    "    invar_p.group[0] = blockIdx.x, invar_p.group[1] = blockIdx.y, invar_p.group[2] = blockIdx.z;\n"
    "    if (gridDim.y != invar_l.groups[1] || gridDim.z != invar_l.groups[2]) {\n"
    "        uint64_t block = blockIdx.x + (uint64_t)gridDim.x * (blockIdx.y + (uint64_t)gridDim.y * blockIdx.z);\n"
    "        invar_p.group[0] = (uint32_t)(block % invar_l.groups[0]), block /= invar_l.groups[0];\n"
    "        invar_p.group[1] = (uint32_t)(block % invar_l.groups[1]), block /= invar_l.groups[1];\n"
    "        if (block >= invar_l.groups[2]) return;\n"
    "        invar_p.group[2] = (uint32_t)block;\n"
    "    }\n"
    "    invar_p.index = threadIdx.x;\n"
    "    for (int d = 0; d < 3; d++) {\n"
    "        const uint32_t left = invar_l.grid[d] - invar_p.group[d] * invar_l.threadgroup[d];\n"
    "        invar_p.size[d] = left < invar_l.threadgroup[d] ? left : invar_l.threadgroup[d];\n"
    "    }\n"
    "    if (invar_p.index >= invar_p.size[0] * invar_p.size[1] * invar_p.size[2]) return;\n"
    "    invar_p.local[0] = invar_p.index, invar_p.local[1] = invar_p.local[2] = 0;\n"
    "    if (invar_l.threadgroup[1] != 1 || invar_l.threadgroup[2] != 1) {\n" /* divisions cost more than many a kernel */
    "        invar_p.local[0] = invar_p.index % invar_p.size[0];\n"
    "        invar_p.local[1] = invar_p.index / invar_p.size[0] % invar_p.size[1];\n"
    "        invar_p.local[2] = invar_p.index / (invar_p.size[0] * invar_p.size[1]);\n"
    "    }\n"
    "    for (int d = 0; d < 3; d++)\n"
    "        invar_p.grid[d] = invar_p.group[d] * invar_l.threadgroup[d] + invar_p.local[d];\n";

void invar_put_device_entry(const invar_generator *g) {
    put(g, "struct invar_position {\n    uint32_t grid[3], local[3], group[3], size[3], index;\n};\n");
    put_device_launch(g);
    put(g, "extern \"C\" __global__ void invar_kernel(const __grid_constant__ invar_launch invar_l) {\n");
    put_device_arrays(g);
    put_device_shapes(g);
    if (invar_is_metal(g->source)) put(g, DEVICE_POSITION);
    put(g, "    ");
    invar_put_call(g);
    put(g, "}\n}\n}\n");
}
