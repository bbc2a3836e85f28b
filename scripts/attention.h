/* Included into ggml's ops.cpp above flash attention (scripts/llama_cpp.patch): attention of ours, in place of ggml's.
 *
 * Softcaps, slopes, sinks and quantized caches are left to ggml, as are other processors.
 */
#pragma once
#if defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <algorithm>
#include <atomic>

/* Whether any rows were computed here since this was last asked. A build without this file, or for another kind of
 * processor, has no such symbol. */
extern "C" __attribute__((visibility("default"))) bool nibble_has_attended(void);

namespace {

std::atomic<bool> nibble_attended;

/* Rows that share a head of keys and values. Rows are numbered otherwise than in ggml, the heads of a token that share
 * keys first: which turn takes which does not matter. With one token it is the same order, in which partial sums lie. */
struct nibble_head {
    ggml_tensor * dst;
    const ggml_tensor * q;
    const ggml_tensor * k;
    const ggml_tensor * v;
    const ggml_tensor * mask;
    int64_t tokens, group, shared, stream;

    nibble_head(ggml_tensor * dst, int64_t row)
        : dst(dst), q(dst->src[0]), k(dst->src[1]), v(dst->src[2]), mask(dst->src[3]), tokens(q->ne[1]),
          group(q->ne[2] / k->ne[2]), shared(row / (group * tokens) % k->ne[2]),
          stream(row / (group * tokens * k->ne[2])) {}

    /* The first row that is not of this head any more. */
    int64_t end(int64_t row) const { return (row / (group * tokens) + 1) * (group * tokens); }
    int64_t token(int64_t row) const { return row / group % tokens; }
    int64_t head(int64_t row) const { return shared * group + row % group; }
    const float * query(int64_t row) const {
        return (const float *) ((const char *) q->data + token(row)*q->nb[1] + head(row)*q->nb[2] + stream*q->nb[3]);
    }
    const char * keys() const { return (const char *) k->data + shared*k->nb[2] + stream*k->ne[3]/q->ne[3]*k->nb[3]; }
    const char * values() const { return (const char *) v->data + shared*v->nb[2] + stream*v->ne[3]/q->ne[3]*v->nb[3]; }
    /* The token's mask; none where all cells are seen. */
    const ggml_fp16_t * seen(int64_t token) const {
        return !mask ? nullptr : (const ggml_fp16_t *) (
            (const char *) mask->data + token*mask->nb[1] + stream%mask->ne[3]*mask->nb[3]);
    }
    /* Write what was added up for a row. */
    void tell(int64_t row, const float * sum, float total) const {
        const int64_t place = (stream*dst->ne[2] + token(row))*dst->ne[1] + head(row);
        float * out = (float *) ((char *) dst->data + place*dst->nb[1]);
        const float share = total == 0.0f ? 0.0f : 1.0f / total;
        for (int64_t i = 0; i < v->ne[0]; i++) out[i] = sum[i] * share;
    }
};

} // namespace

#include "few_rows_attention.h"
#include "many_rows_attention.h"

namespace {

/* Whether rows of this operation can be computed here. */
inline bool nibble_attends(const ggml_tensor * dst) {
    const ggml_tensor * q = dst->src[0];
    const ggml_tensor * k = dst->src[1];
    const ggml_tensor * v = dst->src[2];
    float options[3]; // scale, largest bias, softcap
    memcpy(options, dst->op_params, sizeof(options));
    return q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 && !dst->src[4]
        && options[1] == 0.0f && options[2] == 0.0f && k->ne[0] % 8 == 0 && v->ne[0] % 16 == 0
        && k->ne[0] <= NIBBLE_WIDTH && v->ne[0] <= NIBBLE_WIDTH && k->ne[2] == v->ne[2] && k->ne[3] == v->ne[3]
        && (!dst->src[3] || dst->src[3]->ne[2] == 1);
}

/* Rows ir0 to ir1 over cells ic_start to ic_end, as ggml_compute_forward_flash_attn_ext_f16_one_chunk is given them;
 * false where they are for that to compute. */
bool nibble_attend(
        const ggml_compute_params * params, ggml_tensor * dst, int ir0, int ir1, int64_t ic_start, int64_t ic_end,
        float * partials, int64_t partial_stride) {
    if (params->use_ref || !nibble_attends(dst)) return false;
    // Read first: threads that all write would take the line from each other.
    if (!nibble_attended.load(std::memory_order_relaxed)) nibble_attended.store(true, std::memory_order_relaxed);
    float scale;
    memcpy(&scale, dst->op_params, sizeof(scale));
    for (int first = ir0; first < ir1;) {
        const nibble_head at(dst, first);
        const int end = std::min<int64_t>(ir1, at.end(first));
        if (!partials && end - first >= NIBBLE_MANY_ROWS) {
            const int run_end = nibble_run_end(at, first, end);
            if (run_end - first >= NIBBLE_MANY_ROWS) {
                first += nibble_attend_many(at, first, run_end, scale);
                continue;
            }
        }
        first += nibble_attend_few(at, first, end, ic_start, ic_end, scale, partials, partial_stride);
    }
    return true;
}

/* How many rows a turn takes, where `rows` would share them out: whole groups of heads that share keys, if there are
 * enough of them for all threads. */
inline int64_t nibble_rows_per_turn(const ggml_tensor * dst, int64_t rows, int threads) {
    const ggml_tensor * q = dst->src[0];
    const int64_t group = q->ne[2] / dst->src[1]->ne[2];
    const int64_t groups = q->ne[1] * q->ne[2] * q->ne[3] / group;
    return groups < threads ? rows : (rows + group - 1) / group * group;
}

} // namespace

bool nibble_has_attended(void) { return nibble_attended.exchange(false, std::memory_order_relaxed); }
#else
#define nibble_attend(params, dst, ir0, ir1, ic_start, ic_end, partials, partial_stride) (false)
#define nibble_attends(dst) (false)
#define nibble_rows_per_turn(dst, rows, threads) (rows)
#endif
