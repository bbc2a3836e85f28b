/* Included into ggml's amx/mmq.cpp above its product (scripts/llama_cpp.patch): weights of four and of eight bits, as its
 * buffers for processors with AMX hold them, times columns.
 *
 * There sixteen rows lie side by side, one in each lane of 32 bits, block by block. ggml takes one column in vectors and
 * more of them in tiles, 32 at a time: it unpacks the weights anew for each 32, loads each tile that it has just stored,
 * which the processor cannot pass on and waits for, does the same work for two columns as for sixteen, and leaves it to
 * the processor to guess which weights will be wanted. A tile has the products of a block, 32 codes, soon, but those must
 * be stored, loaded and scaled before the next: in the time of that, vectors have done half of it all. (Tiles of sixteen
 * columns over rows that were unpacked once for all, the next multiplied while the last was scaled, read a chunk of 96
 * tokens in 1.2 times the time of this.) So here all is done in vectors, up to sixteen columns at a time:
 *
 *     total += (weight's scale * column's scale) * sum of codes * codes  +  weight's least value * sum of the column
 *
 * The sums over a block are whole numbers, exact, and blocks follow one another; so a result hangs on its row and its
 * column alone, not on what is beside them in the batch (tests/engine/native/test_packed_product.py).
 *
 * Columns are rounded to eight bits by blocks of 32 for all of these types; ggml takes blocks of 256 for Q4_K.
 *
 * Source of the layouts: pack_B in mmq.cpp; of the formats: ggml-common.h.
 */
#pragma once

/* Columns that are taken at once; a build without this file, or for another kind of processor, has no such symbol. */
extern "C" __attribute__((visibility("default"))) int nibble_packed_columns(void);

namespace {

constexpr int NIBBLE_ROWS = 16;   // of weights, which lie side by side: a strip of them
constexpr int NIBBLE_GROUP = 16;  // columns that are taken at once
constexpr int NIBBLE_BLOCK = 32;  // numbers that share a scale
constexpr int NIBBLE_PARTS = NIBBLE_BLOCK / 4; // fours of them
constexpr int NIBBLE_LINE = 64;   // bytes that memory gives at once
constexpr int NIBBLE_STREAMS = 4; // strips that are fetched side by side

typedef int32_t __attribute__((may_alias)) nibble_four; // codes

/* A block of sixteen rows. Their codes are whole numbers without a sign: four of each row, then the next four. */
struct nibble_weights {
    __m512i codes[NIBBLE_PARTS];
    __m512 scale;
    __m512 least; // what a code of nought stands for
};

/* A block of up to sixteen columns. */
struct alignas(NIBBLE_LINE) nibble_columns {
    int8_t codes[NIBBLE_GROUP][NIBBLE_BLOCK];
    float scale[NIBBLE_GROUP];
    float sum[NIBBLE_GROUP]; // of the block, as its codes stand for it
};

inline __attribute__((always_inline)) __m512 nibble_halves(const char * halves) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) halves));
}

