// CRC32C. On x86-64 three chains of the `crc32` instruction run side by side (it has a latency
// of three cycles and a throughput of one) and are joined by a carry-less multiplication.
//
// The join: in the reflected domain `crc32(0, clmul(a, b)) = a * b * x^33 mod P`, so multiplying
// by `b = x^(8n - 33) mod P` moves a CRC over n further bytes. The constants are computed once.

#include "CShims.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82F63B78u

static uint32_t table[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
#include <immintrin.h>
#define LONG_LANE 2720  // three lanes are 8,160 bytes: a page, but for its last 32
#define SHORT_LANE 256
static uint32_t shift_long_1, shift_long_2, shift_short_1, shift_short_2;
static int has_hardware;

static uint32_t power_of_x(unsigned n) {
    uint32_t v = 0x80000000u;  // x^0
    while (n--) v = (v >> 1) ^ ((v & 1) ? POLYNOMIAL : 0);
    return v;
}
#endif

static void prepare(void) {
    for (unsigned i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = (c >> 1) ^ ((c & 1) ? POLYNOMIAL : 0);
        table[0][i] = c;
    }
    for (unsigned i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++) table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xFF];
#if defined(__x86_64__)
    has_hardware = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
    shift_long_1 = power_of_x(8 * LONG_LANE - 33);
    shift_long_2 = power_of_x(16 * LONG_LANE - 33);
    shift_short_1 = power_of_x(8 * SHORT_LANE - 33);
    shift_short_2 = power_of_x(16 * SHORT_LANE - 33);
#endif
}

static uint32_t portable(uint32_t crc, const uint8_t *p, size_t n) {
    crc = ~crc;
    while (n >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        w ^= crc;
        crc = table[7][w & 0xFF] ^ table[6][(w >> 8) & 0xFF] ^ table[5][(w >> 16) & 0xFF]
            ^ table[4][(w >> 24) & 0xFF] ^ table[3][(w >> 32) & 0xFF] ^ table[2][(w >> 40) & 0xFF]
            ^ table[1][(w >> 48) & 0xFF] ^ table[0][w >> 56];
        p += 8;
        n -= 8;
    }
    while (n--) crc = (crc >> 8) ^ table[0][(crc ^ *p++) & 0xFF];
    return ~crc;
}

uint32_t hf_crc32c_portable(uint32_t crc, const void *bytes, size_t length) {
    pthread_once(&once, prepare);
    return portable(crc, bytes, length);
}

#if defined(__x86_64__)
__attribute__((target("sse4.2,pclmul"))) static inline uint64_t load(const uint8_t *p) {
    uint64_t w;
    memcpy(&w, p, 8);
    return w;
}

__attribute__((target("sse4.2,pclmul"))) static inline uint32_t moved(uint32_t crc, uint32_t shift) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)crc), _mm_cvtsi32_si128((int)shift), 0);
    return (uint32_t)_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static inline uint32_t
three_lanes(uint32_t crc, const uint8_t *p, size_t lane, uint32_t shift_1, uint32_t shift_2) {
    uint64_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < lane; i += 8) {
        a = _mm_crc32_u64(a, load(p + i));
        b = _mm_crc32_u64(b, load(p + lane + i));
        c = _mm_crc32_u64(c, load(p + 2 * lane + i));
    }
    return moved((uint32_t)a, shift_2) ^ moved((uint32_t)b, shift_1) ^ (uint32_t)c;
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t hardware(uint32_t crc, const uint8_t *p, size_t n) {
    crc = ~crc;
    while (n >= 3 * LONG_LANE) {
        crc = three_lanes(crc, p, LONG_LANE, shift_long_1, shift_long_2);
        p += 3 * LONG_LANE;
        n -= 3 * LONG_LANE;
    }
    while (n >= 3 * SHORT_LANE) {
        crc = three_lanes(crc, p, SHORT_LANE, shift_short_1, shift_short_2);
        p += 3 * SHORT_LANE;
        n -= 3 * SHORT_LANE;
    }
    uint64_t c = crc;
    while (n >= 8) {
        c = _mm_crc32_u64(c, load(p));
        p += 8;
        n -= 8;
    }
    crc = (uint32_t)c;
    while (n--) crc = _mm_crc32_u8(crc, *p++);
    return ~crc;
}
#endif

uint32_t hf_crc32c(uint32_t crc, const void *bytes, size_t length) {
    pthread_once(&once, prepare);
#if defined(__x86_64__)
    if (has_hardware) return hardware(crc, bytes, length);
#endif
    return portable(crc, bytes, length);
}
