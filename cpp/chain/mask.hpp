// The mask of a dropout layer in training: a share of the numbers to zero, the others made larger.
#pragma once

#include <cstdint>

#include "chain/worker.hpp"

namespace varprop {

// On a tile whose first number is at (row, column) of the layer's signal.
template <class T>
void mask(const Worker<T>& worker, const Layer& layer, std::int64_t row, std::int64_t column,
          const Tile<T>& x) {
  const auto recipe = make_recipe<T>(layer.weight.draw, layer.weight.key, worker.trial_number());
  const T bound = static_cast<T>(2 * layer.factor - 1),
          factor = static_cast<T>(1 / (1 - layer.factor));
  alignas(64) T numbers[kGroupRows * kBlockColumns];
  for (int from = 0; from < x.columns; from += kBlockColumns) {
    const int columns = std::min(kBlockColumns, x.columns - from);
    worker.kernel.draw(recipe, Rectangle{row, x.rows, column + from, columns, 1}, numbers,
                       kBlockColumns, true);
    for (int i = 0; i < x.rows; ++i) {
      T* const at = x.data + i * x.stride + from;
      for (int j = 0; j < columns; ++j) {
        at[j] = numbers[i * kBlockColumns + j] > bound ? at[j] * factor : T{0};
      }
    }
  }
}

}  // namespace varprop
