/* Entry points on the host: what calls the body for each thread. */
#include "jit/program.h"

/* Locals of an entry point: the arrays. */
static void put_arrays(const invar_generator *g) {
    for (int32_t k = 0; k < g->source->array_count; k++) {
        const char *type = invar_array_type(g, k), *constant = invar_is_output(g, k) ? "" : "const ";
        int i = (int)k;
        if (invar_is_scalar(g, k)) PUT("    const %s invar_array_%d = *(const %s *)invar_l.arrays[%d];\n", type, i, type, i);
        else if (invar_is_atomic(g, k)) PUT("    auto *invar_array_%d = (atomic<%s> *)invar_l.arrays[%d];\n", i, type, i);
        else PUT("    auto *invar_array_%d = (%s%s *)invar_l.arrays[%d];\n", i, constant, type, i);
    }
}

/* ---- shapes, threads, tables ---- */

/* Metal: pointers to what the launch holds; CUDA: arrays of their own. */
static void put_shape(const invar_generator *g, int32_t k, const char *type, const char *element, const char *name) {
    int i = (int)k, ndim = (int)g->key->arrays[k].ndim;
    if (invar_is_metal(g->source)) PUT("    const %s *invar_%s_%d = invar_l.%ss[%d];\n", element, name, i, name, i);
    else PUT("    %s invar_%s_%d{};\n    for (int i = 0; i < %d; i++) invar_%s_%d[i] = invar_l.%ss[%d][i];\n", type, name, i,
             ndim, name, i, name, i);
}

/* Locals of an entry point: what the text uses of shapes. */
static void put_shapes(const invar_generator *g) {
    for (int32_t k = 0; k < g->source->array_count; k++) {
        uint8_t uses = g->source->uses[k];
        if (uses & INVAR_USES_SHAPE) put_shape(g, k, "Shape", "int", "shape");
        if (uses & INVAR_USES_STRIDES) put_shape(g, k, "Strides", "int64_t", "stride");
        if (!(uses & INVAR_USES_SIZE)) continue;
        PUT("    int64_t invar_size_%d = 1;\n", (int)k);
        for (int d = 0; d < g->key->arrays[k].ndim; d++)
            PUT("    invar_size_%d *= invar_l.shapes[%d][%d];\n", (int)k, (int)k, d);
    }
}

void invar_put_call(const invar_generator *g) {
    put(g, "invar_body");
    invar_put_template_values(g);
    invar_put_parameters(g, false);
    put(g, ";\n");
}

/* Arrays as parameters and arguments of a row. */
static void put_row_arrays(const invar_generator *g, bool parameter) {
    for (int32_t k = 0; k < g->source->array_count; k++) {
        put(g, k ? ", " : "");
        if (parameter) invar_put_array_type(g, k);
        PUT("invar_array_%d", (int)k);
    }
}

/* A row of threads along x is a function of its own: g++ keeps __restrict of parameters, and what is known of x1, only so.
 * Positions below 2^31 make an index that the kernel holds in an int a plain one; the grid has no others, and the padding
 * of a block that does is left out. */
static void put_row(const invar_generator *g) {
    put(g, "static __attribute__((noinline)) void invar_run_row(");
    put_row_arrays(g, true);
    put(g, ", const invar_launch *invar_launch_at, const invar_block *invar_b, const uint32_t y, const uint32_t z) {\n"
           "    const invar_launch invar_l = *invar_launch_at;\n"
           "    const uint32_t x0 = invar_b->begin[0], y0 = invar_b->begin[1], z0 = invar_b->begin[2];\n"
           "    const uint32_t x1 = invar_b->end[0], y1 = invar_b->end[1], z1 = invar_b->end[2];\n"
           "    const uint32_t gx = invar_b->group[0], gy = invar_b->group[1], gz = invar_b->group[2];\n"
           "    const uint32_t sx = x1 - x0, sy = y1 - y0, sz = z1 - z0;\n"
           "    const uint32_t last = x1 < 0x80000000u ? x1 : 0x80000000u;\n");
    put_shapes(g);
    bool atomics = false;
    for (int32_t k = 0; k < g->source->item_count; k++) atomics |= g->source->items[k].kind == INVAR_CALL_ATOMIC;
    /* Threads of a loop are independent; g++ does not always see it from __restrict. */
    if (!atomics) put(g, "#if !defined(__clang__)\n#pragma GCC ivdep\n#endif\n");
    put(g, "    for (uint32_t x = x0; x < last; x++) {\n"
           "        const invar_position invar_p = { { x, y, z }, { x - x0, y - y0, z - z0 }, { gx, gy, gz },\n"
           "            { sx, sy, sz }, (x - x0) + sx * ((y - y0) + sy * (z - z0)) };\n"
           "        (void)invar_p;\n"
           "        ");
    invar_put_call(g);
    put(g, "    }\n}\n");
}

