/* Tests of the C API of custom kernels: what is refused and when, layouts, init_value, the table of programs. */
#define _GNU_SOURCE
#include "kernel_case.h"

static const invar_dtype u8 = { INVAR_UINT, 8, 1 }, i8 = { INVAR_INT, 8, 1 }, c64 = { INVAR_COMPLEX, 64, 1 };

/* ---- creating ------------------------------------------------------------------------------------------- */

static void descriptions(void) {
    static const char *const twice[] = { "a", "a" }, *const number[] = { "1a", "b" }, *const spaced[] = { "a b", "b" };
    static const char *const reserved[] = { "invar_here", "b" }, *const null[] = { "a", NULL }, *const same[] = { "a" };
    invar_kernel *kernel = NULL;
    invar_kernel_description good = describe(INVAR_DIALECT_METAL, "k", multiply), d;
    CHECK_FAILS(invar_kernel_create(NULL, &good), INVAR_ERROR_NULL, "kernel");
    CHECK_FAILS(invar_kernel_create(&kernel, NULL), INVAR_ERROR_NULL, "description");
#define REFUSED(change, status, word) \
    d = good, change, CHECK_FAILS(invar_kernel_create(&kernel, &d), status, word), CHECK(!kernel, "a kernel all the same")
    REFUSED(d.size = 1, INVAR_ERROR_VALUE, "size");
    REFUSED(d.dialect = 0, INVAR_ERROR_VALUE, "dialect");
    REFUSED(d.dialect = 4, INVAR_ERROR_VALUE, "dialect");
    REFUSED(d.dialect = INVAR_DIALECT_PRECOMPILED, INVAR_ERROR_VALUE, "source: expected NULL");
    REFUSED((d.dialect = INVAR_DIALECT_PRECOMPILED, d.source = NULL), INVAR_ERROR_NULL, "image");
    REFUSED((d.dialect = INVAR_DIALECT_PRECOMPILED, d.source = NULL, d.image = "x"), INVAR_ERROR_VALUE,
            "image: expected PTX or a cubin, got 0");
    REFUSED((d.dialect = INVAR_DIALECT_PRECOMPILED, d.source = NULL, d.name = "a b"), INVAR_ERROR_VALUE, "a function's name");
    REFUSED(d.name = NULL, INVAR_ERROR_NULL, "name");
    REFUSED(d.name = "", INVAR_ERROR_VALUE, "name");
    REFUSED(d.name = "k/../x", INVAR_ERROR_VALUE, "name");
    REFUSED(d.source = NULL, INVAR_ERROR_NULL, "source");
    REFUSED(d.input_names = twice, INVAR_ERROR_VALUE, "'a' twice");
    REFUSED(d.input_names = number, INVAR_ERROR_VALUE, "input_names");
    REFUSED(d.input_names = spaced, INVAR_ERROR_VALUE, "'a b'");
    REFUSED(d.input_names = reserved, INVAR_ERROR_VALUE, "invar_");
    REFUSED(d.input_names = null, INVAR_ERROR_NULL, "input_names");
    REFUSED(d.input_names = NULL, INVAR_ERROR_NULL, "input_names");
    REFUSED(d.output_names = same, INVAR_ERROR_VALUE, "'a' twice");
    REFUSED(d.output_names = NULL, INVAR_ERROR_NULL, "output_names");
    REFUSED(d.output_count = 0, INVAR_ERROR_VALUE, "output_names");
    REFUSED(d.output_count = 65, INVAR_ERROR_VALUE, "output_names");
    REFUSED(d.input_count = -1, INVAR_ERROR_VALUE, "input_names");
    REFUSED(d.ensure_row_contiguous = 2, INVAR_ERROR_VALUE, "ensure_row_contiguous");
    REFUSED(d.atomic_outputs = -1, INVAR_ERROR_VALUE, "atomic_outputs");
    REFUSED(d.math_mode = 3, INVAR_ERROR_VALUE, "math_mode");
    REFUSED(d.shared_memory = 16, INVAR_ERROR_VALUE, "shared_memory");
    REFUSED((d.dialect = INVAR_DIALECT_CUDA, d.math_mode = INVAR_MATH_FAST), INVAR_ERROR_VALUE, "math_mode");
    REFUSED((d.dialect = INVAR_DIALECT_CUDA, d.shared_memory = (227 << 10) + 1), INVAR_ERROR_VALUE, "shared_memory");
    REFUSED((d.dialect = INVAR_DIALECT_CUDA, d.shared_memory = -1), INVAR_ERROR_VALUE, "shared_memory");
#undef REFUSED
    invar_kernel_destroy(NULL);
}