inline __attribute__((always_inline)) __m512 nibble_bytes(__m128i bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

inline __attribute__((always_inline)) void nibble_read_codes(nibble_weights & weights, const char * packed) {
    const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int pair = 0; pair < NIBBLE_PARTS / 2; pair++) {
        const __m512i both = _mm512_loadu_si512(packed + pair * NIBBLE_LINE);
        weights.codes[2*pair] = _mm512_and_si512(both, nibble);
        weights.codes[2*pair + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
    }
}

/* How the blocks of sixteen rows lie, of each type: so many blocks of 32 share so many bytes, and `read` reads one. */
template <typename TB> struct nibble_layout;

/* Four bits by blocks of 32: the codes of all rows, then a scale of each, and a least value of each where it has one. */
template <typename TB> struct nibble_four_bits {
    static constexpr int64_t blocks = 1;
    static constexpr size_t bytes = NIBBLE_ROWS * sizeof(TB);
    static inline __attribute__((always_inline)) void read(nibble_weights & weights, const char * packed, int64_t) {
        const char * scales = packed + NIBBLE_ROWS * NIBBLE_BLOCK / 2;
        nibble_read_codes(weights, packed);
        weights.scale = nibble_halves(scales);
        weights.least = std::is_same<TB, block_q4_1>::value
            ? nibble_halves(scales + NIBBLE_ROWS * sizeof(ggml_half))
            : _mm512_mul_ps(_mm512_set1_ps(-8.0f), weights.scale);
    }
};

template <> struct nibble_layout<block_q4_0> : nibble_four_bits<block_q4_0> {};
template <> struct nibble_layout<block_q4_1> : nibble_four_bits<block_q4_1> {};

template <> struct nibble_layout<block_q8_0> {
    static constexpr int64_t blocks = 1;
    static constexpr size_t bytes = NIBBLE_ROWS * (sizeof(block_q8_0) + sizeof(int32_t)); // the last is ggml's own
    static inline __attribute__((always_inline)) void read(nibble_weights & weights, const char * packed, int64_t) {
        const __m512i sign = _mm512_set1_epi8((char) 0x80);
#pragma GCC unroll 8
        for (int part = 0; part < NIBBLE_PARTS; part++) {
            weights.codes[part] = _mm512_xor_si512(_mm512_loadu_si512(packed + part * NIBBLE_LINE), sign);
        }
        weights.scale = nibble_halves(packed + NIBBLE_ROWS * QK8_0);
        weights.least = _mm512_mul_ps(_mm512_set1_ps(-128.0f), weights.scale);
    }
};

template <> struct nibble_layout<block_q4_K> {
    static constexpr int64_t blocks = QK_K / NIBBLE_BLOCK;
    static constexpr size_t bytes = NIBBLE_ROWS * (sizeof(block_q4_K) + 4); // numbers of six bits have a byte each
    static inline __attribute__((always_inline)) void read(nibble_weights & weights, const char * packed, int64_t block) {
        nibble_read_codes(weights, packed + block * NIBBLE_ROWS * NIBBLE_BLOCK / 2);
        const char * scales = packed + NIBBLE_ROWS * QK_K / 2;
        const char * leasts = scales + NIBBLE_ROWS * blocks;
        const char * largest = leasts + NIBBLE_ROWS * blocks;
        const __m128i scale = _mm_loadu_si128((const __m128i *) (scales + NIBBLE_ROWS * block));
        // Those of two blocks take turns.
        const __m256i two = _mm256_loadu_si256((const __m256i *) (leasts + NIBBLE_ROWS * (block / 2 * 2)));
        const __m128i least = _mm256_cvtepi16_epi8(_mm256_srl_epi16(two, _mm_cvtsi32_si128(block % 2 * 8)));
        weights.scale = _mm512_mul_ps(nibble_halves(largest), nibble_bytes(scale));
        weights.least = _mm512_mul_ps(
            _mm512_sub_ps(_mm512_setzero_ps(), nibble_halves(largest + NIBBLE_ROWS * sizeof(ggml_half))),
            nibble_bytes(least));
    }
};

/* Weights that will be wanted soon: those of the next four strips, of each a block in turn. One strip after the other,
 * memory would give half as much. */
struct nibble_next {
    const char * strips;
    size_t strip_bytes, block_bytes;
    int64_t first; // block of all of them, to be fetched with the strip's first

    inline __attribute__((always_inline)) void fetch(int64_t block) const {
        const int64_t at = first + block;
        const char * from = strips + at % NIBBLE_STREAMS * strip_bytes + at / NIBBLE_STREAMS * block_bytes;
        for (size_t line = 0; line < block_bytes; line += NIBBLE_LINE) __builtin_prefetch(from + line);
    }
};

/* A strip, from `packed` on, times a group of columns; `out` is the first row's result of the first of them. */
template <typename TB, int COLUMNS>
void nibble_multiply_group(
        const char * packed, const nibble_columns * columns, int64_t blocks, const nibble_next & next, float * out,
        size_t stride) {
    using layout = nibble_layout<TB>;
    __m512 totals[COLUMNS];
#pragma GCC unroll 16
    for (int column = 0; column < COLUMNS; column++) totals[column] = _mm512_setzero_ps();
    for (int64_t block = 0; block < blocks; block++) {
        next.fetch(block);
        nibble_weights weights;
        layout::read(weights, packed + block / layout::blocks * layout::bytes, block % layout::blocks);
        const nibble_columns & here = columns[block];
#pragma GCC unroll 16
        for (int column = 0; column < COLUMNS; column++) {
            const nibble_four * fours = (const nibble_four *) here.codes[column];
            // Two sums, so that they need not wait for each other.
            __m512i even = _mm512_setzero_si512(), odd = even;
#pragma GCC unroll 4
            for (int part = 0; part < NIBBLE_PARTS; part += 2) {
                even = _mm512_dpbusd_epi32(even, weights.codes[part], _mm512_set1_epi32(fours[part]));
                odd = _mm512_dpbusd_epi32(odd, weights.codes[part + 1], _mm512_set1_epi32(fours[part + 1]));
            }
            const __m512 products = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
            const __m512 scales = _mm512_mul_ps(weights.scale, _mm512_set1_ps(here.scale[column]));
            const __m512 total = _mm512_fmadd_ps(scales, products, totals[column]);
            totals[column] = _mm512_fmadd_ps(weights.least, _mm512_set1_ps(here.sum[column]), total);
        }
    }
#pragma GCC unroll 16
    for (int column = 0; column < COLUMNS; column++) _mm512_storeu_ps(out + column * stride, totals[column]);
}

/* The same, for as many columns as there are in the group. */
template <typename TB, int COLUMNS = NIBBLE_GROUP>
void nibble_multiply_strip(
        int count, const char * packed, const nibble_columns * columns, int64_t blocks, const nibble_next & next,
        float * out, size_t stride) {
    if (count == COLUMNS) return nibble_multiply_group<TB, COLUMNS>(packed, columns, blocks, next, out, stride);
    if constexpr (COLUMNS > 1) {
        nibble_multiply_strip<TB, COLUMNS - 1>(count, packed, columns, blocks, next, out, stride);
    }
}

inline void nibble_round(const float * values, nibble_columns & columns, int column) {
    const __m512 low = _mm512_loadu_ps(values), high = _mm512_loadu_ps(values + 16);
    const float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    const __m512 inverse = _mm512_set1_ps(most != 0.0f ? 127.0f / most : 0.0f);
    const __m512i first = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
    const __m512i second = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
    _mm_store_si128((__m128i *) columns.codes[column], _mm512_cvtsepi32_epi8(first));
    _mm_store_si128((__m128i *) columns.codes[column] + 1, _mm512_cvtsepi32_epi8(second));
    columns.scale[column] = most / 127.0f;
    columns.sum[column] = columns.scale[column] * _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
}

/* This thread's share of the blocks of all columns, rounded. */
inline void nibble_lay_out(const ggml_compute_params * params, const ggml_tensor * source, nibble_columns * columns) {
    const int64_t blocks = source->ne[0] / NIBBLE_BLOCK;
    const int64_t begin = params->ith * blocks / params->nth, end = (params->ith + 1) * blocks / params->nth;
    for (int64_t column = 0; column < source->ne[1]; column++) {
        const float * values = (const float *) ((const char *) source->data + column * source->nb[1]);
        nibble_columns * of_group = columns + column / NIBBLE_GROUP * blocks;
        for (int64_t block = begin; block < end; block++) {
            nibble_round(values + block * NIBBLE_BLOCK, of_group[block], column % NIBBLE_GROUP);
        }
    }
}

inline bool nibble_is_packed_product(const ggml_tensor * dst) {
    const ggml_type type = dst->src[0]->type;
    const bool is_flat = dst->ne[2] * dst->ne[3] == 1 && dst->src[1]->nb[0] == sizeof(float);
    return is_flat
        && (type == GGML_TYPE_Q4_0 || type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q8_0 || type == GGML_TYPE_Q4_K);
}

/* Bytes of work space for the columns of a product; 0 where it is not one of these. */
inline size_t nibble_packed_work(const ggml_tensor * dst) {
    if (!nibble_is_packed_product(dst)) return 0;
    const int64_t groups = div_up<int64_t>(dst->ne[1], NIBBLE_GROUP);
    return groups * (dst->src[0]->ne[0] / NIBBLE_BLOCK) * sizeof(nibble_columns) + alignof(nibble_columns);
}

/* Strips first to end, a few at a time: with those, a group of columns stays in the cache. */
template <typename TB>
void nibble_multiply_strips(int64_t first, int64_t end, const nibble_columns * columns, ggml_tensor * dst) {
    constexpr size_t block_bytes = nibble_layout<TB>::bytes / nibble_layout<TB>::blocks;
    const int64_t blocks = dst->src[0]->ne[0] / NIBBLE_BLOCK;
    const size_t strip_bytes = blocks * block_bytes, stride = dst->nb[1] / sizeof(float);
    for (; first < end; first += NIBBLE_STREAMS) {
        const char * packed = (const char *) dst->src[0]->data + first * strip_bytes;
        const char * next = packed + NIBBLE_STREAMS * strip_bytes;
        for (int64_t column = 0; column < dst->ne[1]; column += NIBBLE_GROUP) {
            const int count = std::min<int64_t>(NIBBLE_GROUP, dst->ne[1] - column);
            for (int64_t strip = 0; strip < std::min<int64_t>(NIBBLE_STREAMS, end - first); strip++) {
                nibble_multiply_strip<TB>(
                    count, packed + strip * strip_bytes, columns + column / NIBBLE_GROUP * blocks, blocks,
                    { next, strip_bytes, block_bytes, strip * blocks },
                    (float *) dst->data + column * stride + (first + strip) * NIBBLE_ROWS, stride);
            }
        }
    }
}

template <typename TB>
void nibble_multiply_all(const ggml_compute_params * params, ggml_tensor * dst, const nibble_columns * columns) {
    const int64_t strips = dst->src[0]->ne[1] / NIBBLE_ROWS;
    // Few enough a turn that all threads end at about the same time, and enough of them to be read in a row.
    const int64_t per_turn = std::max<int64_t>(1, strips / (4 * params->nth));
    int64_t turn = params->ith;
    for (; turn * per_turn < strips; turn = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        nibble_multiply_strips<TB>(turn * per_turn, std::min(strips, (turn + 1) * per_turn), columns, dst);
    }
}

/* The whole product, in every thread of the graph; false where it is for ggml to do. */
bool nibble_multiply_packed(const ggml_compute_params * params, ggml_tensor * dst) {
    if (!nibble_is_packed_product(dst)) return false;
    GGML_ASSERT(params->wsize >= nibble_packed_work(dst));
    auto * columns = (nibble_columns *) GGML_PAD((uintptr_t) params->wdata, alignof(nibble_columns));
    nibble_lay_out(params, dst->src[1], columns);
    if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
    ggml_barrier(params->threadpool);
    switch (dst->src[0]->type) {
        case GGML_TYPE_Q4_0: nibble_multiply_all<block_q4_0>(params, dst, columns); break;
        case GGML_TYPE_Q4_1: nibble_multiply_all<block_q4_1>(params, dst, columns); break;
        case GGML_TYPE_Q8_0: nibble_multiply_all<block_q8_0>(params, dst, columns); break;
        default: nibble_multiply_all<block_q4_K>(params, dst, columns);
    }
    return true;
}

} // namespace

int nibble_packed_columns(void) { return NIBBLE_GROUP; }
