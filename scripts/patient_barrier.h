/* Included into ggml-cpu.c above its barrier (scripts/llama_cpp.patch): threads that wait for each other as long as
 * they are told to, before they sleep.
 *
 * The threads of a graph meet after each operation, some hundred times a step. OpenMP's barrier waits for a number of
 * turns that is fixed when the process starts. Where nobody else wants the cores, sleeping early costs a tenth of the
 * rate: being woken takes longer than most waits. Where somebody does, waiting long costs more than half: a thread that
 * waits takes the core from the one it waits for. Which of the two it is, engine/patience.py measures while it runs.
 *
 * A graph's own counters are used: ggml keeps them for the barrier it has without OpenMP. `passed` counts rounds in
 * steps of two; its lowest bit says that somebody sleeps.
 *
 * Docs: futex(2), FUTEX_WAIT and FUTEX_WAKE.
 */
#pragma once
#if defined(__linux__) && defined(GGML_USE_OPENMP)
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* About what GOMP_SPINCOUNT=1000 is (engine/worker_process.py), for those whom nobody tells. */
static atomic_int nibble_patience_us = 20;

/* From any thread; the next wait obeys. 0 is to sleep almost at once. */
__attribute__((visibility("default"))) void nibble_set_patience(int microseconds);
void nibble_set_patience(int microseconds) {
    atomic_store_explicit(&nibble_patience_us, microseconds, memory_order_relaxed);
}

static inline bool nibble_is_passed(atomic_int * passed, int round) {
    return (atomic_load_explicit(passed, memory_order_acquire) & ~1) != round;
}

static inline long long nibble_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Whether the round was passed while it was waited for. */
static inline bool nibble_wait_awake(atomic_int * passed, int round) {
    const long long patience_ns = 1000LL * atomic_load_explicit(&nibble_patience_us, memory_order_relaxed);
    const long long began_ns = nibble_now_ns();
    do {
        for (int turn = 0; turn < 32; turn++) {
            if (nibble_is_passed(passed, round)) return true;
            ggml_thread_cpu_relax();
        }
    } while (nibble_now_ns() - began_ns < patience_ns);
    return false;
}

static inline void nibble_barrier(atomic_int * arrived, atomic_int * passed, int threads) {
    // Before arriving: until then nobody can pass.
    const int round = atomic_load_explicit(passed, memory_order_relaxed) & ~1;
    if (atomic_fetch_add_explicit(arrived, 1, memory_order_seq_cst) == threads - 1) {
        atomic_store_explicit(arrived, 0, memory_order_relaxed);
        const int next = (int) ((unsigned) round + 2u);
        if (atomic_exchange_explicit(passed, next, memory_order_seq_cst) & 1) {
            syscall(SYS_futex, passed, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
        }
        return;
    }
    if (nibble_wait_awake(passed, round)) return;
    while (!nibble_is_passed(passed, round)) {
        int seen = round;
        // It fails where another sleeps already, and where the round has just been passed: then nobody would wake us.
        atomic_compare_exchange_strong_explicit(passed, &seen, round | 1, memory_order_seq_cst, memory_order_acquire);
        if ((seen & ~1) != round) break;
        syscall(SYS_futex, passed, FUTEX_WAIT_PRIVATE, round | 1, NULL, NULL, 0);
    }
}
#endif
