/* Included by attention.h: attention of few rows, as in decoding.
 *
 * For prompts ggml computes flash attention in tiles. A row that comes alone it takes cell by cell: each cell's values
 * are added in half floats, with a call of expf(), and once for every head, though several share their keys and values.
 * Here up to four heads that share keys and values go together, over 64 of the cells that their token sees at a time:
 * keys and values are widened once for all of them, sums stay in single floats, and the maximum is corrected once a
 * block.
 *
 * What a row gets hangs neither on the rows beside it nor on where in a shared cache its cells lie: cells that it does
 * not see are no part of its blocks.
 *
 * Source: Milakov and Gimelshein, Online normalizer calculation for softmax (arxiv.org/abs/1805.02867).
 */
#pragma once
#if defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

namespace {

constexpr int NIBBLE_ROWS = 4;
constexpr int NIBBLE_CELLS = 64;
constexpr int NIBBLE_STRIDE = 4; // cells whose keys are taken together
constexpr int NIBBLE_WIDTH = 256;
constexpr int NIBBLE_LINE = 64; // bytes that memory gives at once

/* Heads of one token that share keys and values, and what has been added up for each. */
struct nibble_rows {
    int count;
    const float * query[NIBBLE_ROWS];
    float top[NIBBLE_ROWS];   // the largest score so far
    float total[NIBBLE_ROWS]; // of exp(score - top)
    alignas(64) float weight[NIBBLE_ROWS][NIBBLE_CELLS]; // scores of a block, then exp(score - top)
    alignas(64) float sum[NIBBLE_ROWS][NIBBLE_WIDTH];    // of weight * value
};

/* The next cells that are seen, and what the mask adds to their scores. */
struct nibble_block {
    int count;
    int64_t cell[NIBBLE_CELLS];
    alignas(64) float mask[NIBBLE_CELLS];
};

inline __m256 nibble_widen(const void * halves) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) halves));
}

/* As many single floats as the processor computes at a time. Where lanes are cells or channels of their own, it is the
 * same whether they are eight or sixteen. */
#if defined(__AVX512F__)
#define NIBBLE_WIDE(operation) _mm512_##operation
typedef __m512 nibble_floats;
typedef __m256i nibble_float_halves;
#else
#define NIBBLE_WIDE(operation) _mm256_##operation
typedef __m256 nibble_floats;
typedef __m128i nibble_float_halves;
#endif
constexpr int NIBBLE_LANES = sizeof(nibble_floats) / sizeof(float);

inline nibble_floats nibble_zero() { return NIBBLE_WIDE(setzero_ps)(); }
inline nibble_floats nibble_all(float value) { return NIBBLE_WIDE(set1_ps)(value); }
inline nibble_floats nibble_load(const float * at) { return NIBBLE_WIDE(load_ps)(at); }
inline void nibble_store(float * at, nibble_floats values) { NIBBLE_WIDE(store_ps)(at, values); }
inline nibble_floats nibble_plus(nibble_floats a, nibble_floats b) { return NIBBLE_WIDE(add_ps)(a, b); }
inline nibble_floats nibble_less(nibble_floats a, nibble_floats b) { return NIBBLE_WIDE(sub_ps)(a, b); }
inline nibble_floats nibble_plus_product(nibble_floats sum, nibble_floats a, nibble_floats b) {
    return NIBBLE_WIDE(fmadd_ps)(a, b, sum);
}
inline nibble_floats nibble_read(const void * halves) {
    nibble_float_halves some;
    memcpy(&some, halves, sizeof(some));
    return NIBBLE_WIDE(cvtph_ps)(some);
}

/* In place, of a block. */
inline void nibble_exp(float * values, float top) {
    for (int i = 0; i < NIBBLE_CELLS; i += NIBBLE_LANES) {
        nibble_store(values + i, ggml_v_expf(nibble_less(nibble_load(values + i), nibble_all(top))));
    }
}

inline __m256 nibble_max(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
inline __m256 nibble_add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }

/* Over a block. */
template <__m256 (*op)(__m256, __m256)> inline float nibble_reduce(const float * values) {
    __m256 all = _mm256_load_ps(values);
    for (int i = 8; i < NIBBLE_CELLS; i += 8) all = op(all, _mm256_load_ps(values + i));
    all = op(all, _mm256_permute2f128_ps(all, all, 1));
    all = op(all, _mm256_permute_ps(all, 0x4e));
    return _mm256_cvtss_f32(op(all, _mm256_permute_ps(all, 0xb1)));
}