/* What cannot be translated is refused when the kernel is created, by its name and line. */
static void untranslatable(void) {
    invar_kernel *kernel = NULL;
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "k", "uint i = thread_position_in_grid.x;\n"
                                                                    "texture2d<float> t;\nout[i] = a[i] + b[i];\n");
    CHECK_FAILS(invar_kernel_create(&kernel, &d), INVAR_ERROR_VALUE, "k.metal:2");
    CHECK(strstr(invar_last_error(), "texture2d"), "%s", invar_last_error());
    d = describe(INVAR_DIALECT_CUDA, "k", "int i = threadIdx.x;\n\nasm(\"membar.gl;\");\nout[i] = a[i] + b[i];\n");
    CHECK_FAILS(invar_kernel_create(&kernel, &d), INVAR_ERROR_VALUE, "k.cu:3");
}

/* ---- launching ------------------------------------------------------------------------------------------ */

/* Wrong arguments are found before anything is compiled, and nothing is written. */
static void launches_refused(void) {
    begin();
    check_array a, b, out, wide, odd;
    static const int64_t two[] = { 2 };
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "k", multiply);
    invar_kernel *kernel = create(&d);
    check_array_init(&a, check_f32, CHECK_SHAPE(8));
    check_array_init(&b, check_f32, CHECK_SHAPE(8));
    check_array_init(&out, check_f32, CHECK_SHAPE(8));
    check_array_init(&wide, check_f64, CHECK_SHAPE(8));
    check_array_init_strided(&odd, check_f32, 1, (const int64_t[]){ 8 }, two);
    uint64_t before = check_memory_hash(&out);
    invar_launch_options good = grid_of(8, 8), o;
    const invar_tensor *const outputs[] = { &out.tensor, &out.tensor }, *const inputs[] = { &a.tensor, &b.tensor };
    CHECK_FAILS(invar_kernel_launch(NULL, NULL, outputs, 1, inputs, 2, &good), INVAR_ERROR_NULL, "kernel");
    CHECK_FAILS(invar_kernel_launch(kernel, NULL, outputs, 1, inputs, 1, &good), INVAR_ERROR_VALUE, "inputs: expected 2");
    CHECK_FAILS(invar_kernel_launch(kernel, NULL, outputs, 2, inputs, 2, &good), INVAR_ERROR_VALUE, "outputs: expected 1");
    CHECK_FAILS(invar_kernel_launch(kernel, NULL, NULL, 1, inputs, 2, &good), INVAR_ERROR_NULL, "outputs");
    CHECK_FAILS(invar_kernel_launch(kernel, NULL, outputs, 1, NULL, 2, &good), INVAR_ERROR_NULL, "inputs");
    CHECK_FAILS(launch(kernel, &out.tensor, NULL, &b.tensor, &good), INVAR_ERROR_NULL, "a: expected a tensor");
    CHECK_FAILS(launch(kernel, &odd.tensor, &a.tensor, &b.tensor, &good), INVAR_ERROR_VALUE, "out: expected a row-contiguous");
    CHECK_FAILS(launch(kernel, &a.tensor, &a.tensor, &b.tensor, &good), INVAR_ERROR_VALUE, "overlap with a");
    CHECK_FAILS(launch(kernel, &out.tensor, &wide.tensor, &b.tensor, &good), INVAR_ERROR_DTYPE, "float64");
#define REFUSED(change, status, word) \
    o = good, change, CHECK_FAILS(launch(kernel, &out.tensor, &a.tensor, &b.tensor, &o), status, word)
    REFUSED(o.size = 3, INVAR_ERROR_VALUE, "size");
    REFUSED(o.grid[1] = 0, INVAR_ERROR_VALUE, "grid");
    REFUSED(o.grid[2] = -4, INVAR_ERROR_VALUE, "grid");
    REFUSED(o.grid[0] = (int64_t)1 << 31, INVAR_ERROR_VALUE, "grid");
    REFUSED(o.threadgroup[0] = 0, INVAR_ERROR_VALUE, "threadgroup");
    REFUSED(o.threadgroup[0] = 1025, INVAR_ERROR_VALUE, "threadgroup");
    REFUSED((o.threadgroup[0] = 64, o.threadgroup[1] = 17), INVAR_ERROR_VALUE, "threadgroup");
    REFUSED((o.threadgroup[0] = (int64_t)1 << 62, o.threadgroup[1] = 4), INVAR_ERROR_VALUE, "threadgroup");
    REFUSED(o.template_count = 1, INVAR_ERROR_NULL, "template");
    REFUSED(o.template_count = 65, INVAR_ERROR_VALUE, "template");
    REFUSED(o.has_init_value = 2, INVAR_ERROR_VALUE, "has_init_value");
    REFUSED(o.check = 7, INVAR_ERROR_VALUE, "check");
    invar_template_argument t = { "N", INVAR_TEMPLATE_INT, { 0, 0, 0 }, 3 };
