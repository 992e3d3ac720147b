// Threefry4x32-20 on vectors of counters (Salmon, Moraes, Dror, Shaw 2011: "Parallel random
// numbers").
#pragma once

#include "vec.hpp"

namespace {

inline Vec<std::uint32_t> rotate_left(Vec<std::uint32_t> x, int count) {
  return (x << count) | (x >> (32 - count));
}

// The key as the rounds add it to the counter: before the first, and after every fourth.
struct KeySchedule {
  Vec<std::uint32_t> injections[6][4];

  explicit KeySchedule(const std::uint32_t key[4]) {
    const std::uint32_t words[5] = {key[0], key[1], key[2], key[3],
                                    0x1bd11bda ^ key[0] ^ key[1] ^ key[2] ^ key[3]};
    for (std::uint32_t step = 0; step < 6; ++step) {
      for (std::uint32_t i = 0; i < 4; ++i) {
        injections[step][i] = splat(words[(step + i) % 5] + (i == 3 ? step : 0));
      }
    }
  }
};

// Turns several sets of counters into random words; side by side, they hide each other's latency.
template <int sets>
inline void threefry(const KeySchedule& key, Vec<std::uint32_t> (&x)[sets][4]) {
  constexpr int kRotations[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5},
                                    {6, 20},  {17, 11}, {25, 10}, {18, 20}};
  for (auto& y : x) {
    for (int i = 0; i < 4; ++i) y[i] += key.injections[0][i];
  }
#pragma GCC unroll 20
  for (int round = 0; round < 20; ++round) {
    const int odd = 2 * (round % 2);  // the second words trade places every round
    const int (&r)[2] = kRotations[round % 8];
    for (auto& y : x) {
      y[0] += y[1 + odd];
      y[1 + odd] = rotate_left(y[1 + odd], r[0]) ^ y[0];
      y[2] += y[3 - odd];
      y[3 - odd] = rotate_left(y[3 - odd], r[1]) ^ y[2];
    }
    if (round % 4 == 3) {
      for (auto& y : x) {
        for (int i = 0; i < 4; ++i) y[i] += key.injections[round / 4 + 1][i];
      }
    }
  }
}

}  // namespace
