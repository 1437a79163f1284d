/* A small pool of freed large blocks. A fresh page costs about 0.25 µs of kernel time for 4 KiB, which is more than a
 * norm takes to fill it; a recycled block costs nothing. */
#if defined(__linux__)
#define _DEFAULT_SOURCE
#include <sys/mman.h>
#endif

#include "memory.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    ALIGNMENT = 64,
    RECYCLED_BYTES = 64 << 10,  /* smaller blocks are malloc's business: it recycles those itself */
    HUGE_PAGE_BYTES = 4 << 20,  /* from here on huge pages are asked for, as NumPy does */
    KEPT_BLOCKS = 16,
    KEPT_BYTES = 256 << 20,
};

typedef struct kept_block {
    void *data;
    size_t size;
} kept_block;

static kept_block kept[KEPT_BLOCKS]; /* oldest first */
static int kept_count;
static size_t kept_bytes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static kept_block remove_kept(int index) {
    kept_block block = kept[index];
    kept_bytes -= block.size;
    kept_count--;
    for (int i = index; i < kept_count; i++) kept[i] = kept[i + 1];
    return block;
}

/* The smallest kept block that holds `size` and wastes at most a quarter of it; of equal ones the latest, which may still
 * be in the cache. */
static void *take_kept(size_t *size) {
    int best = -1;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < kept_count; i++) {
        if (kept[i].size < *size || kept[i].size - *size > *size / 4) continue;
        if (best < 0 || kept[i].size <= kept[best].size) best = i;
    }
    kept_block block = { NULL, 0 };
    if (best >= 0) block = remove_kept(best);
    pthread_mutex_unlock(&lock);
    if (block.data) *size = block.size;
    return block.data;
}

static void drop_kept(void) {
    pthread_mutex_lock(&lock);
    while (kept_count) free(remove_kept(0).data);
    pthread_mutex_unlock(&lock);
}

static void *take_fresh(size_t size) {
    if (size >= HUGE_PAGE_BYTES) {
        void *data = aligned_alloc(2 << 20, (size + (2 << 20) - 1) & ~(size_t)((2 << 20) - 1));
#if defined(MADV_HUGEPAGE)
        if (data) madvise(data, size, MADV_HUGEPAGE);
#endif
        return data;
    }
    return aligned_alloc(ALIGNMENT, size);
}

void *memory_take(size_t bytes, size_t *size) {
    if (bytes > PTRDIFF_MAX - ALIGNMENT) return NULL;
    *size = bytes ? (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1) : ALIGNMENT;
    void *data = NULL;
    if (*size >= RECYCLED_BYTES) data = take_kept(size);
    if (!data) data = take_fresh(*size);
    if (!data) {
        drop_kept();
        data = take_fresh(*size);
    }
    return data;
}

void memory_give(void *data, size_t size) {
    if (size < RECYCLED_BYTES || size > KEPT_BYTES) {
        free(data);
        return;
    }
    pthread_mutex_lock(&lock);
    while (kept_count == KEPT_BLOCKS || kept_bytes + size > KEPT_BYTES) free(remove_kept(0).data);
    kept[kept_count++] = (kept_block){ data, size };
    kept_bytes += size;
    pthread_mutex_unlock(&lock);
}

size_t memory_kept(void) {
    pthread_mutex_lock(&lock);
    size_t bytes = kept_bytes;
    pthread_mutex_unlock(&lock);
    return bytes;
}

/* ---- the owner ---------------------------------------------------------------------------------- */

typedef struct owner {
    PyObject_HEAD
    void *data;
    size_t size;
} owner;

static PyTypeObject *owner_type;

static void owner_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    memory_give(((owner *)self)->data, ((owner *)self)->size);
    PyObject_Free(self);
    Py_DECREF(type);
}

PyObject *memory_owner(void *data, size_t size) {
    owner *self = PyObject_New(owner, owner_type);
    if (!self) {
        memory_give(data, size);
        return NULL;
    }
    self->data = data;
    self->size = size;
    return (PyObject *)self;
}

static void hold(void) { pthread_mutex_lock(&lock); }
static void let_go(void) { pthread_mutex_unlock(&lock); }

bool memory_init(void) {
    static PyType_Slot slots[] = { { Py_tp_dealloc, SLOT(owner_dealloc) },
                                   { Py_tp_doc, (void *)"Owns the memory of one output." },
                                   { 0, NULL } };
    static PyType_Spec spec = { "invar._ext.Memory", sizeof(owner), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots };
    pthread_atfork(hold, let_go, let_go); /* else a child could inherit a lock whose holder it does not have */
    owner_type = (PyTypeObject *)PyType_FromSpec(&spec);
    return owner_type != NULL;
}
