/* Included into ggml-cpu.c (scripts/llama_cpp.patch): two passes over the logits of a vocabulary, for choosing a token.
 *
 * Exp and its sum ggml has as well, for its softmax, but adds up each vector by itself: 262,144 logits take 180 us, and
 * 110 here. And which few of many numbers reach a bound, numpy tells in two passes, of 110 us; here it takes 40 (AMD
 * EPYC, AVX2). Vectors are the compiler's own, so that one text serves every kind of processor.
 */
#pragma once
#if defined(__GNUC__)
#include <stdint.h>
#include <string.h>

typedef float nibble_floats __attribute__((vector_size(32)));
typedef int32_t nibble_ints __attribute__((vector_size(32)));
#define NIBBLE_LANES 8
#define NIBBLE_BLOCK 32

/* Write exp(values - base) of `n` numbers to `out`, and return their sum. Of -inf it is 0, and so it is where a float
 * would lose its last bits, beneath e^-87. `base` is finite, and no value is larger. */
__attribute__((visibility("default"))) double nibble_exponentials(int64_t n, float * out, const float * values, float base);

/* Write the indices of those of `n` values that are at least `bound` to `out`, in order, and return how many. */
__attribute__((visibility("default"))) int64_t nibble_reaching(int64_t n, int64_t * out, const float * values, float bound);

/* exp of numbers that are not above 0: 2^k times exp(r), where |r| <= ln(2) / 2. The polynomial was fitted to exp by
 * Remez's algorithm; it is off by 3e-9, and rounding by some 1e-7. */
static inline __attribute__((always_inline)) nibble_floats nibble_exp(nibble_floats x) {
    const float shift = 0x1.8p23f; /* adding it rounds to a whole number, which is then in the lowest bits */
    const nibble_floats shifted = x * 0x1.715476p+0f + shift;
    const nibble_floats k = shifted - shift;
    const nibble_floats r = x - k * 0x1.62e4p-1f - k * 0x1.7f7d1cp-20f;
    nibble_floats q = r * 0x1.6a23dp-10f + 0x1.123a2p-7f;
    q = q * r + 0x1.5558f2p-5f;
    q = q * r + 0x1.555492p-3f;
    q = q * r + 0x1.fffffcp-2f;
    q = q * (r * r) + r + 1.0f;
    const nibble_ints power = (nibble_ints) q + ((nibble_ints) shifted << 23);
    return (nibble_floats) (power & ~(x < -87.0f));
}

double nibble_exponentials(int64_t n, float * out, const float * values, float base) {
    double total = 0.0;
    int64_t i = 0;
    while (i + NIBBLE_BLOCK <= n) {
        /* In few floats for a while, and then in a double: a float would lose the small ones. */
        const int64_t end = i + 1024 < n ? i + 1024 : n;
        nibble_floats sums[2] = { { 0.0f }, { 0.0f } };
        for (; i + 2 * NIBBLE_LANES <= end; i += 2 * NIBBLE_LANES) {
            for (int half = 0; half < 2; half++) {
                nibble_floats x;
                memcpy(&x, values + i + half * NIBBLE_LANES, sizeof x);
                x = nibble_exp(x - base);
                memcpy(out + i + half * NIBBLE_LANES, &x, sizeof x);
                sums[half] += x;
            }
        }
        sums[0] += sums[1];
        for (int lane = 0; lane < NIBBLE_LANES; lane++) total += (double) sums[0][lane];
    }
    while (i < n) {
        const int64_t left = n - i < NIBBLE_LANES ? n - i : NIBBLE_LANES;
        nibble_floats x = { 0.0f };
        memcpy(&x, values + i, left * sizeof(float));
        x = nibble_exp(x - base);
        memcpy(out + i, &x, left * sizeof(float));
        for (int lane = 0; lane < left; lane++) total += (double) x[lane];
        i += left;
    }
    return total;
}

int64_t nibble_reaching(int64_t n, int64_t * out, const float * values, float bound) {
    int64_t count = 0, i = 0;
    for (; i + NIBBLE_BLOCK <= n; i += NIBBLE_BLOCK) {
        int some = 0;
        for (int j = 0; j < NIBBLE_BLOCK; j++) some |= values[i + j] >= bound;
        if (some) {
            for (int j = 0; j < NIBBLE_BLOCK; j++) {
                out[count] = i + j;
                count += values[i + j] >= bound;
            }
        }
    }
    for (; i < n; i++) {
        out[count] = i;
        count += values[i] >= bound;
    }
    return count;
}
#endif
