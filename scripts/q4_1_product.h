/* Included into ggml-cpu.c above its products (scripts/llama_cpp.patch): weights of Q4_1 times several columns at once.
 *
 * ggml has kernels for many columns for the other common types. With this one it takes each row with each column by
 * itself, and unpacks the row's codes and widens four half floats every time. Here a block of weights is unpacked once
 * for up to eight columns, and the columns are laid out for that when they are quantized:
 *
 *     group of columns > block of 32 values > [ scales: 8 floats | sums: 8 floats | codes: 8 x 32 bytes ]
 *
 * Each result comes of the same operations in the same order as in ggml_vec_dot_q4_1_q8_1, so no bit differs, whatever
 * is beside it in the batch (tests/engine/native/test_q4_1_product.py). A single column is left to that function: it
 * waits for memory, not for instructions.
 *
 * Source of the formats: ggml-common.h (block_q4_1, block_q8_1).
 */
#pragma once
#if defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

enum { NIBBLE_GROUP = 8, NIBBLE_ROWS_PER_TURN = 16, NIBBLE_ALIGNMENT = 64 };

/* What up to eight columns hold where the weights' blocks lie. */
struct nibble_group_block {
    float scale[NIBBLE_GROUP];
    float sum[NIBBLE_GROUP];
    int8_t codes[NIBBLE_GROUP][QK8_1];
};

/* Columns that are taken at once; a build without this file, or for another kind of processor, has no such symbol. */
__attribute__((visibility("default"))) int nibble_q4_1_columns(void);
int nibble_q4_1_columns(void) {
    return NIBBLE_GROUP;
}

static inline int64_t nibble_groups(int64_t columns) {
    return (columns + NIBBLE_GROUP - 1) / NIBBLE_GROUP;
}

/* The first column of a group. Groups are as equal as they can be, since one of few columns gains least. */
static inline int64_t nibble_first_column(int64_t group, int64_t columns) {
    return group * columns / nibble_groups(columns);
}

static inline bool nibble_is_q4_1_product(const struct ggml_tensor * weights, const struct ggml_tensor * columns) {
    const bool is_flat = weights->ne[2] * weights->ne[3] * columns->ne[2] * columns->ne[3] == 1;
    return weights->type == GGML_TYPE_Q4_1 && columns->type == GGML_TYPE_F32 && is_flat && columns->ne[1] > 1;
}

/* Bytes of work space for the columns of a product; 0 where it is not one of these. */
static inline size_t nibble_q4_1_work(const struct ggml_tensor * weights, const struct ggml_tensor * columns) {
    if (!nibble_is_q4_1_product(weights, columns)) return 0;
    const size_t blocks = nibble_groups(columns->ne[1]) * (columns->ne[0] / QK8_1);
    return blocks * sizeof(struct nibble_group_block) + NIBBLE_ALIGNMENT;
}

static inline __m256i nibble_codes(const uint8_t * packed) {
    const __m128i low = _mm_loadu_si128((const __m128i *) packed);
    const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(low), _mm_srli_epi16(low, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* Eight sums of four products each. */
static inline __m256 nibble_products(__m256i weights, __m256i column) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_cvtepi32_ps(_mm256_dpbusd_epi32(_mm256_setzero_si256(), weights, column));
#elif defined(__AVXVNNI__)
    return _mm256_cvtepi32_ps(_mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), weights, column));
#else
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(_mm256_set1_epi16(1), _mm256_maddubs_epi16(weights, column)));
#endif
}

static inline float nibble_total(__m256 parts) {
    __m128 total = _mm_add_ps(_mm256_extractf128_ps(parts, 1), _mm256_castps256_ps128(parts));
    total = _mm_add_ps(total, _mm_movehl_ps(total, total));
    return _mm_cvtss_f32(_mm_add_ss(total, _mm_movehdup_ps(total)));
}

/* `rows` rows of weights times the first `columns` columns of a group. Both are constants where this is called, so that
 * all sums stay in registers. */
static inline __attribute__((always_inline)) void nibble_tile(
        const int rows, const int columns, int64_t blocks, const char * weights, size_t row_bytes,
        const struct nibble_group_block * group, float * out, size_t out_stride) {
    __m256 parts[4][NIBBLE_GROUP];
    __m256 sums[4];
#pragma GCC unroll 4
    for (int row = 0; row < rows; row++) {
        sums[row] = _mm256_setzero_ps();
#pragma GCC unroll 8
        for (int column = 0; column < columns; column++) parts[row][column] = _mm256_setzero_ps();
    }
    for (int64_t block = 0; block < blocks; block++) {
        __m256i codes[4];
        __m256 scale[4];
#pragma GCC unroll 4
        for (int row = 0; row < rows; row++) {
            const block_q4_1 * of_row = (const block_q4_1 *) (weights + row * row_bytes) + block;
            int32_t halves;
            memcpy(&halves, &of_row->dm, sizeof(halves));
            const __m128 scale_and_min = _mm_cvtph_ps(_mm_cvtsi32_si128(halves));
            codes[row] = nibble_codes(of_row->qs);
            scale[row] = _mm256_broadcastss_ps(scale_and_min);
            // Operators, so that the compiler fuses them where it does in ggml's own line.
            sums[row] += _mm256_broadcastss_ps(_mm_movehdup_ps(scale_and_min)) * _mm256_load_ps(group[block].sum);
        }
#pragma GCC unroll 8
        for (int column = 0; column < columns; column++) {
            const __m256i column_codes = _mm256_load_si256((const __m256i *) group[block].codes[column]);
            const __m256 column_scale = _mm256_broadcast_ss(&group[block].scale[column]);
#pragma GCC unroll 4
            for (int row = 0; row < rows; row++) {
                const __m256 products = nibble_products(codes[row], column_codes);
                parts[row][column] =
                    _mm256_fmadd_ps(_mm256_mul_ps(scale[row], column_scale), products, parts[row][column]);
            }
        }
    }
#pragma GCC unroll 4
    for (int row = 0; row < rows; row++) {
        float sum[NIBBLE_GROUP];
        _mm256_storeu_ps(sum, sums[row]);
#pragma GCC unroll 8
        for (int column = 0; column < columns; column++) {
            out[column * out_stride + row] = nibble_total(parts[row][column]) + sum[column];
        }
    }
}