#define TEMPLATE(change, status, word) \
    t = (invar_template_argument){ "N", INVAR_TEMPLATE_INT, { 0, 0, 0 }, 3 }, change, \
    REFUSED((o.template_count = 1, o.template_arguments = &t), status, word)
    TEMPLATE(t.name = NULL, INVAR_ERROR_NULL, "template");
    TEMPLATE(t.name = "a-b", INVAR_ERROR_VALUE, "'a-b'");
    TEMPLATE(t.kind = 0, INVAR_ERROR_VALUE, "N: expected an int, a bool or a dtype");
    TEMPLATE(t.value = (int64_t)1 << 31, INVAR_ERROR_VALUE, "N: expected an int within 32 bits");
    TEMPLATE(t.value = -((int64_t)1 << 31) - 1, INVAR_ERROR_VALUE, "N: expected an int within 32 bits");
    TEMPLATE((t.kind = INVAR_TEMPLATE_BOOL, t.value = 2), INVAR_ERROR_VALUE, "N: expected a bool");
    TEMPLATE(t.name = "a", INVAR_ERROR_VALUE, "a");
#undef TEMPLATE
    setenv("INVAR_KERNEL_CHECK", "perhaps", 1);
    CHECK_FAILS(launch(kernel, &out.tensor, &a.tensor, &b.tensor, &good), INVAR_ERROR_ENVIRONMENT, "perhaps");
    unsetenv("INVAR_KERNEL_CHECK");
#undef REFUSED
    CHECK(check_memory_hash(&out) == before, "a refused launch wrote to its output");
    CHECK(count_files(".so") == 0, "a refused launch compiled something");
    invar_kernel_destroy(kernel);
    check_array_free(&a), check_array_free(&b), check_array_free(&out), check_array_free(&wide), check_array_free(&odd);
    end();
}

/* Reversed, transposed and repeated inputs give what contiguous ones give; many chunks, all item sizes. */
static void layouts(void) {
    begin();
    static const invar_dtype types[] = { { INVAR_UINT, 8, 1 }, { INVAR_INT, 16, 1 }, { INVAR_FLOAT, 32, 1 },
                                         { INVAR_INT, 64, 1 } };
    static const int64_t shape[] = { 3, 301, 177 }, steps[] = { -1, 2, -3 };
    check_random random = { 7 };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        check_array a, b, odd, out, expected;
        invar_kernel_description d = describe(INVAR_DIALECT_METAL, "copy",
                                              "uint i = thread_position_in_grid.x;\nout[i] = a[i];\n");
        d.input_count = 1;
        invar_kernel *kernel = create(&d);
        check_array_init(&a, types[i], 3, shape);
        check_array_init_strided(&odd, types[i], 3, shape, steps);
        check_array_init(&out, types[i], 3, shape);
        check_array_init(&expected, types[i], 3, shape);
        check_array_init(&b, types[i], CHECK_SHAPE(177));
        int64_t count = check_count(&a.tensor);
        for (int64_t j = 0; j < count; j++) check_set(&odd.tensor, j, (double)check_integer(&random, 0, 100));
        for (int64_t j = 0; j < count; j++) check_set(&expected.tensor, j, check_get(&odd.tensor, j));
        invar_launch_options options = grid_of(count, 256);
        const invar_tensor *const inputs[] = { &odd.tensor }, *const outputs[] = { &out.tensor };
        CHECK_OK(invar_kernel_launch(kernel, NULL, outputs, 1, inputs, 1, &options));
        CHECK(check_hash(&out.tensor) == check_hash(&expected.tensor), "type %zu", i);
        for (int64_t j = 0; j < 177; j++) check_set(&b.tensor, j, (double)(j % 100));
        for (int64_t j = 0; j < count; j++) check_set(&expected.tensor, j, (double)(j % 177 % 100));
        int64_t zero[] = { 0, 0, 1 };
        invar_tensor repeated = b.tensor;
        repeated.ndim = 3;
        repeated.shape = a.tensor.shape;
        repeated.strides = zero;
        CHECK_OK(invar_kernel_launch(kernel, NULL, outputs, 1, (const invar_tensor *[]){ &repeated }, 1, &options));
        CHECK(check_hash(&out.tensor) == check_hash(&expected.tensor), "repeated, type %zu", i);
        invar_kernel_destroy(kernel);
        check_array_free(&a), check_array_free(&b), check_array_free(&odd), check_array_free(&out), check_array_free(&expected);
    }
    end();
}

