// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011). The same counter gives the same
// words on every device and in every batch, so that a draw can be named by (seed, row, draw) alone.
// Functions have internal linkage: units built for different instruction sets must not share one copy.
#pragma once

namespace vsae {

struct PhiloxWords {
    unsigned word[4];
};

static inline PhiloxWords philox(unsigned long long key, unsigned long long low, unsigned third, unsigned fourth) {
    unsigned k0 = static_cast<unsigned>(key), k1 = static_cast<unsigned>(key >> 32);
    unsigned c0 = static_cast<unsigned>(low), c1 = static_cast<unsigned>(low >> 32);
    unsigned c2 = third, c3 = fourth;
    for (int round = 0; round < 10; ++round) {
        const unsigned long long a = 0xD2511F53ull * c0, b = 0xCD9E8D57ull * c2;
        c0 = static_cast<unsigned>(b >> 32) ^ c1 ^ k0;
        c2 = static_cast<unsigned>(a >> 32) ^ c3 ^ k1;
        c1 = static_cast<unsigned>(b);
        c3 = static_cast<unsigned>(a);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// Uniform on (0, 1) with 52 bits from two words: the half below keeps it from 0 and, still exact, from 1.
static inline double open_uniform(unsigned high, unsigned low) {
    const unsigned long long bits = static_cast<unsigned long long>(high) << 20 | low >> 12;
    return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

}  // namespace vsae
