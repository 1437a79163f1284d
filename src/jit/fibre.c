/* Fibres: the switch in assembler for x86-64 (System V) and AArch64, by ucontext elsewhere; and the stacks. */
#define _GNU_SOURCE
#include "jit/fibre.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef INVAR_FIBRE_BY_UCONTEXT
#include <ucontext.h>
#endif

enum { STACK_BYTES = 1 << INVAR_STACK_BITS, CHUNK_STACKS = 16 };

/* ---- the switch ---------------------------------------------------------------------------------- */

#ifdef INVAR_FIBRE_BY_UCONTEXT

/* The context lies on the stack it belongs to, so a pointer to it is a whole state here too. */
uint32_t invar_fibre_swap(void **from, void *to, uint32_t result) {
    static _Thread_local uint32_t handed_over;
    ucontext_t here;
    *from = &here;
    handed_over = result;
    swapcontext(&here, to);
    return handed_over;
}

void invar_fibre_prepare(invar_lane *lane, void (*entry)(void)) {
    uintptr_t top = (uintptr_t)lane, bottom = top & ~(uintptr_t)(STACK_BYTES - 1);
    ucontext_t *context = (ucontext_t *)((top - sizeof(ucontext_t)) & ~(uintptr_t)63);
    getcontext(context);
    context->uc_stack.ss_sp = (void *)bottom;
    context->uc_stack.ss_size = (uintptr_t)context - bottom;
    context->uc_link = NULL;
    makecontext(context, entry, 0);
    invar_stack_state_of(lane)->stack_pointer = context;
}

#else

#ifdef __APPLE__
#define SYMBOL(name) "_" name
#define DECLARE(name) ".p2align 6\n.globl _" name "\n.private_extern _" name "\n_" name ":\n"
#else
#define SYMBOL(name) name
#define DECLARE(name) ".p2align 6\n.globl " name "\n.hidden " name "\n.type " name ", %function\n" name ":\n"
#endif

/* Every way onto another stack ends in a jump to where it was left, not in a return: the processor foretells a return from
 * the calls it has seen, which were another lane's, and is wrong whenever that one waits elsewhere; a jump it foretells from
 * where jumps before it went, and lanes one behind the other mostly wait at one place. */
#ifdef __x86_64__
enum { SAVED_WORDS = 6, ENTRY_WORD = 6 };
#define SAVE "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
#define RESUME "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\npopq %rcx\njmp *%rcx\n"
#define STEP(name)                                                                                            \
    DECLARE(name) SAVE "movq %rsp, " STATE "(%rdi)\nsubq $8, %rsp\ncall " SYMBOL(name "_step") "\n" \
                       "movq %rax, %rsp\nmovl %edx, %eax\n" RESUME
__asm__(".text\n" DECLARE("invar_fibre_swap") SAVE "movq %rsp, (%rdi)\nmovq %rsi, %rsp\nmovl %edx, %eax\n" RESUME);
#else
enum { SAVED_WORDS = 20, ENTRY_WORD = 11 }; /* x30 is the 12th */
#define SAVE                                                                                              \
    "sub sp, sp, #160\n"                                                                                  \
    "stp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"     \
    "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"                                                  \
    "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n" \
    "mov x9, sp\n"
#define RESUME                                                                                            \
    "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\n"     \
    "ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"                                                  \
    "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n" \
    "add sp, sp, #160\nmov x16, x30\nbr x16\n" /* x16: a landing pad for calls takes a jump by way of it, too */
#define STEP(name) \
    DECLARE(name) SAVE "str x9, [x0, #" STATE "]\nbl " SYMBOL(name "_step") "\nmov sp, x0\nmov x0, x1\n" RESUME
__asm__(".text\n" DECLARE("invar_fibre_swap") SAVE "str x9, [x0]\nmov sp, x1\nmov x0, x2\n" RESUME);
#endif

#ifdef INVAR_FIBRE_ENTRIES
/* Where invar_stack_state_of finds the stack pointer. */
#define STATE "104"
_Static_assert(sizeof(invar_lane) == 104 && offsetof(invar_stack_state, stack_pointer) == 0, "STATE");
__asm__(".text\n" STEP("invar_group_collective") STEP("invar_group_barrier") STEP("invar_group_yield"));
#endif

void invar_fibre_prepare(invar_lane *lane, void (*entry)(void)) {
    /* Zeros end the chain of frames. One word more keeps the alignment that a call would leave. */
    void **words = (void **)((uintptr_t)lane & ~(uintptr_t)63) - SAVED_WORDS - 2;
    for (int i = 0; i < SAVED_WORDS + 2; i++) words[i] = NULL;
    words[ENTRY_WORD] = (void *)(uintptr_t)entry;
    invar_stack_state_of(lane)->stack_pointer = words;
}

#endif

/* ---- sanitizers ------------------------------------------------------------------------------------ */

#ifdef INVAR_FIBRE_SANITIZED
#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif

#ifdef THREAD_SANITIZER
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_destroy_fiber(void *fiber);

static invar_stack_state *state_of(invar_stacks *stacks, invar_lane *lane) {
    return lane ? invar_stack_state_of(lane) : &stacks->home;
}

