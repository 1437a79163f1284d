/* The thread pool. A caller posts a job, takes tasks from it like every worker, and when none is left withdraws the
 * invitations that no worker has taken up yet: it waits for threads that run a task, never for one that is waking up.
 *
 * Tasks lie in shares, runs of equal length: thread t begins with share t and goes on to the others'. One share is one queue.
 *
 * Workers join and leave through one atomic word; the lock is for sleeping alone. A worker spins for its next job before it
 * sleeps, and one that is woken wakes two more, so that the caller need not wake them all. */
#define _GNU_SOURCE
#include "core/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#if defined(__SSE2__)
#include <emmintrin.h>
static inline void relax(void) { _mm_pause(); }
#else
static inline void relax(void) { __asm__ volatile("yield"); }
#endif

/* Longer than from one call of a model's layer to the next, or from one thread's last task to another's; two wake-ups. */
enum { WATCH = 100000 /* nanoseconds */, LOOKS = 64 /* between two looks at the clock */ };

enum { COUNTER = 64 / sizeof(int64_t) }; /* a cache line, so that no two shares' counters are in one */

/* The word: number of the job, workers that may still join it, workers in it. */
#define ONE_RUNNING ((uint64_t)1)
#define ONE_INVITED ((uint64_t)1 << 16)
#define ONE_JOB ((uint64_t)1 << 32)
static unsigned running(uint64_t state) { return (unsigned)(state & 0xffff); }
static unsigned invited(uint64_t state) { return (unsigned)(state >> 16 & 0xffff); }
static uint32_t job(uint64_t state) { return (uint32_t)(state >> 32); }

struct worker {
    pthread_t thread;
    struct invar_pool *pool;
    int asleep_on; /* the processor it went to sleep on; -1 while awake */
    bool moved;    /* its affinity is narrowed, and to be restored from allowed */
    cpu_set_t allowed;
};

struct invar_pool {
    atomic_int busy;       /* 1 while a caller owns the pool */
    atomic_int threads;    /* wanted, the caller included */
    atomic_uint generation; /* of fork: differs in a child, whose workers do not exist */
    int started;
    struct worker *workers; /* [started] */
    _Atomic uint64_t state; /* the word above; a job's task, argument and count stand before it is changed */
    pthread_mutex_t lock;  /* around the waits, which see every change of state made before it was taken */
    pthread_cond_t wake, done;
    atomic_int sleepers;   /* workers in, or about to begin, a wait */
    atomic_bool waiting;   /* the same of the caller */
    atomic_bool stop;
    invar_task task;
    void *argument;
    int64_t count;
    int shares;
    _Atomic int64_t next[INVAR_MAX_POOL_THREADS][COUNTER]; /* [i][0]: task of share i */
};

static atomic_uint fork_generation;
static atomic_flag resetting = ATOMIC_FLAG_INIT; /* held by the thread that resets a pool */
static void count_fork(void) {
    atomic_fetch_add(&fork_generation, 1);
    atomic_flag_clear(&resetting); /* a parent that was itself a child may have held it */
}
static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }

invar_float_environment invar_float_environment_set(void) {
    invar_float_environment saved;
#if defined(__SSE2__)
    saved = _mm_getcsr();
    if (saved != 0x1f80) _mm_setcsr(0x1f80); /* nearest, denormals kept, all exceptions masked */
#else
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    if (saved) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
#endif
    return saved;
}

void invar_float_environment_restore(invar_float_environment saved) {
#if defined(__SSE2__)
    _mm_setcsr(saved);
#else
    if (saved) __asm__ volatile("msr fpcr, %0" : : "r"(saved));
#endif
}

/* State that a fork leaves undefined in the child, as it is before any thread has started. */
static void reset(invar_pool *pool) {
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->started = 0;
    atomic_store(&pool->stop, false);
    atomic_store(&pool->waiting, false);
    atomic_store(&pool->sleepers, 0);
    atomic_store(&pool->state, 0);
    atomic_store(&pool->busy, 0);
    atomic_store(&pool->generation, atomic_load(&fork_generation));
}

invar_pool *invar_pool_create(int threads) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    invar_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pool->workers = calloc(INVAR_MAX_POOL_THREADS, sizeof *pool->workers);
    if (!pool->workers) {
        free(pool);
        return NULL;
    }
    reset(pool);
    atomic_store(&pool->threads, threads);
    return pool;
}