/* Without ensure_row_contiguous the kernel gets the strides themselves. */
static void strides_passed_on(void) {
    begin();
    static const int64_t shape[] = { 5, 7 }, steps[] = { 2, -1 };
    check_array a, out;
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "strided",
        "uint2 p = thread_position_in_grid.xy;\n"
        "out[p.y * a_shape[1] + p.x] = a[p.y * a_strides[0] + p.x * a_strides[1]] + 100 * a_ndim;\n");
    d.input_count = 1;
    d.ensure_row_contiguous = 0;
    invar_kernel *kernel = create(&d);
    check_array_init_strided(&a, check_f32, 2, shape, steps);
    check_array_init(&out, check_f32, 2, shape);
    for (int64_t i = 0; i < 35; i++) check_set(&a.tensor, i, (double)i);
    invar_launch_options options = grid_of(7, 7);
    options.grid[1] = 5;
    CHECK_OK(invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ &out.tensor }, 1,
                                 (const invar_tensor *[]){ &a.tensor }, 1, &options));
    for (int64_t i = 0; i < 35; i++) CHECK(check_get(&out.tensor, i) == (double)i + 200, "element %lld", (long long)i);
    invar_kernel_destroy(kernel);
    check_array_free(&a), check_array_free(&out);
    end();
}

/* Every element of every output starts as init_value, whatever its type; what a type cannot hold is refused. */
static void init_values(void) {
    begin();
    static const struct {
        invar_dtype dtype;
        double value, stored;
        bool good;
    } cases[] = {
        { { INVAR_FLOAT, 32, 1 }, 1.5, 1.5, true }, { { INVAR_FLOAT, 16, 1 }, 65519, 65504, true },
        { { INVAR_BFLOAT, 16, 1 }, 1.00390625, 1, true }, { { INVAR_INT, 8, 1 }, -128.9, -128, true },
        { { INVAR_INT, 8, 1 }, 128, 0, false }, { { INVAR_UINT, 8, 1 }, 255.9, 255, true },
        { { INVAR_UINT, 8, 1 }, -1, 0, false }, { { INVAR_INT, 32, 1 }, (double)NAN, 0, false },
        { { INVAR_INT, 64, 1 }, 9223372036854775808.0, 0, false }, { { INVAR_BOOL, 8, 1 }, 3, 1, true },
        { { INVAR_FLOAT, 32, 1 }, (double)-INFINITY, (double)-INFINITY, true },
    };
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "nothing", "");
    d.input_count = 0;
    invar_kernel *kernel = create(&d);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_array out;
        check_array_init(&out, cases[i].dtype, CHECK_SHAPE(100003));
        invar_launch_options options = grid_of(1, 1);
        options.has_init_value = 1;
        options.init_value = cases[i].value;
        invar_status status = invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ &out.tensor }, 1, NULL, 0, &options);
        if (!cases[i].good) CHECK_FAILS(status, INVAR_ERROR_VALUE, "init_value");
        else if (CHECK_OK(status))
            for (int64_t j = 0; j < 100003; j++)
                if (!CHECK(check_get(&out.tensor, j) == cases[i].stored, "case %zu: element %lld is %g", i, (long long)j,
                           check_get(&out.tensor, j)))
                    break;
        check_array_free(&out);
    }
    invar_kernel_destroy(kernel);
    end();
}

