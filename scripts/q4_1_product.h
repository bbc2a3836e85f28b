/* Included into ggml-cpu.c above its products (scripts/llama_cpp.patch): weights of Q4_1 times columns.
 *
 * ggml has kernels for many columns for the other common types. With this one it takes each row with each column by
 * itself: it unpacks the row's codes and widens four half floats every time, and brings eight partial sums together at
 * the end. Here eight rows lie side by side, one in each lane. They are unpacked once for up to 32 columns, and the
 * products of a block are added up as whole numbers, in 16 bits, before they meet their scales:
 *
 *     8 columns of 4 codes x 8 rows of 4 codes  ->  8 x 2 sums of 16 bits  ->  8 whole numbers  ->  8 floats
 *
 * A result hangs on its row and its column alone, not on what is beside them in the batch; so a single column, which
 * waits for memory and not for instructions, is taken here too (tests/engine/native/test_q4_1_product.py).
 *
 * Source of the formats: ggml-common.h (block_q4_1, block_q8_1).
 */
#pragma once
#if defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

enum { NIBBLE_ROWS = 8, NIBBLE_COLUMNS = 32, NIBBLE_ROWS_PER_TURN = 16, NIBBLE_ALIGNMENT = 64, NIBBLE_LINE = 64 };

/* What a column holds where one block of the weights lies. Those of a group of columns lie side by side, block by block:
 * group > block > column. */
struct nibble_column_block {
    float scale;
    float sum;
    int8_t codes[QK8_1];
};

/* Columns that are taken at once; a build without this file, or for another kind of processor, has no such symbol. */
__attribute__((visibility("default"))) int nibble_q4_1_columns(void);
int nibble_q4_1_columns(void) {
    return NIBBLE_COLUMNS;
}

static inline int64_t nibble_groups(int64_t columns) {
    return (columns + NIBBLE_COLUMNS - 1) / NIBBLE_COLUMNS;
}

/* The first column of a group. Groups are as equal as they can be, since one of few columns gains least. */
static inline int64_t nibble_first_column(int64_t group, int64_t columns) {
    return group * columns / nibble_groups(columns);
}

static inline bool nibble_is_q4_1_product(const struct ggml_tensor * weights, const struct ggml_tensor * columns) {
    const bool is_flat = weights->ne[2] * weights->ne[3] * columns->ne[2] * columns->ne[3] == 1;
    return weights->type == GGML_TYPE_Q4_1 && columns->type == GGML_TYPE_F32 && is_flat;
}

/* Bytes of work space for the columns of a product; 0 where it is not one of these. */
static inline size_t nibble_q4_1_work(const struct ggml_tensor * weights, const struct ggml_tensor * columns) {
    if (!nibble_is_q4_1_product(weights, columns)) return 0;
    return columns->ne[1] * (columns->ne[0] / QK8_1) * sizeof(struct nibble_column_block) + NIBBLE_ALIGNMENT;
}

/* Eight rows of four numbers of 32 bits, told as four vectors with one number of each row. */
struct nibble_quarters {
    __m256i of[4];
};

static inline __attribute__((always_inline)) struct nibble_quarters nibble_side_by_side(
        const char * const * rows, size_t offset) {
    __m256i pair[4];
#pragma GCC unroll 4
    for (int row = 0; row < 4; row++) {
        const __m128i upper = _mm_loadu_si128((const __m128i *) (rows[row + 4] + offset));
        const __m128i lower = _mm_loadu_si128((const __m128i *) (rows[row] + offset));
        pair[row] = _mm256_inserti128_si256(_mm256_castsi128_si256(lower), upper, 1);
    }
    const __m256i low_01 = _mm256_unpacklo_epi32(pair[0], pair[1]), high_01 = _mm256_unpackhi_epi32(pair[0], pair[1]);
    const __m256i low_23 = _mm256_unpacklo_epi32(pair[2], pair[3]), high_23 = _mm256_unpackhi_epi32(pair[2], pair[3]);
    return (struct nibble_quarters) {{
        _mm256_unpacklo_epi64(low_01, low_23),
        _mm256_unpackhi_epi64(low_01, low_23),
        _mm256_unpacklo_epi64(high_01, high_23),
        _mm256_unpackhi_epi64(high_01, high_23),
    }};
}