/* Have a cell's keys or values of one head come while others are computed with. Between those of two cells lie those of
 * all other heads, too much for the processor to see by itself what will be wanted. */
inline void nibble_fetch(const char * halves, int64_t width) {
    for (int64_t at = 0; at < width * (int64_t) sizeof(ggml_fp16_t); at += NIBBLE_LINE) __builtin_prefetch(halves + at);
}

/* Queries times the keys of four cells, into weight[row][at..]: eight parts of each score first, then their sum. */
template <int ROWS> inline void nibble_score(nibble_rows & rows, int width, const char * const * keys, int at) {
    constexpr int TOGETHER = ROWS < 4 ? 4 : 2; // keys at once: sixteen registers hold up to twelve sums
    __m256 parts[NIBBLE_STRIDE][ROWS];
#pragma GCC unroll 2
    for (int first = 0; first < NIBBLE_STRIDE; first += TOGETHER) {
        __m256 sums[TOGETHER][ROWS];
#pragma GCC unroll 4
        for (int i = 0; i < TOGETHER; i++) {
#pragma GCC unroll 4
            for (int row = 0; row < ROWS; row++) sums[i][row] = _mm256_setzero_ps();
        }
        for (int at_width = 0; at_width < width; at_width += 8) {
#pragma GCC unroll 4
            for (int i = 0; i < TOGETHER; i++) {
                const __m256 key = nibble_widen(keys[first + i] + at_width * sizeof(ggml_fp16_t));
#pragma GCC unroll 4
                for (int row = 0; row < ROWS; row++) {
                    sums[i][row] = _mm256_fmadd_ps(key, _mm256_loadu_ps(rows.query[row] + at_width), sums[i][row]);
                }
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < TOGETHER; i++) {
#pragma GCC unroll 4
            for (int row = 0; row < ROWS; row++) parts[first + i][row] = sums[i][row];
        }
    }
#pragma GCC unroll 4
    for (int row = 0; row < ROWS; row++) {
        const __m256 pairs = _mm256_hadd_ps(
            _mm256_hadd_ps(parts[0][row], parts[1][row]), _mm256_hadd_ps(parts[2][row], parts[3][row]));
        const __m128 scores = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
        _mm_store_ps(rows.weight[row] + at, scores);
    }
}

/* Sums of weighted values. Meanwhile the keys come that the next block will probably have. */
template <int ROWS>
inline void nibble_gather(
        nibble_rows & rows, const nibble_block & block, const ggml_tensor * k, const ggml_tensor * v, const char * keys,
        const char * values) {
    constexpr int TOGETHER = 16 / NIBBLE_LANES; // the channels of a head are whole sixteens
    for (int at = 0; at < v->ne[0]; at += 16) {
        nibble_floats sums[TOGETHER][ROWS];
#pragma GCC unroll 4
        for (int row = 0; row < ROWS; row++) {
#pragma GCC unroll 2
            for (int i = 0; i < TOGETHER; i++) sums[i][row] = nibble_load(rows.sum[row] + at + i*NIBBLE_LANES);
        }
        for (int cell = 0; cell < block.count; cell++) {
            const char * value = values + block.cell[cell] * v->nb[1] + at * sizeof(ggml_fp16_t);
            if (at == 0) nibble_fetch(keys + (block.cell[cell] + NIBBLE_CELLS) * k->nb[1], k->ne[0]);
#pragma GCC unroll 2
            for (int i = 0; i < TOGETHER; i++) {
                const nibble_floats part = nibble_read(value + i*NIBBLE_LANES * sizeof(ggml_fp16_t));
#pragma GCC unroll 4
                for (int row = 0; row < ROWS; row++) {
                    sums[i][row] = nibble_plus_product(sums[i][row], nibble_all(rows.weight[row][cell]), part);
                }
            }
        }
#pragma GCC unroll 4
        for (int row = 0; row < ROWS; row++) {
#pragma GCC unroll 2
            for (int i = 0; i < TOGETHER; i++) nibble_store(rows.sum[row] + at + i*NIBBLE_LANES, sums[i][row]);
        }
    }
}

template <int ROWS>
inline void nibble_take_block(
        nibble_rows & rows, nibble_block & block, const ggml_tensor * k, const ggml_tensor * v, const char * keys,
        const char * values, float scale) {
    for (int at = block.count; at < NIBBLE_CELLS; at++) { // beyond the last one
        block.cell[at] = block.cell[block.count - 1];
        block.mask[at] = -INFINITY;
    }
    for (int at = 0; at < NIBBLE_CELLS; at += NIBBLE_STRIDE) {
        const __m128 mask = _mm_load_ps(block.mask + at);
        if (at >= block.count) {
            for (int row = 0; row < ROWS; row++) _mm_store_ps(rows.weight[row] + at, mask);
            continue;
        }
        const char * four[NIBBLE_STRIDE];
        for (int i = 0; i < NIBBLE_STRIDE; i++) {
            four[i] = keys + block.cell[at + i] * k->nb[1];
            nibble_fetch(values + block.cell[at + i] * v->nb[1], v->ne[0]);
        }
        nibble_score<ROWS>(rows, k->ne[0], four, at);
        for (int row = 0; row < ROWS; row++) {
            const __m128 scores = _mm_load_ps(rows.weight[row] + at);
            _mm_store_ps(rows.weight[row] + at, _mm_fmadd_ps(scores, _mm_set1_ps(scale), mask));
        }
    }
    for (int row = 0; row < ROWS; row++) {
        const float top = std::max(rows.top[row], nibble_reduce<nibble_max>(rows.weight[row]));
        if (top > rows.top[row]) {
            const float less = expf(rows.top[row] - top);
            rows.total[row] *= less;
            ggml_vec_scale_f32(v->ne[0], rows.sum[row], less);
            rows.top[row] = top;
        }
        nibble_exp(rows.weight[row], top);
        rows.total[row] += nibble_reduce<nibble_add>(rows.weight[row]);
    }
    nibble_gather<ROWS>(rows, block, k, v, keys, values);
    block.count = 0;
}

/* Of cells first to end, those that the mask lets be seen. */
template <int ROWS>
void nibble_take(
        nibble_rows & rows, const ggml_fp16_t * mask, const ggml_tensor * k, const ggml_tensor * v, const char * keys,
        const char * values, int64_t first, int64_t end, float scale) {
    nibble_block block;
    block.count = 0;
    for (int64_t cell = first; cell < end; cell++) {
        const float added = mask ? GGML_CPU_FP16_TO_FP32(mask[cell]) : 0.0f;
        if (added == -INFINITY) continue;
        nibble_fetch(keys + cell * k->nb[1], k->ne[0]);
        block.cell[block.count] = cell;
        block.mask[block.count++] = added;
        if (block.count == NIBBLE_CELLS) nibble_take_block<ROWS>(rows, block, k, v, keys, values, scale);
    }
    if (block.count != 0) nibble_take_block<ROWS>(rows, block, k, v, keys, values, scale);
}

/* Of rows from `first` on, before `end`, those of one token, over cells ic_start to ic_end: how many were computed. Where
 * there are `partials`, what was added up goes there, for other threads to add what they did. */
inline int nibble_attend_few(
        const nibble_head & at, int first, int end, int64_t ic_start, int64_t ic_end, float scale, float * partials,
        int64_t partial_stride) {
    const int64_t width = at.v->ne[0];
    nibble_rows rows;
    rows.count = std::min({end - first, NIBBLE_ROWS, (int) ((first / at.group + 1) * at.group) - first});
    for (int row = 0; row < rows.count; row++) {
        rows.query[row] = at.query(first + row);
        rows.top[row] = -INFINITY;
        rows.total[row] = 0.0f;
        memset(rows.sum[row], 0, width * sizeof(float));
    }
    const ggml_fp16_t * seen = at.seen(at.token(first));
    const char * keys = at.keys();
    const char * values = at.values();
    switch (rows.count) {
        case 1: nibble_take<1>(rows, seen, at.k, at.v, keys, values, ic_start, ic_end, scale); break;
        case 2: nibble_take<2>(rows, seen, at.k, at.v, keys, values, ic_start, ic_end, scale); break;
        case 3: nibble_take<3>(rows, seen, at.k, at.v, keys, values, ic_start, ic_end, scale); break;
        case 4: nibble_take<4>(rows, seen, at.k, at.v, keys, values, ic_start, ic_end, scale); break;
    }
    for (int row = 0; row < rows.count; row++) {
        if (partials) {
            float * partial = partials + (first + row) * partial_stride;
            partial[0] = rows.top[row];
            partial[1] = rows.total[row];
            memcpy(partial + 2, rows.sum[row], width * sizeof(float));
        } else {
            at.tell(first + row, rows.sum[row], rows.total[row]);
        }
    }
    return rows.count;
}

} // namespace
#endif
