/* Included by llama.cpp's files that scripts/llama_cpp.patch changes: several splits of a batch, computed in one pass.
 *
 * Where each sequence has a KV buffer for itself (a stream), llama.cpp computes in one pass over the weights only
 * equally many tokens of streams that are neighbours. Eight streams that decode beside a chunk of a prompt take two
 * passes, and a hole between them makes it three; each reads all weights again, and its graph is built anew.
 *
 * But it is attention alone that knows of streams. So the splits are made as before, each with its cells, and then as
 * many as have room are joined: one graph for all of their tokens, in which attention is computed for each split (a
 * run) by itself, with its own keys, values and mask.
 */
#pragma once
#include <cstdint>
#include <vector>
#include "llama-batch.h"

/* More runs in one pass would need more nodes than graphs have room for (llama_context::graph_max_nodes). */
constexpr size_t NIBBLE_MOST_RUNS = 8;

/* Equally many tokens of neighbouring streams, within the tokens of a pass. */
struct nibble_run {
    uint32_t first;   // index of its first token in the pass
    uint32_t tokens;  // of all its streams together
    uint32_t stream;  // its first stream
    uint32_t streams;
    uint32_t cells;   // of each stream, those that attention looks at

    bool operator==(const nibble_run & other) const {
        return first == other.first && tokens == other.tokens && stream == other.stream &&
               streams == other.streams && cells == other.cells;
    }
};

/* Where each pass begins among `splits`, and behind all of them, their number. */
static inline std::vector<size_t> nibble_passes(const std::vector<llama_ubatch> & splits, uint32_t most_tokens) {
    std::vector<size_t> begins = { 0 };
    uint32_t tokens = 0;
    for (size_t i = 0; i < splits.size(); i++) {
        if (i > begins.back() && (tokens + splits[i].n_tokens > most_tokens || i - begins.back() == NIBBLE_MOST_RUNS)) {
            begins.push_back(i);
            tokens = 0;
        }
        tokens += splits[i].n_tokens;
    }
    if (!splits.empty()) begins.push_back(splits.size());
    return begins;
}

template <typename T>
static inline void nibble_append(std::vector<T> & all, const std::vector<T> & more) {
    all.insert(all.end(), more.begin(), more.end());
}

/* The tokens of splits `begin` up to `end` as one, in the same order; each of one sequence, at one position. */
static inline llama_ubatch nibble_joined(const std::vector<llama_ubatch> & splits, size_t begin, size_t end) {
    if (end - begin == 1) return splits[begin];
    auto data = std::make_shared<llama_ubatch::data_t>();
    for (size_t i = begin; i < end; i++) {
        const auto & more = *splits[i].data;
        nibble_append(data->token, more.token);
        nibble_append(data->embd, more.embd);
        nibble_append(data->pos, more.pos);
        nibble_append(data->n_seq_id, more.n_seq_id);
        nibble_append(data->seq_id_data, more.seq_id_data);
        nibble_append(data->output, more.output);
        nibble_append(data->batch_idxs, more.batch_idxs);
    }
    data->seq_idx.assign(splits[begin].data->seq_idx.size(), -1);
    for (auto & sequence : data->seq_id_data) {
        data->seq_id.push_back(&sequence);
        if (data->seq_idx[sequence] < 0) {
            data->seq_idx[sequence] = data->seq_id_unq.size();
            data->seq_id_unq.push_back(sequence);
        }
    }
    llama_ubatch joined = splits[begin];
    joined.b_equal_seqs = false;
    joined.n_tokens = joined.n_seqs = data->pos.size();
    joined.n_seq_tokens = 1;
    joined.n_seqs_unq = data->seq_id_unq.size();
    joined.token = joined.token ? data->token.data() : nullptr;
    joined.embd = joined.embd ? data->embd.data() : nullptr;
    joined.pos = data->pos.data();
    joined.n_seq_id = data->n_seq_id.data();
    joined.seq_id = data->seq_id.data();
    joined.seq_id_unq = data->seq_id_unq.data();
    joined.seq_idx = data->seq_idx.data();
    joined.output = data->output.data();
    joined.data = std::move(data);
    return joined;
}
