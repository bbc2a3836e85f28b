/* Included before every C++ file of llama.cpp (scripts/llama_cpp.cmake), for processors with AMX.
 *
 * GCC's own _tile_loadconfig says that it reads 8 of the configuration's 64 bytes, so the optimiser drops what ggml
 * stores into the others, and the first tile instruction is an invalid one: every batch of two tokens or more ended
 * the process (seen with GCC 12.2; https://github.com/ggml-org/llama.cpp/pull/26954 mends the same in ggml).
 */
#pragma once
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%X0" : : "m"(*(const char(*)[64])(config)))
#endif