static int64_t share_begin(const invar_pool *pool, int share) {
    const int64_t each = pool->count / pool->shares, more = pool->count % pool->shares;
    return each * share + (share < more ? share : more);
}

/* A share that is done is only read: its counter's line stays with those who still take from their own. */
static void run_share(invar_pool *pool, int share) {
    _Atomic int64_t *next = pool->next[share];
    const int64_t end = share_begin(pool, share + 1);
    while (atomic_load_explicit(next, memory_order_relaxed) < end) {
        const int64_t i = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
        if (i < end) pool->task(pool->argument, i);
    }
}

static void run_tasks(invar_pool *pool, int thread) {
    invar_float_environment saved = invar_float_environment_set();
    for (int i = 0; i < pool->shares; i++) run_share(pool, (thread + i) % pool->shares);
    invar_float_environment_restore(saved);
}

/* Whether a worker that last joined job `last` is wanted. */
static bool wanted(uint64_t state, uint32_t last) { return invited(state) && job(state) != last; }
static bool alone(uint64_t state, uint32_t last) {
    (void)last;
    return !running(state);
}

static int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Spins until the state is so, or WATCH is over. How long a pause takes differs tenfold between processors. */
static void watch(const invar_pool *pool, bool (*so)(uint64_t state, uint32_t last), uint32_t last) {
    int64_t begin = 0, now;
    do {
        for (int i = 0; i < LOOKS; i++, relax())
            if (so(atomic_load_explicit(&pool->state, memory_order_relaxed), last)) return;
        now = nanoseconds();
        if (!begin) begin = now;
    } while (now - begin < WATCH);
}

static bool join(invar_pool *pool, uint32_t *last) {
    uint64_t state = atomic_load(&pool->state);
    while (wanted(state, *last)) {
        if (!atomic_compare_exchange_weak(&pool->state, &state, state - ONE_INVITED + ONE_RUNNING)) continue;
        *last = job(state);
        return true;
    }
    return false;
}

static void leave(invar_pool *pool) {
    if (running(atomic_fetch_sub(&pool->state, ONE_RUNNING)) > 1 || !atomic_load(&pool->waiting)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->done);
    pthread_mutex_unlock(&pool->lock);
}

static void wake(invar_pool *pool, unsigned workers) {
    for (unsigned i = 0; i < 2 && i < workers; i++) pthread_cond_signal(&pool->wake);
}

/* Linux often wakes a thread on the processor that it slept on. When that is the caller's, the worker waits behind the
 * caller's own tasks and the call runs on one thread, call after call: on machines of few processors the kernel does not look
 * for an idle one (its SIS_UTIL rule). So a sleeping worker is barred from the caller's processor until it is awake. */
static void move_away(struct worker *worker, int processor) {
    cpu_set_t others;
    if (worker->asleep_on != processor || processor >= CPU_SETSIZE) return;
    if (pthread_getaffinity_np(worker->thread, sizeof others, &others)) return;
    if (!worker->moved) worker->allowed = others;
    CPU_CLR(processor, &others);
    if (CPU_COUNT(&others) && !pthread_setaffinity_np(worker->thread, sizeof others, &others)) worker->moved = true;
}

/* Until somebody wakes it. The job may be over by then, but the next one is likely near: the worker is to watch for it, awake. */
static void sleep_for_job(struct worker *worker, uint32_t last) {
    invar_pool *pool = worker->pool;
    pthread_mutex_lock(&pool->lock);
    worker->asleep_on = sched_getcpu();
    atomic_fetch_add(&pool->sleepers, 1);
    if (!wanted(atomic_load(&pool->state), last) && !atomic_load(&pool->stop)) pthread_cond_wait(&pool->wake, &pool->lock);
    const int others = atomic_fetch_sub(&pool->sleepers, 1) - 1;
    worker->asleep_on = -1;
    if (worker->moved) pthread_setaffinity_np(pthread_self(), sizeof worker->allowed, &worker->allowed);
    worker->moved = false;
    pthread_mutex_unlock(&pool->lock);
    if (others > 0 && invited(atomic_load(&pool->state)) > 1) wake(pool, invited(atomic_load(&pool->state)) - 1);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    invar_pool *pool = worker->pool;
    uint32_t last = 0;
    while (!atomic_load(&pool->stop)) {
        watch(pool, wanted, last);
        if (join(pool, &last)) {
            run_tasks(pool, 1 + (int)(worker - pool->workers));
            leave(pool);
        } else sleep_for_job(worker, last);
    }
    return NULL;
}

