/* Included before ggml-backend.cpp alone (scripts/llama_cpp.cmake): a large buffer is cleared by several threads.
 *
 * A new KV cache is cleared, and so every page of it is brought in, by one thread: 3 GB took 0.4 to 1.2 seconds where
 * the machine had the memory at hand and 7 to 8 where a virtual machine's host had to find it; two threads took half.
 */
#pragma once
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

static inline void * nibble_parallel_memset(void * at, int value, size_t size) {
    const size_t least = size_t(64) << 20, most_threads = 8;
    size_t count = size / least;
    if (count > most_threads) count = most_threads;
    // Those of this process: on Linux its affinity counts.
    if (count > std::thread::hardware_concurrency()) count = std::thread::hardware_concurrency();
    if (count < 2) return memset(at, value, size);
    // Whole huge pages, so that no two threads bring in the same one.
    const size_t page = size_t(2) << 20, part = (size / count + page - 1) / page * page;
    char * const begin = static_cast<char *>(at);
    std::vector<std::thread> helpers;
    size_t done = part;  // the first part is this thread's
    try {
        helpers.reserve(count);
        for (; done < size; done += part) {
            helpers.emplace_back([=] { memset(begin + done, value, part < size - done ? part : size - done); });
        }
    } catch (const std::exception &) {
        // A limit on threads or memory: the rest is for this one.
        memset(begin + done, value, size - done);
    }
    memset(begin, value, part < size ? part : size);
    for (std::thread & helper : helpers) helper.join();
    return at;
}

#define memset nibble_parallel_memset