/* Element types, ranks and template arguments each make a program of their own; the same ones come back from the table. */
static void programs(void) {
    begin();
    check_array f, g, h, scalar, out;
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "k",
                                          "uint i = thread_position_in_grid.x;\nout[i] = a[i] * N + b[i];\n");
    invar_kernel *kernel = create(&d);
    check_array_init(&f, check_f32, CHECK_SHAPE(16));
    check_array_init(&g, check_f32, CHECK_SHAPE(4, 4));
    check_array_init(&h, check_i32, CHECK_SHAPE(16));
    check_array_init(&scalar, check_f32, 0, NULL);
    check_array_init(&out, check_f32, CHECK_SHAPE(16));
    for (int64_t i = 0; i < 16; i++) check_set(&f.tensor, i, (double)i), check_set(&g.tensor, i, 1), check_set(&h.tensor, i, -3);
    invar_template_argument n = { "N", INVAR_TEMPLATE_INT, { 0, 0, 0 }, 2 };
    invar_launch_options options = grid_of(16, 16);
    options.template_arguments = &n;
    options.template_count = 1;
    for (int turn = 0; turn < 2; turn++) {
        n.value = -2;
        CHECK_OK(launch(kernel, &out.tensor, &f.tensor, &g.tensor, &options));
        CHECK(check_get(&out.tensor, 5) == -9, "%g", check_get(&out.tensor, 5));
        n.value = 3;
        CHECK_OK(launch(kernel, &out.tensor, &f.tensor, &g.tensor, &options));
        CHECK(check_get(&out.tensor, 5) == 16, "%g", check_get(&out.tensor, 5));
        CHECK_OK(launch(kernel, &out.tensor, &f.tensor, &h.tensor, &options));
        CHECK(check_get(&out.tensor, 5) == 12, "%g", check_get(&out.tensor, 5));
        CHECK(count_files(".so") == 3, "%d programs", count_files(".so"));
    }
    /* Another instruction set's context has a program of its own, where flags tell the two apart. */
    invar_context_description info = INVAR_CONTEXT_DESCRIPTION_INIT;
    invar_context *plain = check_context("reference", 1);
    CHECK_OK(invar_context_info(NULL, &info));
    const int more = !strncmp(info.cpu, "avx", 3) || !strcmp(info.cpu, "amx");
    CHECK_OK(invar_kernel_launch(kernel, plain, (const invar_tensor *[]){ &out.tensor }, 1,
                                 (const invar_tensor *[]){ &f.tensor, &h.tensor }, 2, &options));
    CHECK(count_files(".so") == 3 + more, "%d programs for two instruction sets", count_files(".so"));
    invar_context_destroy(plain);
    /* A type of two lanes is refused beside one of a single lane, too, whose program is there. */
    invar_template_argument pair[] = { n, { "T", INVAR_TEMPLATE_DTYPE, check_f32, 0 } };
    options.template_arguments = pair, options.template_count = 2;
    CHECK_OK(launch(kernel, &out.tensor, &f.tensor, &g.tensor, &options));
    pair[1].dtype.lanes = 2;
    CHECK_FAILS(launch(kernel, &out.tensor, &f.tensor, &g.tensor, &options), INVAR_ERROR_DTYPE, "template: T");
    options.template_arguments = &n, options.template_count = 1;
    n.name = "M";
    CHECK_FAILS(launch(kernel, &out.tensor, &f.tensor, &g.tensor, &options), INVAR_ERROR_COMPILE, "k.metal:2: error");
    n.name = "N";
    CHECK_FAILS(launch(kernel, &out.tensor, &f.tensor, &scalar.tensor, &options), INVAR_ERROR_COMPILE, "k.metal:2: error");
    invar_kernel_destroy(kernel);
    check_array_free(&f), check_array_free(&g), check_array_free(&h), check_array_free(&scalar), check_array_free(&out);
    end();
}

/* Kernels of one name and different text each run their own. */
static void same_name(void) {
    begin();
    check_array a, b, out;
    check_array_init(&a, check_f32, CHECK_SHAPE(4));
    check_array_init(&b, check_f32, CHECK_SHAPE(4));
    check_array_init(&out, check_f32, CHECK_SHAPE(4));
    for (int64_t i = 0; i < 4; i++) check_set(&a.tensor, i, 6), check_set(&b.tensor, i, 3);
    static const char *const sources[] = {
        "out[thread_position_in_grid.x] = a[0] + b[0];", "out[thread_position_in_grid.x] = a[0] - b[0];",
        "out[thread_position_in_grid.x] = a[0] / b[0];", "out[thread_position_in_grid.x] = a[0] + b[0];"
    };
    static const double results[] = { 9, 3, 2, 9 };
    invar_launch_options options = grid_of(4, 4);
    for (int i = 0; i < 4; i++) {
        invar_kernel_description d = describe(INVAR_DIALECT_METAL, "same", sources[i]);
        invar_kernel *kernel = create(&d);
        CHECK_OK(launch(kernel, &out.tensor, &a.tensor, &b.tensor, &options));
        CHECK(check_get(&out.tensor, 3) == results[i], "%s gave %g", sources[i], check_get(&out.tensor, 3));
        invar_kernel_destroy(kernel);
    }
    CHECK(count_files(".so") == 3, "%d programs for three texts", count_files(".so"));
    check_array_free(&a), check_array_free(&b), check_array_free(&out);
    end();
}