static void start(invar_pool *pool, int workers) {
    for (; pool->started < workers; pool->started++) {
        struct worker *worker = &pool->workers[pool->started];
        *worker = (struct worker){ .pool = pool, .asleep_on = -1 };
        if (pthread_create(&worker->thread, NULL, work, worker)) return; /* fewer threads, same results */
    }
}

static void stop(invar_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stop, true);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->started; i++) pthread_join(pool->workers[i].thread, NULL);
    pool->started = 0;
    atomic_store(&pool->stop, false);
}

/* In a child the workers are gone, and the lock may have been held by one. The child's threads may all come here at once. */
static void survive_fork(invar_pool *pool) {
    if (atomic_load(&pool->generation) == atomic_load(&fork_generation)) return;
    while (atomic_flag_test_and_set(&resetting)) relax();
    if (atomic_load(&pool->generation) != atomic_load(&fork_generation)) reset(pool);
    atomic_flag_clear(&resetting);
}

static bool try_enter(invar_pool *pool) {
    int idle = 0;
    return atomic_compare_exchange_strong(&pool->busy, &idle, 1);
}

void invar_pool_destroy(invar_pool *pool) {
    if (!pool) return;
    survive_fork(pool);
    stop(pool);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    pthread_cond_destroy(&pool->done);
    free(pool->workers);
    free(pool);
}

void invar_pool_resize(invar_pool *pool, int threads) {
    survive_fork(pool);
    while (!try_enter(pool)) sched_yield();
    if (threads - 1 < pool->started) stop(pool);
    atomic_store(&pool->threads, threads);
    atomic_store(&pool->busy, 0);
}

int invar_pool_threads(const invar_pool *pool) { return atomic_load(&pool->threads); }

static void post(invar_pool *pool, int workers, int64_t count, int shares, invar_task task, void *argument) {
    start(pool, workers);
    const unsigned wanted_workers = (unsigned)(workers < pool->started ? workers : pool->started);
    const uint32_t number = job(atomic_load(&pool->state)) + 1;
    pool->task = task;
    pool->argument = argument;
    pool->count = count;
    pool->shares = shares;
    for (int i = 0; i < shares; i++) atomic_store_explicit(pool->next[i], share_begin(pool, i), memory_order_relaxed);
    /* An exchange, since what is loaded next must not be older: an emulator that runs AArch64 on x86-64 does not keep a plain
     * store and a load behind it in order. */
    atomic_exchange(&pool->state, number * ONE_JOB + wanted_workers * ONE_INVITED);
    if (!atomic_load(&pool->sleepers)) return;
    const int processor = sched_getcpu();
    pthread_mutex_lock(&pool->lock); /* from here on a worker that has seen no job waits */
    for (int i = 0; i < pool->started; i++) move_away(&pool->workers[i], processor);
    pthread_mutex_unlock(&pool->lock);
    wake(pool, wanted_workers);
}

static void finish(invar_pool *pool) {
    uint64_t state = atomic_load(&pool->state);
    while (!atomic_compare_exchange_weak(&pool->state, &state, state - invited(state) * ONE_INVITED)) {}
    watch(pool, alone, 0);
    if (!running(atomic_load(&pool->state))) return;
    pthread_mutex_lock(&pool->lock);
    atomic_exchange(&pool->waiting, true); /* as in post */
    while (running(atomic_load(&pool->state))) pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->waiting, false);
    pthread_mutex_unlock(&pool->lock);
}

void invar_pool_run(invar_pool *pool, int threads, int64_t count, bool apart, invar_task task, void *argument) {
    if (count <= 0) return;
    survive_fork(pool);
    int wanted = invar_pool_threads(pool);
    if (wanted > threads) wanted = threads;
    if (wanted > count) wanted = (int)count;
    if (wanted < 2 || !try_enter(pool)) {
        invar_float_environment saved = invar_float_environment_set();
        for (int64_t i = 0; i < count; i++) task(argument, i);
        invar_float_environment_restore(saved);
        return;
    }
    post(pool, wanted - 1, count, apart ? wanted : 1, task, argument);
    run_tasks(pool, 0);
    finish(pool);
    atomic_store(&pool->busy, 0);
}

int invar_processor_count(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    return count < 1 ? 1 : count > INVAR_MAX_POOL_THREADS ? INVAR_MAX_POOL_THREADS : count;
}
