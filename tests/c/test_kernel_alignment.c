/* Kernels that read their arrays through pointers to vectors, over arrays that begin at any element. */
#define _GNU_SOURCE
#include "kernel_case.h"

enum { COUNT = 64 };

/* A view of `count` elements of 4 bytes that begins `skip` bytes past the array's first. */
static invar_tensor view_from(const check_array *array, uint64_t skip, const int64_t *shape) {
    invar_tensor view = array->tensor;
    view.byte_offset += skip;
    view.shape = (int64_t *)shape;
    return view;
}

static const char vectors[] = "uint i = 4 * thread_position_in_grid.x;\n"
                              "float4 v = *(const device float4 *)(a + i) * *reinterpret_cast<const device float4 *>(b + i);\n"
                              "*(device float4 *)(out + i) = v;\n";

/* Every place of inputs and output in a row of 16 bytes, and nothing beside the output written. */
static void every_place(void) {
    begin();
    static const int64_t shape[] = { COUNT };
    check_array a, b, out;
    check_array_init(&a, check_f32, CHECK_SHAPE(COUNT + 4));
    check_array_init(&b, check_f32, CHECK_SHAPE(COUNT + 4));
    check_array_init(&out, check_f32, CHECK_SHAPE(COUNT + 4));
    for (int64_t i = 0; i < COUNT + 4; i++) check_set(&a.tensor, i, (double)i), check_set(&b.tensor, i, 2);
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "vectors", vectors);
    invar_kernel *kernel = create(&d);
    invar_launch_options options = grid_of(COUNT / 4, 8);
    for (uint64_t skip = 0; skip < 16; skip += 4) {
        invar_tensor ta = view_from(&a, skip, shape), tb = view_from(&b, 16 - skip, shape), to = view_from(&out, skip, shape);
        for (int64_t i = 0; i < COUNT + 4; i++) check_set(&out.tensor, i, -1);
        CHECK_OK(launch(kernel, &to, &ta, &tb, &options));
        for (int64_t i = 0; i < COUNT + 4; i++) {
            int64_t first = (int64_t)skip / 4;
            double expected = i < first || i >= first + COUNT ? -1 : 2 * (double)i;
            CHECK(check_get(&out.tensor, i) == expected, "from byte %d: element %d is %g", (int)skip, (int)i,
                  check_get(&out.tensor, i));
        }
    }
    invar_kernel_destroy(kernel);
    check_array_free(&a), check_array_free(&b), check_array_free(&out);
    end();
}

/* Elements that no thread writes keep init_value, and strides are still the caller's own. */
static void init_value_and_strides(void) {
    begin();
    static const int64_t shape[] = { COUNT }, rows[] = { 4, 4 };
    static int64_t strides[] = { -8, 1 };
    check_array a, b, out;
    check_array_init(&a, check_f32, CHECK_SHAPE(COUNT));
    check_array_init(&b, check_f32, CHECK_SHAPE(1));
    check_array_init(&out, check_f32, CHECK_SHAPE(COUNT + 4));
    for (int64_t i = 0; i < COUNT; i++) check_set(&a.tensor, i, (double)i);
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "rows",
        "uint i = thread_position_in_grid.x;\n"
        "float4 v = *(const device float4 *)(a + int(i) * a_strides[0]);\n"
        "*(device float4 *)(out + 4 * i) = v;\n");
    d.ensure_row_contiguous = 0;
    invar_kernel *kernel = create(&d);
    invar_launch_options options = grid_of(4, 4);
    options.has_init_value = 1;
    options.init_value = 7;
    invar_tensor ta = view_from(&a, 4 * 25, rows), to = view_from(&out, 4, shape);
    ta.ndim = 2;
    ta.strides = strides;
    CHECK_OK(launch(kernel, &to, &ta, &b.tensor, &options));
    for (int64_t i = 0; i < COUNT; i++) {
        double expected = i < 16 ? (double)(25 - 8 * (i / 4) + i % 4) : 7;
        CHECK(check_get(&to, i) == expected, "element %d is %g", (int)i, check_get(&to, i));
    }
    invar_kernel_destroy(kernel);
    check_array_free(&a), check_array_free(&b), check_array_free(&out);
    end();
}

/* The alignment that a text asks for, told by the scratch that its plan has for arrays of 256 bytes. */
static void what_is_copied(void) {
    static const struct {
        int32_t dialect;
        const char *source;
        size_t workspace;
    } cases[] = {
        { INVAR_DIALECT_METAL, multiply, 0 },
        { INVAR_DIALECT_METAL, "float4 v = float4(a[0] * b[0]); out[0] = v.x && v.y;", 0 },
        { INVAR_DIALECT_METAL, vectors, 3 * 256 },
        { INVAR_DIALECT_METAL, "auto p = static_cast<const device float4 *const>(nullptr);", 3 * 256 },
        { INVAR_DIALECT_METAL, "using row = const device float4 *; row p = (row)a;", 3 * 256 },
        { INVAR_DIALECT_CUDA, "typedef float4 *row; ((row)out)[0] = make_float4(0, 0, 0, 0);", 3 * 256 },
        { INVAR_DIALECT_CUDA, "out[0] = unsafe_load_vector<4>(a, 0)[1];", 3 * 256 },
    };
    static const int64_t shape[] = { COUNT };
    check_array a;
    check_array_init(&a, check_f32, CHECK_SHAPE(COUNT + 4));
    invar_tensor view = view_from(&a, 0, shape);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_array out;
        invar_plan plan = INVAR_PLAN_INIT;
        invar_kernel_description d = describe(cases[i].dialect, "k", cases[i].source);
        invar_kernel *kernel = create(&d);
        invar_launch_options options = grid_of(1, 1);
        options.execution.plan = &plan;
        check_array_init(&out, check_f32, CHECK_SHAPE(COUNT));
        CHECK_OK(launch(kernel, &out.tensor, &view, &view, &options));
        CHECK(plan.workspace == cases[i].workspace, "%s: %zu", cases[i].source, plan.workspace);
        invar_kernel_destroy(kernel);
        check_array_free(&out);
    }
    check_array_free(&a);
}

CHECK_MAIN(CHECK_TEST(every_place), CHECK_TEST(init_value_and_strides), CHECK_TEST(what_is_copied))