/* More shared memory than the device class has is an error before anything runs. */
static void shared_memory(void) {
    begin();
    check_array out;
    check_array_init(&out, check_f32, CHECK_SHAPE(4));
    const invar_tensor *const outputs[] = { &out.tensor };
    invar_launch_options options = grid_of(4, 4);
    static const struct {
        int32_t dialect;
        const char *source;
        int64_t dynamic;
        bool good;
    } cases[] = {
        { INVAR_DIALECT_METAL, "threadgroup float t[8192]; t[0] = 1; out[thread_position_in_grid.x] = 7;", 0, true },
        { INVAR_DIALECT_METAL, "threadgroup float t[8193]; t[0] = 1; out[thread_position_in_grid.x] = 7;", 0, false },
        { INVAR_DIALECT_CUDA, "__shared__ float t[1024]; t[0] = 1; out[threadIdx.x] = 7;", 223 << 10, true },
        { INVAR_DIALECT_CUDA, "__shared__ float t[1025]; t[0] = 1; out[threadIdx.x] = 7;", 223 << 10, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        invar_kernel_description d = describe(cases[i].dialect, "k", cases[i].source);
        d.input_count = 0;
        d.shared_memory = cases[i].dynamic;
        invar_kernel *kernel = create(&d);
        check_set(&out.tensor, 1, 0);
        invar_status status = invar_kernel_launch(kernel, NULL, outputs, 1, NULL, 0, &options);
        if (cases[i].good) CHECK_OK(status);
        else CHECK_FAILS(status, INVAR_ERROR_VALUE, "memory");
        CHECK(check_get(&out.tensor, 1) == (cases[i].good ? 7 : 0), "case %zu", i);
        invar_kernel_destroy(kernel);
    }
    check_array_free(&out);
    end();
}

static void generated_text(void) {
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "k", multiply);
    invar_kernel *kernel = create(&d);
    int64_t shape[] = { 4 };
    invar_tensor t = { NULL, { INVAR_DEVICE_CPU, 0 }, 1, { INVAR_FLOAT, 32, 1 }, shape, NULL, 0 }; /* no data is needed */
    const invar_tensor *const outputs[] = { &t }, *const inputs[] = { &t, &t };
    size_t length = 0, again;
    char small[8] = "xxxxxxx", *text;
    CHECK_OK(invar_kernel_generate(kernel, INVAR_TARGET_CPU, outputs, 1, inputs, 2, NULL, NULL, 0, &length));
    text = malloc(length + 1);
    CHECK_OK(invar_kernel_generate(kernel, INVAR_TARGET_CPU, outputs, 1, inputs, 2, NULL, text, length + 1, &again));
    CHECK(again == length && strlen(text) == length, "%zu and %zu", again, strlen(text));
    CHECK(strstr(text, "k.metal") && strstr(text, "invar_kernel_module"), "%s", text);
    CHECK_OK(invar_kernel_generate(kernel, INVAR_TARGET_CPU, outputs, 1, inputs, 2, NULL, small, sizeof small, &again));
    CHECK(strlen(small) == sizeof small - 1 && !strncmp(small, text, sizeof small - 1), "%s", small);
    CHECK_OK(invar_kernel_generate(kernel, INVAR_TARGET_CUDA, outputs, 1, inputs, 2, NULL, NULL, 0, &length));
    CHECK_FAILS(invar_kernel_generate(kernel, 0, outputs, 1, inputs, 2, NULL, NULL, 0, &length), INVAR_ERROR_VALUE, "target");
    CHECK_FAILS(invar_kernel_generate(kernel, 1, outputs, 1, inputs, 2, NULL, NULL, 0, NULL), INVAR_ERROR_NULL, "length");
    free(text);
    invar_kernel_destroy(kernel);
}