uint32_t invar_fibre_switch(invar_stacks *stacks, invar_lane *from, invar_lane *to, uint32_t result) {
    invar_stack_state *left = state_of(stacks, from), *next = state_of(stacks, to);
    if (!from) left->sanitizer = __tsan_get_current_fiber();
    if (!next->sanitizer) next->sanitizer = __tsan_create_fiber(0);
    __tsan_switch_to_fiber(next->sanitizer, 0);
    return invar_fibre_swap(&left->stack_pointer, next->stack_pointer, result);
}
void invar_fibre_arrived(void) {}
#else
void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom, size_t *size);
void __asan_unpoison_memory_region(const volatile void *address, size_t bytes);

uint32_t invar_fibre_switch(invar_stacks *stacks, invar_lane *from, invar_lane *to, uint32_t result) {
    void *fake_stack;
    if (to) {
        uintptr_t bottom = (uintptr_t)to & ~(uintptr_t)(STACK_BYTES - 1);
        __sanitizer_start_switch_fiber(&fake_stack, (void *)bottom, (uintptr_t)to - bottom);
    } else {
        pthread_attr_t attributes;
        void *bottom = NULL;
        size_t size = 0;
        pthread_getattr_np(pthread_self(), &attributes);
        pthread_attr_getstack(&attributes, &bottom, &size);
        pthread_attr_destroy(&attributes);
        __sanitizer_start_switch_fiber(&fake_stack, bottom, size);
    }
    uint32_t given = invar_fibre_swap(from ? &invar_stack_state_of(from)->stack_pointer : &stacks->home.stack_pointer,
                     to ? invar_stack_state_of(to)->stack_pointer : stacks->home.stack_pointer, result);
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
    return given;
}

/* Lanes that were abandoned on this stack have left poison behind. */
void invar_fibre_arrived(void) {
    const uintptr_t top = (uintptr_t)__builtin_frame_address(0), bottom = top & ~(uintptr_t)(STACK_BYTES - 1);
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
    __asan_unpoison_memory_region((const void *)bottom, top - bottom);
}
#endif
#endif

/* ---- stacks ---------------------------------------------------------------------------------------- */

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static int key_made;

/* The i-th stack's lane. */
static invar_lane *lane_at(const invar_stacks *stacks, int i) {
    return invar_lane_of((char *)stacks->chunks[i / CHUNK_STACKS] + (size_t)(i % CHUNK_STACKS) * STACK_BYTES);
}

static void destroy(void *argument) {
    invar_stacks *stacks = argument;
#ifdef THREAD_SANITIZER
    for (int i = 0; i < stacks->count; i++)
        if (invar_stack_state_of(lane_at(stacks, i))->sanitizer)
            __tsan_destroy_fiber(invar_stack_state_of(lane_at(stacks, i))->sanitizer);
#endif
    for (int i = 0; i < stacks->chunk_count; i++) munmap(stacks->chunks[i], (size_t)STACK_BYTES * CHUNK_STACKS);
    free(stacks);
}

static void make_key(void) { key_made = pthread_key_create(&key, destroy) == 0; }

invar_stacks *invar_stacks_take(void) {
    pthread_once(&key_once, make_key);
    invar_stacks *stacks = key_made ? pthread_getspecific(key) : NULL;
    if (!stacks || stacks->in_use) {
        int first = key_made && !stacks;
        stacks = calloc(1, sizeof *stacks);
        if (!stacks) return NULL;
        if (first) (void)pthread_setspecific(key, stacks); /* refused: freed when they are given back */
    }
    stacks->in_use = 1;
    return stacks;
}

void invar_stacks_give(invar_stacks *stacks) {
    stacks->in_use = 0;
    if (!key_made || pthread_getspecific(key) != stacks) {
        destroy(stacks);
        return;
    }
    if (stacks->free_count < stacks->count) invar_stacks_reset(stacks);
}

void invar_stacks_reset(invar_stacks *stacks) {
    stacks->free_count = 0;
    for (int i = 0; i < stacks->count; i++) {
        invar_lane *lane = lane_at(stacks, i);
        invar_stack_state_of(lane)->stack_pointer = NULL;
        stacks->free[stacks->free_count++] = lane;
    }
}

/* Memory aligned to a stack's size: more is mapped than is wanted, and the ends are given back. */
static char *map_chunk(void) {
    size_t bytes = (size_t)STACK_BYTES * CHUNK_STACKS;
    char *memory = mmap(NULL, bytes + STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    size_t before = (STACK_BYTES - (uintptr_t)memory % STACK_BYTES) % STACK_BYTES;
    if (before) munmap(memory, before);
    munmap(memory + before + bytes, STACK_BYTES - before);
    return memory + before;
}

int invar_stacks_grow(invar_stacks *stacks) {
    if (stacks->count >= INVAR_MAX_THREADS) return 0;
    char *chunk = map_chunk();
    if (!chunk) return 0;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    stacks->chunks[stacks->chunk_count++] = chunk;
    for (int i = CHUNK_STACKS - 1; i >= 0; i--) {
        char *base = chunk + (size_t)i * STACK_BYTES;
        /* A refusal leaves this stack without its guard: a process may have 65530 mappings, which 32 threads with 1024
         * stacks each would pass. */
        (void)mprotect(base, page, PROT_NONE);
        stacks->free[stacks->free_count++] = invar_lane_of(base);
    }
    stacks->count += CHUNK_STACKS;
    return 1;
}
