/* Included before ggml-backend.cpp alone (scripts/llama_cpp.cmake): a large buffer is cleared by giving its pages back.
 *
 * A new KV cache is cleared, and so every page of it was brought in before its model was ready: 3 GB took 1 to 3
 * seconds, and 7 to 8 where a virtual machine's host had to find them. On Linux private pages that were given back
 * read as zero, and come when they are written: a slot that nobody has used takes no memory.
 *
 * Docs: madvise(2), MADV_DONTNEED and MADV_NOHUGEPAGE.
 */
#pragma once
#include <cstdint>
#include <cstring>
#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

static inline void * nibble_lazy_memset(void * at, int value, size_t size) {
#ifdef __linux__
    const size_t least = size_t(64) << 20;
    if (value == 0 && size >= least) {
        const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE));
        const uintptr_t begin = uintptr_t(at), end = begin + size;
        const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
        void * const pages = reinterpret_cast<void *>(first);
        // In huge pages the first prompt of each slot would bring in two megabytes for each layer's keys and values.
        // What is written later is read as fast from small ones. Where it is refused, they come in huge ones.
        (void) madvise(pages, last - first, MADV_NOHUGEPAGE);
        // Refused for memory that is locked or is not the process's own: then every byte is set.
        if (madvise(pages, last - first, MADV_DONTNEED) == 0) {
            memset(at, 0, first - begin);
            memset(reinterpret_cast<void *>(last), 0, end - last);
            return at;
        }
    }
#endif
    return memset(at, value, size);
}

#define memset nibble_lazy_memset