/* explain-like planning computes and compiles nothing. */
static void plans(void) {
    begin();
    check_array a, out;
    static const int64_t steps[] = { 2 };
    invar_plan plan = INVAR_PLAN_INIT;
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "planned", multiply);
    invar_kernel *kernel = create(&d);
    check_array_init_strided(&a, check_f32, 1, (const int64_t[]){ 64 }, steps);
    check_array_init(&out, check_f32, CHECK_SHAPE(64));
    uint64_t before = check_memory_hash(&out);
    invar_launch_options options = grid_of(64, 32);
    options.execution.plan = &plan;
    CHECK_OK(launch(kernel, &out.tensor, &a.tensor, &a.tensor, &options));
    CHECK(plan.workspace == 512 && plan.tasks == 2 && strstr(plan.kernel, "planned") && *plan.reason, "%zu, %s", plan.workspace,
          plan.kernel);
    CHECK(check_memory_hash(&out) == before && count_files(".so") == 0, "it ran");
    options.grid[0] = options.grid[1] = options.grid[2] = INT32_MAX, options.threadgroup[0] = 1;
    CHECK_OK(launch(kernel, &out.tensor, &a.tensor, &a.tensor, &options));
    CHECK(plan.tasks == INT64_MAX, "%lld tasks", (long long)plan.tasks);
    options.execution.plan = NULL;
    CHECK_FAILS(launch(kernel, &out.tensor, &a.tensor, &a.tensor, &options), INVAR_ERROR_VALUE, "fewer than 2^63 groups");
    invar_kernel_destroy(kernel);
    check_array_free(&a), check_array_free(&out);
    end();
}

/* An element type that only one dialect has, and complex numbers. */
static void element_types(void) {
    begin();
    check_array wide, small, unsigned_small, pair, out;
    check_array_init(&wide, check_f64, CHECK_SHAPE(2));
    check_array_init(&small, i8, CHECK_SHAPE(2));
    check_array_init(&unsigned_small, u8, CHECK_SHAPE(2));
    check_array_init(&pair, c64, CHECK_SHAPE(2));
    check_array_init(&out, check_f64, CHECK_SHAPE(2));
    check_set(&wide.tensor, 1, 0.1);
    check_set(&small.tensor, 1, -5), check_set(&unsigned_small.tensor, 1, 250);
    invar_kernel_description d = describe(INVAR_DIALECT_CUDA, "wide", "out[threadIdx.x] = a[threadIdx.x] + b[threadIdx.x];");
    invar_kernel *kernel = create(&d);
    invar_launch_options options = grid_of(2, 2);
    CHECK_OK(launch(kernel, &out.tensor, &wide.tensor, &small.tensor, &options));
    CHECK(check_get(&out.tensor, 1) == 0.1 - 5, "%.17g", check_get(&out.tensor, 1));
    CHECK_OK(launch(kernel, &out.tensor, &wide.tensor, &unsigned_small.tensor, &options));
    CHECK(check_get(&out.tensor, 1) == 0.1 + 250, "%.17g", check_get(&out.tensor, 1));
    invar_kernel_destroy(kernel);
    d = describe(INVAR_DIALECT_METAL, "complex", "uint i = thread_position_in_grid.x;\nout[i] = a[i].real + b[i].imag;");
    kernel = create(&d);
    float *parts = pair.tensor.data;
    parts[2] = 3, parts[3] = 4;
    check_array single;
    check_array_init(&single, check_f32, CHECK_SHAPE(2));
    CHECK_OK(launch(kernel, &single.tensor, &pair.tensor, &pair.tensor, &options));
    CHECK(check_get(&single.tensor, 1) == 7, "%g", check_get(&single.tensor, 1));
    invar_kernel_destroy(kernel);
    check_array_free(&wide), check_array_free(&small), check_array_free(&unsigned_small), check_array_free(&pair);
    check_array_free(&out), check_array_free(&single);
    end();
}

CHECK_MAIN(CHECK_TEST(descriptions), CHECK_TEST(untranslatable), CHECK_TEST(launches_refused), CHECK_TEST(layouts),
           CHECK_TEST(strides_passed_on), CHECK_TEST(init_values), CHECK_TEST(programs), CHECK_TEST(same_name),
           CHECK_TEST(shared_memory), CHECK_TEST(generated_text), CHECK_TEST(plans), CHECK_TEST(element_types))