static void put_block(const invar_generator *g) {
    put_row(g);
    put(g, "static void invar_run_block(const invar_launch *invar_launch_at, const invar_block *invar_b) {\n"
           "    const invar_launch &invar_l = *invar_launch_at;\n");
    put_arrays(g);
    put(g, "    for (uint32_t z = invar_b->begin[2]; z < invar_b->end[2]; z++)\n"
           "        for (uint32_t y = invar_b->begin[1]; y < invar_b->end[1]; y++) invar_run_row(");
    put_row_arrays(g, false);
    put(g, ", invar_launch_at, invar_b, y, z);\n}\n");
}

static void put_thread(const invar_generator *g) {
    put(g, "static void invar_run_thread(const invar_lane *invar_lane_at) {\n"
           "    const invar_launch &invar_l = *invar_lane_at->launch;\n"
           "    const invar_position &invar_p = invar_lane_at->position;\n"
           "    (void)invar_p;\n");
    put_arrays(g);
    put_shapes(g);
    put(g, "    ");
    invar_put_call(g);
    put(g, "}\n");
}

static void put_sites(const invar_generator *g) {
    const invar_source *source = g->source;
    put(g, "static const invar_site invar_sites[] = {\n    { nullptr, nullptr, 0 },\n");
    for (int32_t k = 1; k < source->place_count; k++) {
        const invar_item *item = &source->items[source->places[k]], *call = item->of >= 0 ? &source->items[item->of] : item;
        const invar_file *file = &source->files[call->file];
        const invar_token *name = &file->tokens[call->token];
        PUT("    { \"%s.%s\", \"%.*s\", %d },\n", source->name, invar_source_suffix(source, item->file), (int)name->length,
            file->text + name->start, (int)source->files[item->file].tokens[item->token].line);
    }
    put(g, "};\n");
}

static void put_storage_table(const invar_generator *g) {
    const invar_source *source = g->source;
    put(g, "invar_shared invar_shared_table[INVAR_MAX_SHARED] = {\n");
    for (int32_t k = 0; k < source->storage_count; k++) {
        const invar_storage *storage = &source->storage[k];
        const invar_token *name = &source->files[storage->file].tokens[storage->name];
        if (storage->dynamic) put(g, "    { nullptr, 0, 0 },\n");
        else PUT("    { \"%.*s\", 0, 0 },\n", (int)name->length, source->files[storage->file].text + name->start);
    }
    put(g, "};\n");
}

void invar_put_host_entry(const invar_generator *g) {
    if (g->loop) put_block(g);
    else put_thread(g);
    put_sites(g);
    put(g, "}\n"); /* namespace user */
    put_storage_table(g);
    uint32_t mode = g->source->mode;
    if (g->check && mode < INVAR_MODE_SIMD) mode = INVAR_MODE_SIMD;
    PUT("extern \"C\" {\n__attribute__((visibility(\"default\"))) extern invar_module invar_kernel_module;\n"
        "invar_module invar_kernel_module = { INVAR_RUNTIME_VERSION, %u, %s, %s, user::invar_sites, invar_shared_table, "
        "%d };\n}\n",
        (unsigned)mode, g->loop ? "user::invar_run_block" : "nullptr", g->loop ? "nullptr" : "user::invar_run_thread",
        (int)g->source->place_count);
    put(g, "}\n"); /* namespace invar_shim */
}
