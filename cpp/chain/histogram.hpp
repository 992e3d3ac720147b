// Counts of numbers in bins that are fixed: 16 in each octave of magnitude, for either sign.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernels/kernels.hpp"

namespace varprop {

inline constexpr int kOctaves = 16, kLowestOctave = -10;  // 2^-10 to 2^6
inline constexpr int kBinsPerOctave = 16;
inline constexpr int kBinsPerSign = kOctaves * kBinsPerOctave;
// In the order of the values: the negative end, their bins, those near zero, and the same up again.
inline constexpr int kBins = 2 * kBinsPerSign + 3;

using Histogram = std::int64_t[kBins];

// Equal bins in an octave are the leading bits of a number's fraction: exact for powers of two.
template <class T>
void count(const Tile<T>& tile, T scale, Histogram& bins) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  constexpr int kFraction = sizeof(T) == 4 ? 23 : 52, kBias = sizeof(T) == 4 ? 127 : 1023;
  constexpr Bits kMagnitude = static_cast<Bits>(~(Bits{1} << (8 * sizeof(T) - 1)));
  for (int i = 0; i < tile.rows; ++i) {
    const T* const x = tile.data + i * tile.stride;
    for (int j = 0; j < tile.columns; ++j) {
      const Bits bits = std::bit_cast<Bits>(x[j] * scale);
      const Bits step = ((bits & kMagnitude) >> (kFraction - 4)) -
                        static_cast<Bits>((kBias + kLowestOctave) * kBinsPerOctave);
      const auto magnitude = static_cast<int>(std::clamp<Bits>(step + 1, 0, kBinsPerSign + 1));
      ++bins[kBinsPerSign + 1 + (bits < 0 ? -magnitude : magnitude)];
    }
  }
}

}  // namespace varprop