/* For each row, the sum over a block of its codes times the column's: exact. Of 32 products of 4 bits and 8, the two of
 * a pair and the eight pairs of a lane are at most 16 * 15 * 128, which 16 bits hold. */
static inline __attribute__((always_inline)) __m256 nibble_products(const __m256i * codes, const int8_t * column) {
    int32_t four[8];
    memcpy(four, column, sizeof(four));
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define NIBBLE_DOT(total, codes, column) _mm256_dpbusd_epi32(total, codes, column)
#elif defined(__AVXVNNI__)
#define NIBBLE_DOT(total, codes, column) _mm256_dpbusd_avx_epi32(total, codes, column)
#else
#define NIBBLE_DOT(total, codes, column) _mm256_add_epi16(total, _mm256_maddubs_epi16(codes, column))
#endif
    // Two sums, so that they need not wait for each other.
    __m256i even = _mm256_setzero_si256(), odd = even;
#pragma GCC unroll 4
    for (int part = 0; part < 8; part += 2) {
        even = NIBBLE_DOT(even, codes[part], _mm256_set1_epi32(four[part]));
        odd = NIBBLE_DOT(odd, codes[part + 1], _mm256_set1_epi32(four[part + 1]));
    }
#undef NIBBLE_DOT
#if (defined(__AVX512VNNI__) && defined(__AVX512VL__)) || defined(__AVXVNNI__)
    return _mm256_cvtepi32_ps(_mm256_add_epi32(even, odd));
#else
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(_mm256_set1_epi16(1), _mm256_add_epi16(even, odd)));
#endif
}

/* Up to eight rows of weights times a group of columns; `out` is the first row's result of the first of them. */
static inline __attribute__((always_inline)) void nibble_strip(
        int64_t rows, int columns, int64_t blocks, const char * weights, size_t row_bytes,
        const struct nibble_column_block * group, float * out, size_t out_stride) {
    const char * row[NIBBLE_ROWS];
    // Lanes without a row of their own take the last once more.
    for (int i = 0; i < NIBBLE_ROWS; i++) row[i] = weights + MIN(i, rows - 1) * row_bytes;
    __m256 totals[NIBBLE_COLUMNS];
    for (int column = 0; column < columns; column++) totals[column] = _mm256_setzero_ps();
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i scales_apart = _mm256_setr_epi8(
        0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    for (int64_t block = 0; block < blocks; block++) {
        const size_t offset = block * sizeof(block_q4_1);
        // The next rows, which few columns would otherwise wait for.
        for (int line = 0; line < (int) (NIBBLE_ROWS * sizeof(block_q4_1)); line += NIBBLE_LINE) {
            __builtin_prefetch(weights + NIBBLE_ROWS * (row_bytes + offset) + line);
        }
        const struct nibble_quarters packed = nibble_side_by_side(row, offset + offsetof(block_q4_1, qs));
        __m256i codes[8];
#pragma GCC unroll 4
        for (int part = 0; part < 4; part++) {
            codes[part] = _mm256_and_si256(packed.of[part], nibble);
            codes[part + 4] = _mm256_and_si256(_mm256_srli_epi16(packed.of[part], 4), nibble);
        }
        const __m256i halves = nibble_side_by_side(row, offset + offsetof(block_q4_1, dm)).of[0];
        const __m256i apart = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(halves, scales_apart), 0xd8);
        const __m256 scale = _mm256_cvtph_ps(_mm256_castsi256_si128(apart));
        const __m256 least = _mm256_cvtph_ps(_mm256_extracti128_si256(apart, 1));
        for (int column = 0; column < columns; column++) {
            const struct nibble_column_block * of_column = group + block * columns + column;
            const __m256 products = nibble_products(codes, of_column->codes);
            const __m256 scales = _mm256_mul_ps(scale, _mm256_broadcast_ss(&of_column->scale));
            const __m256 total = _mm256_fmadd_ps(scales, products, totals[column]);
            totals[column] = _mm256_fmadd_ps(least, _mm256_broadcast_ss(&of_column->sum), total);
        }
    }
    for (int column = 0; column < columns; column++) {
        if (rows == NIBBLE_ROWS) {
            _mm256_storeu_ps(out + column * out_stride, totals[column]);
        } else {
            memcpy(out + column * out_stride, &totals[column], rows * sizeof(float));
        }
    }
}

