/* Included by attention.h: attention of many rows, as in reading a prompt.
 *
 * ggml's tiles are of 64 rows of one head, and a tile of fewer takes as long. Here many rows go over a block of 64 cells
 * together, of all heads that share their keys and values: those are widened, and keys turned so that cells lie
 * side by side, once for all of them, and what is computed then is two products of matrices in single floats.
 *
 * Every sum is added up in the order of few_rows_attention.h. So where a token's cells follow one another, which they
 * do in a cache that is a sequence's own, its result is the same whether it comes alone, as the last of a chunk or in
 * the middle of one, bit for bit.
 */
#pragma once
#if defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <memory>

namespace {

constexpr int NIBBLE_MANY_ROWS = 12; // from which on it pays
constexpr int NIBBLE_TILE_ROWS = 144; // most that go over a block together
constexpr int NIBBLE_PARTS = 8; // of a score, as few_rows_attention.h has them
#if defined(__AVX512F__)
constexpr int NIBBLE_AT_ONCE = 12; // rows in registers, over two vectors
#else
constexpr int NIBBLE_AT_ONCE = 6;
#endif
constexpr int NIBBLE_FEW_CELLS = 4;
constexpr ggml_fp16_t NIBBLE_UNSEEN = 0xfc00; // -inf

/* Rows that share keys and values, of tokens that follow one another, and a block of the cells that the last sees. */
struct nibble_tile {
    int count;
    int tokens;
    const float * query[NIBBLE_TILE_ROWS];
    const ggml_fp16_t * seen[NIBBLE_TILE_ROWS]; // the mask of each token
    int token[NIBBLE_TILE_ROWS];                // of each row
    float top[NIBBLE_TILE_ROWS];                // the largest score so far
    float total[NIBBLE_TILE_ROWS];              // of exp(score - top)
    int cells;
    int64_t cell[NIBBLE_CELLS];
    alignas(64) float mask[NIBBLE_TILE_ROWS][NIBBLE_CELLS];  // of each token: what is added to its scores
    alignas(64) float weight[NIBBLE_AT_ONCE][NIBBLE_CELLS];  // scores, then exp(score - top)
    alignas(64) float keys[NIBBLE_WIDTH * NIBBLE_CELLS];     // cells side by side
    alignas(64) float values[NIBBLE_CELLS * NIBBLE_WIDTH];   // channels side by side
    alignas(64) float sum[NIBBLE_TILE_ROWS * NIBBLE_WIDTH];  // of weight * value
};

/* Numbers from one row of channels to the next: as many as go through two vectors at a time. */
inline int64_t nibble_stride(int64_t width) {
    return (width + 2*NIBBLE_LANES - 1) / (2*NIBBLE_LANES) * (2*NIBBLE_LANES);
}

/* Eight rows of eight: what were columns are rows. */
inline void nibble_turn(__m256 * rows) {
    __m256 pairs[8], fours[8];
    for (int i = 0; i < 4; i++) {
        pairs[2*i] = _mm256_unpacklo_ps(rows[2*i], rows[2*i + 1]);
        pairs[2*i + 1] = _mm256_unpackhi_ps(rows[2*i], rows[2*i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        fours[4*i] = _mm256_shuffle_ps(pairs[4*i], pairs[4*i + 2], 0x44);
        fours[4*i + 1] = _mm256_shuffle_ps(pairs[4*i], pairs[4*i + 2], 0xee);
        fours[4*i + 2] = _mm256_shuffle_ps(pairs[4*i + 1], pairs[4*i + 3], 0x44);
        fours[4*i + 3] = _mm256_shuffle_ps(pairs[4*i + 1], pairs[4*i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
    }
}

/* Keys, values and masks of the block's cells. Behind the last one, cells weigh nothing. */
inline void nibble_load_block(
        nibble_tile & tile, const ggml_tensor * k, const ggml_tensor * v, const char * keys, const char * values) {
    const int64_t depth = k->ne[0], width = v->ne[0], stride = nibble_stride(width);
    // Scores are of two vectors of cells at a time, and what a NaN is added to is one.
    const int scored = (tile.cells + 2*NIBBLE_LANES - 1) / (2*NIBBLE_LANES) * (2*NIBBLE_LANES);
    for (int at = 0; at < scored; at += NIBBLE_PARTS) {
        for (int64_t channel = 0; channel < depth; channel += NIBBLE_PARTS) {
            __m256 square[NIBBLE_PARTS];
            for (int i = 0; i < NIBBLE_PARTS; i++) {
                square[i] = at + i < tile.cells
                    ? nibble_widen(keys + tile.cell[at + i] * k->nb[1] + channel * sizeof(ggml_fp16_t))
                    : _mm256_setzero_ps();
            }
            nibble_turn(square);
            for (int i = 0; i < NIBBLE_PARTS; i++) {
                _mm256_store_ps(tile.keys + (channel + i) * NIBBLE_CELLS + at, square[i]);
            }
        }
    }
    for (int at = 0; at < tile.cells; at++) {
        const char * value = values + tile.cell[at] * v->nb[1];
        for (int64_t channel = 0; channel < stride; channel += NIBBLE_LANES) {
            const bool is_there = channel < width;
            nibble_store(
                tile.values + at * stride + channel,
                is_there ? nibble_read(value + channel * sizeof(ggml_fp16_t)) : nibble_zero());
        }
    }
    const bool in_a_row = tile.cells == NIBBLE_CELLS && tile.cell[NIBBLE_CELLS - 1] - tile.cell[0] == NIBBLE_CELLS - 1;
    for (int token = 0; token < tile.tokens; token++) {
        const ggml_fp16_t * seen = tile.seen[token];
        for (int at = 0; at < NIBBLE_CELLS; at++) {
            if (in_a_row && seen) {
                nibble_store(tile.mask[token] + at, nibble_read(seen + tile.cell[at]));
                at += NIBBLE_LANES - 1;
            } else if (at < tile.cells) {
                tile.mask[token][at] = seen ? GGML_CPU_FP16_TO_FP32(seen[tile.cell[at]]) : 0.0f;
            } else {
                tile.mask[token][at] = -INFINITY;
            }
        }
    }
}

/* Of every eighth channel from `first` on: their part of the scores of two vectors of cells. */
template <int ROWS>
inline __attribute__((always_inline)) void nibble_part(
        nibble_floats (&sums)[ROWS][2], const float * const * query, const float * keys, int64_t depth, int first) {
#pragma GCC unroll 12
    for (int row = 0; row < ROWS; row++) sums[row][0] = sums[row][1] = nibble_zero();
    for (int64_t channel = first; channel < depth; channel += NIBBLE_PARTS) {
        const nibble_floats low = nibble_load(keys + channel * NIBBLE_CELLS);
        const nibble_floats high = nibble_load(keys + channel * NIBBLE_CELLS + NIBBLE_LANES);
#pragma GCC unroll 12
        for (int row = 0; row < ROWS; row++) {
            const nibble_floats part = nibble_all(query[row][channel]);
            sums[row][0] = nibble_plus_product(sums[row][0], low, part);
            sums[row][1] = nibble_plus_product(sums[row][1], high, part);
        }
    }
}

template <int ROWS> inline void nibble_plus(nibble_floats (&sums)[ROWS][2], const nibble_floats (&more)[ROWS][2]) {
#pragma GCC unroll 12
    for (int row = 0; row < ROWS; row++) {
        sums[row][0] = nibble_plus(sums[row][0], more[row][0]);
        sums[row][1] = nibble_plus(sums[row][1], more[row][1]);
    }
}

/* Scores of rows from `first` on over the block. Eight parts of each, and their sum as of the lanes of a register. */
template <int ROWS> inline void nibble_score_tile(nibble_tile & tile, int first, int64_t depth, float scale) {
    const float * const * query = tile.query + first;
    for (int at = 0; at < NIBBLE_CELLS; at += 2 * NIBBLE_LANES) {
        if (at >= tile.cells) {
            for (int row = 0; row < ROWS; row++) {
                nibble_store(tile.weight[row] + at, nibble_all(-INFINITY));
                nibble_store(tile.weight[row] + at + NIBBLE_LANES, nibble_all(-INFINITY));
            }
            continue;
        }
        const float * keys = tile.keys + at;
        nibble_floats eight[ROWS][2], four[ROWS][2], two[ROWS][2], one[ROWS][2];
        for (int half = 0; half < 2; half++) {
            auto & quarter = half == 0 ? eight : four;
            nibble_part<ROWS>(quarter, query, keys, depth, 4*half);
            nibble_part<ROWS>(one, query, keys, depth, 4*half + 1);
            nibble_plus<ROWS>(quarter, one);
            nibble_part<ROWS>(two, query, keys, depth, 4*half + 2);
            nibble_part<ROWS>(one, query, keys, depth, 4*half + 3);
            nibble_plus<ROWS>(two, one);
            nibble_plus<ROWS>(quarter, two);
        }
        nibble_plus<ROWS>(eight, four);
        for (int row = 0; row < ROWS; row++) {
            const float * mask = tile.mask[tile.token[first + row]] + at;
            for (int i = 0; i < 2; i++) {
                const nibble_floats added = nibble_load(mask + i*NIBBLE_LANES);
                nibble_store(
                    tile.weight[row] + at + i*NIBBLE_LANES, nibble_plus_product(added, eight[row][i], nibble_all(scale)));
            }
        }
    }
}

template <int ROWS> inline void nibble_gather_tile(nibble_tile & tile, int first, int64_t stride) {
    for (int64_t at = 0; at < stride; at += 2 * NIBBLE_LANES) {
        float * sum = tile.sum + first * stride + at;
        nibble_floats sums[ROWS][2];
#pragma GCC unroll 12
        for (int row = 0; row < ROWS; row++) {
            sums[row][0] = nibble_load(sum + row*stride);
            sums[row][1] = nibble_load(sum + row*stride + NIBBLE_LANES);
        }
        for (int cell = 0; cell < tile.cells; cell++) {
            const nibble_floats low = nibble_load(tile.values + cell*stride + at);
            const nibble_floats high = nibble_load(tile.values + cell*stride + at + NIBBLE_LANES);
#pragma GCC unroll 12
            for (int row = 0; row < ROWS; row++) {
                const nibble_floats weight = nibble_all(tile.weight[row][cell]);
                sums[row][0] = nibble_plus_product(sums[row][0], weight, low);
                sums[row][1] = nibble_plus_product(sums[row][1], weight, high);
            }
        }
#pragma GCC unroll 12
        for (int row = 0; row < ROWS; row++) {
            nibble_store(sum + row*stride, sums[row][0]);
            nibble_store(sum + row*stride + NIBBLE_LANES, sums[row][1]);
        }
    }
}

template <int ROWS>
inline void nibble_take_rows(nibble_tile & tile, int first, int64_t depth, int64_t stride, float scale) {
    nibble_score_tile<ROWS>(tile, first, depth, scale);
    bool any = false;
    for (int row = 0; row < ROWS; row++) {
        float * weight = tile.weight[row];
        const float best = nibble_reduce<nibble_max>(weight);
        if (best == -INFINITY) { // sees none of these cells
            memset(weight, 0, sizeof(tile.weight[row]));
            continue;
        }
        any = true;
        float & before = tile.top[first + row];
        const float top = std::max(before, best);
        if (top > before) {
            const float less = expf(before - top);
            tile.total[first + row] *= less;
            ggml_vec_scale_f32(stride, tile.sum + (first + row) * stride, less);
            before = top;
        }
        nibble_exp(weight, top);
        tile.total[first + row] += nibble_reduce<nibble_add>(weight);
    }
    if (any) nibble_gather_tile<ROWS>(tile, first, stride);
}

inline void nibble_take_tile(
        nibble_tile & tile, const ggml_tensor * k, const ggml_tensor * v, const char * keys, const char * values,
        float scale) {
    nibble_load_block(tile, k, v, keys, values);
    const int64_t depth = k->ne[0], stride = nibble_stride(v->ne[0]);
    int first = 0;
    for (; first + NIBBLE_AT_ONCE <= tile.count; first += NIBBLE_AT_ONCE) {
        nibble_take_rows<NIBBLE_AT_ONCE>(tile, first, depth, stride, scale);
    }
    for (; first + 2 <= tile.count; first += 2) nibble_take_rows<2>(tile, first, depth, stride, scale);
    if (first < tile.count) nibble_take_rows<1>(tile, first, depth, stride, scale);
    tile.cells = 0;
}

/* All rows of the tile over `cells` cells. */
inline void nibble_take_cells(
        nibble_tile & tile, const ggml_tensor * k, const ggml_tensor * v, const char * keys, const char * values,
        int64_t cells, float scale) {
    const ggml_fp16_t * seen = tile.seen[tile.tokens - 1];
    tile.cells = 0;
    for (int64_t cell = 0; cell < cells; cell++) {
        if (seen && seen[cell] == NIBBLE_UNSEEN) continue;
        tile.cell[tile.cells++] = cell;
        if (tile.cells == NIBBLE_CELLS) nibble_take_tile(tile, k, v, keys, values, scale);
    }
    if (tile.cells != 0) nibble_take_tile(tile, k, v, keys, values, scale);
}

/* Whether the next token sees what this one does, and few cells more: what it has written itself, and no other request. */
inline bool nibble_follows(const ggml_fp16_t * seen, const ggml_fp16_t * next, int64_t cells) {
    const __m256i unseen = _mm256_set1_epi16((short) NIBBLE_UNSEEN);
    int more = 0;
    int64_t cell = 0;
    for (; cell + 16 <= cells; cell += 16) {
        const __m256i masks = _mm256_loadu_si256((const __m256i *) (next + cell));
        const __m256i same = _mm256_cmpeq_epi16(masks, _mm256_loadu_si256((const __m256i *) (seen + cell)));
        const uint32_t others = ~(uint32_t) _mm256_movemask_epi8(same);
        if (others == 0) continue;
        const uint32_t lost = others & (uint32_t) _mm256_movemask_epi8(_mm256_cmpeq_epi16(masks, unseen));
        more += __builtin_popcount(others) / 2;
        if (lost != 0 || more > NIBBLE_FEW_CELLS) return false;
    }
    for (; cell < cells; cell++) {
        if (seen[cell] == next[cell]) continue;
        if (next[cell] == NIBBLE_UNSEEN || ++more > NIBBLE_FEW_CELLS) return false;
    }
    return true;
}

/* The first row from `first` on, at most `end`, whose token does not follow the one before. In a cache that sequences
 * share, tokens of several come together: each of those sees cells of its own, and nothing of another's may matter. */
inline int nibble_run_end(const nibble_head & at, int first, int end) {
    if (!at.mask) return end;
    int next = (first / at.group + 1) * at.group;
    for (; next < end; next += at.group) {
        const int64_t token = at.token(next);
        if (!nibble_follows(at.seen(token - 1), at.seen(token), at.k->ne[1])) break;
    }
    return std::min(next, end);
}

/* Of rows from `first` on, before `end`, over all cells: how many were computed. */
inline int nibble_attend_many(const nibble_head & at, int first, int end, float scale) {
    static thread_local std::unique_ptr<nibble_tile> memory(new nibble_tile);
    nibble_tile & tile = *memory;
    const int64_t stride = nibble_stride(at.v->ne[0]), first_token = at.token(first);
    const int tiles = (end - first + NIBBLE_TILE_ROWS - 1) / NIBBLE_TILE_ROWS;
    tile.count = (end - first + tiles - 1) / tiles;
    for (int row = 0; row < tile.count; row++) {
        const int64_t token = at.token(first + row);
        tile.token[row] = token - first_token;
        tile.seen[tile.token[row]] = at.seen(token);
        tile.query[row] = at.query(first + row);
        tile.top[row] = -INFINITY;
        tile.total[row] = 0.0f;
    }
    tile.tokens = tile.token[tile.count - 1] + 1;
    memset(tile.sum, 0, tile.count * stride * sizeof(float));
    nibble_take_cells(tile, at.k, at.v, at.keys(), at.values(), at.k->ne[1], scale);
    for (int row = 0; row < tile.count; row++) at.tell(first + row, tile.sum + row*stride, tile.total[row]);
    return tile.count;
}

} // namespace
#endif