/* Some rows times a group of two to eight columns; `out` is the first row's result of the first of them. Sixteen
 * registers hold up to twelve sums beside what these are made of: the fewer columns, the more rows at once. */
static void nibble_strip(
        int64_t rows, int columns, int64_t blocks, const char * weights, size_t row_bytes,
        const struct nibble_group_block * group, float * out, size_t out_stride) {
    int64_t row = 0;
#define NIBBLE_STRIP(ROWS, COLUMNS)                                                                                 \
    case COLUMNS:                                                                                                   \
        for (; row + ROWS <= rows; row += ROWS)                                                                     \
            nibble_tile(ROWS, COLUMNS, blocks, weights + row * row_bytes, row_bytes, group, out + row, out_stride); \
        for (; row < rows; row++)                                                                                   \
            nibble_tile(1, COLUMNS, blocks, weights + row * row_bytes, row_bytes, group, out + row, out_stride);    \
        break;
    switch (columns) {
        NIBBLE_STRIP(4, 2)
        NIBBLE_STRIP(2, 3)
        NIBBLE_STRIP(2, 4)
        NIBBLE_STRIP(2, 5)
        NIBBLE_STRIP(2, 6)
        NIBBLE_STRIP(1, 7)
        NIBBLE_STRIP(1, 8)
    }
#undef NIBBLE_STRIP
}

/* This thread's share of the blocks of all columns, quantized as ggml does and laid out by groups. */
static void nibble_lay_out_columns(
        const struct ggml_compute_params * params, const struct ggml_tensor * columns,
        struct nibble_group_block * groups) {
    const int64_t blocks = columns->ne[0] / QK8_1;
    const int64_t first = params->ith * blocks / params->nth;
    const int64_t end = (params->ith + 1) * blocks / params->nth;
    for (int64_t group = 0; group < nibble_groups(columns->ne[1]); group++) {
        const int64_t from = nibble_first_column(group, columns->ne[1]);
        const int64_t to = nibble_first_column(group + 1, columns->ne[1]);
        for (int64_t column = from; column < to; column++) {
            const float * values = (const float *) ((const char *) columns->data + column * columns->nb[1]);
            for (int64_t block = first; block < end; block += NIBBLE_GROUP) {
                block_q8_1 quantized[NIBBLE_GROUP];
                const int64_t count = MIN(NIBBLE_GROUP, end - block);
                quantize_row_q8_1(values + block * QK8_1, quantized, count * QK8_1);
                for (int64_t i = 0; i < count; i++) {
                    struct nibble_group_block * place = &groups[group * blocks + block + i];
                    // Sums of missing columns are added up like the others, and what lies there may be slow to add.
                    if (column == from) memset(place->sum, 0, sizeof(place->sum));
                    place->scale[column - from] = GGML_CPU_FP16_TO_FP32(quantized[i].d);
                    place->sum[column - from] = GGML_CPU_FP16_TO_FP32(quantized[i].s);
                    memcpy(place->codes[column - from], quantized[i].qs, QK8_1);
                }
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
    void * work = (void *) GGML_PAD((uintptr_t) params->wdata, NIBBLE_ALIGNMENT);
    struct nibble_group_block * groups = work;
    const int64_t blocks = weights->ne[0] / QK8_1;
    const char * end = (const char *) (groups + nibble_groups(columns->ne[1]) * blocks);
    GGML_ASSERT(end <= (const char *) params->wdata + params->wsize);
    nibble_lay_out_columns(params, columns, groups);
    if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
    ggml_barrier(params->threadpool);

    // Few enough rows a turn that all threads end at about the same time.
    const int64_t rows = weights->ne[1];
    const int64_t per_turn = MAX(1, MIN(NIBBLE_ROWS_PER_TURN, rows / (4 * params->nth)));
    for (int64_t turn = params->ith; turn * per_turn < rows; turn = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t first = turn * per_turn;
        const int64_t count = MIN(per_turn, rows - first);
        for (int64_t group = 0; group < nibble_groups(columns->ne[1]); group++) {
            const int64_t from = nibble_first_column(group, columns->ne[1]);
            const int64_t to = nibble_first_column(group + 1, columns->ne[1]);
            nibble_strip(
                count, to - from, blocks, (const char *) weights->data + first * weights->nb[1], weights->nb[1],
                groups + group * blocks, (float *) ((char *) dst->data + from * dst->nb[1]) + first,
                dst->nb[1] / sizeof(float));
        }
    }
    return true;
}
#else
#define nibble_q4_1_work(weights, columns) ((size_t) 0)
#define nibble_multiply_q4_1(params, dst) (false)
#endif
