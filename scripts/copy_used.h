/* Included before llama-kv-cache.cpp alone (scripts/llama_cpp.cmake): of a slot that is copied, only what is used.
 *
 * llama_kv_cache::update copies the whole buffer of a slot, however few tokens it holds: 180 MB and 35 ms for a short
 * prefix in a context of 8,192 tokens, for each choice of `n` and each request that shares a prompt's head.
 *
 * The macro stands for the two calls there. Its names are that function's own, so that another version of llama.cpp
 * in which they mean something else does not compile.
 */
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>
#include "ggml.h"
#include "ggml-backend.h"

/* The cells that the targets of this update hold at most. Of all of them: a target may be the next one's source. */
template <typename Cells, typename Streams>
static inline int64_t nibble_most_used(const std::vector<Cells> & cells, const Streams & targets) {
    int64_t most = 0;
    for (const auto target : targets) {
        const int64_t used = cells[target].used_max_p1();
        if (used > most) most = used;
    }
    return most;
}

/* Copy the first `used` cells of a slot's keys or values. Transposed values lie in a row of cells for each channel. */
static inline void nibble_copy_used(ggml_tensor * source, ggml_tensor * target, int64_t used, bool is_transposed) {
    if (!ggml_backend_buffer_is_host(source->buffer) || !ggml_backend_buffer_is_host(target->buffer)) {
        ggml_backend_tensor_copy(source, target);
        return;
    }
    const int64_t channels = source->ne[0], cells = source->ne[1];
    if (used > cells) used = cells;
    const char * from = static_cast<const char *>(source->data);
    char * to = static_cast<char *>(target->data);
    if (!is_transposed) {
        memcpy(to, from, ggml_row_size(source->type, channels) * used);
        return;
    }
    const size_t row = ggml_row_size(source->type, cells), part = ggml_row_size(source->type, used);
    for (int64_t channel = 0; channel < channels; channel++) {
        memcpy(to + channel * row, from + channel * row, part);
    }
}

#define ggml_backend_tensor_copy(source, target)                                       \
    nibble_copy_used((source), (target), nibble_most_used(v_cells, sc_info.sdst),      \
                     v_trans && (source) == layer.v_stream[ssrc])
