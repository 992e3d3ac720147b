// How many units are saturated: |phi'| under a threshold, zero, or zero for the whole batch.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "chain/plan.hpp"
#include "isa.hpp"

namespace varprop {

// Of a chunk: numbers counted, and the columns that have a slope other than zero.
struct Slopes {
  std::int64_t saturated = 0, zero = 0;
  std::uint64_t alive = 0;
};

template <class T>
void add_slopes(T threshold, const T* numbers, std::int64_t stride, int rows, int columns,
                Slopes& slopes) {
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      const T slope = std::abs(numbers[i * stride + j]);
      slopes.saturated += slope < threshold;
      slopes.zero += slope == 0;
      slopes.alive |= static_cast<std::uint64_t>(slope != 0) << j;
    }
  }
}

template <class T>
void add_slopes(const Layer& layer, T threshold, const Tile<T>& y, Slopes& slopes) {
  alignas(64) T numbers[kGroupRows * kBlockColumns];
  std::fill_n(numbers, kGroupRows * kBlockColumns, T{1});
  const Tile<T> ones{numbers, kBlockColumns, y.rows, y.columns};
  kernels<T>().backpropagate(layer.activation, static_cast<T>(layer.parameter), y, ones);
  add_slopes(threshold, numbers, kBlockColumns, y.rows, y.columns, slopes);
}

}  // namespace varprop