/* This thread's share of the blocks of all columns, quantized as ggml does and laid out by groups. */
static void nibble_lay_out_columns(
        const struct ggml_compute_params * params, const struct ggml_tensor * columns,
        struct nibble_column_block * places) {
    const int64_t blocks = columns->ne[0] / QK8_1;
    const int64_t begin = params->ith * blocks / params->nth;
    const int64_t end = (params->ith + 1) * blocks / params->nth;
    for (int64_t group = 0; group < nibble_groups(columns->ne[1]); group++) {
        const int64_t first = nibble_first_column(group, columns->ne[1]);
        const int64_t count = nibble_first_column(group + 1, columns->ne[1]) - first;
        struct nibble_column_block * of_group = places + first * blocks;
        for (int64_t column = 0; column < count; column++) {
            const float * values = (const float *) ((const char *) columns->data + (first + column) * columns->nb[1]);
            for (int64_t block = begin; block < end; block++) {
                block_q8_1 quantized;
                quantize_row_q8_1(values + block * QK8_1, &quantized, QK8_1);
                struct nibble_column_block * place = of_group + block * count + column;
                place->scale = GGML_CPU_FP16_TO_FP32(quantized.d);
                place->sum = GGML_CPU_FP16_TO_FP32(quantized.s);
                memcpy(place->codes, quantized.qs, QK8_1);
            }
        }
    }
}

/* The whole product, in every thread of the graph; false where it is for ggml to do. */
static bool nibble_multiply_q4_1(const struct ggml_compute_params * params, struct ggml_tensor * dst) {
    const struct ggml_tensor * weights = dst->src[0];
    const struct ggml_tensor * columns = dst->src[1];
    if (params->use_ref || !nibble_is_q4_1_product(weights, columns)) return false;

    GGML_ASSERT(weights->nb[0] == sizeof(block_q4_1) && columns->nb[0] == sizeof(float));
    struct nibble_column_block * places = (void *) GGML_PAD((uintptr_t) params->wdata, NIBBLE_ALIGNMENT);
    const int64_t blocks = weights->ne[0] / QK8_1;
    const char * end = (const char *) (places + columns->ne[1] * blocks);
    GGML_ASSERT(end <= (const char *) params->wdata + params->wsize);
    nibble_lay_out_columns(params, columns, places);
    if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
    ggml_barrier(params->threadpool);

    // Few enough rows a turn that all threads end at about the same time.
    const int64_t rows = weights->ne[1];
    const int64_t per_turn = rows >= 4 * params->nth * NIBBLE_ROWS_PER_TURN ? NIBBLE_ROWS_PER_TURN : NIBBLE_ROWS;
    for (int64_t turn = params->ith; turn * per_turn < rows; turn = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t end_row = MIN((turn + 1) * per_turn, rows);
        for (int64_t group = 0; group < nibble_groups(columns->ne[1]); group++) {
            const int64_t first = nibble_first_column(group, columns->ne[1]);
            const int64_t count = nibble_first_column(group + 1, columns->ne[1]) - first;
            for (int64_t row = turn * per_turn; row < end_row; row += NIBBLE_ROWS) {
                nibble_strip(
                    MIN(NIBBLE_ROWS, end_row - row), count, blocks, (const char *) weights->data + row * weights->nb[1],
                    weights->nb[1], places + first * blocks,
                    (float *) ((char *) dst->data + first * dst->nb[1]) + row, dst->nb[1] / sizeof(float));
            }
        }
    }
    return true;
}
#else
#define nibble_q4_1_work(weights, columns) ((size_t) 0)
#define nibble_multiply_q4_1(params, dst) (false)
#endif
