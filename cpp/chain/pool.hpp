// Layers that only move an image's numbers together: means over windows, and flattening.
#pragma once

#include <algorithm>
#include <cstdint>

#include "chain/patches.hpp"

namespace varprop {

// A tile of `factor` times the means over windows or, going back, of the gradient by what entered:
// of every number, from the windows that it was in. Its first number is at (row, column).
template <class T>
void pool(const Layer& layer, bool back, const Signal<T>& from, T factor, std::int64_t row,
          std::int64_t column, const Tile<T>& out) {
  for (int i = 0; i < out.rows; ++i) std::fill_n(out.data + i * out.stride, out.columns, T{0});
  const Pixel first(back ? layer.in : layer.out, row);
  for (std::int64_t position = 0; position < layer.window.positions(); ++position) {
    Sight sight(layer, back, first, position);
    for (int i = 0; i < out.rows; ++i, sight.next()) {
      const std::int64_t source = sight.row();
      if (source < 0) continue;
      const T* const x = from.x + source * from.stride + column;
      T* const to = out.data + i * out.stride;
      for (int j = 0; j < out.columns; ++j) to[j] += x[j];
    }
  }
  const T share = factor / static_cast<T>(layer.window.positions());
  for (int i = 0; i < out.rows; ++i) {
    T* const to = out.data + i * out.stride;
    for (int j = 0; j < out.columns; ++j) to[j] *= share;
  }
}

template <class T>
void flatten(const Layer& layer, const Signal<T>& in, T factor, std::int64_t row,
             std::int64_t column, const Tile<T>& out) {
  const std::int64_t channels = layer.in.channels, positions = layer.in.positions();
  for (int i = 0; i < out.rows; ++i) {
    for (int j = 0; j < out.columns; ++j) {
      const std::int64_t place = (column + j) / channels, channel = (column + j) % channels;
      out.data[i * out.stride + j] =
          in.x[((row + i) * positions + place) * in.stride + channel] * factor;
    }
  }
}

template <class T>
void flatten_back(const Layer& layer, const Signal<T>& gradient, T factor, std::int64_t row,
                  std::int64_t column, const Tile<T>& out) {
  const std::int64_t channels = layer.in.channels, positions = layer.in.positions();
  for (int i = 0; i < out.rows; ++i) {
    const std::int64_t example = (row + i) / positions, place = (row + i) % positions;
    const T* const from = gradient.x + example * gradient.stride + place * channels + column;
    for (int j = 0; j < out.columns; ++j) out.data[i * out.stride + j] = from[j] * factor;
  }
}

}  // namespace varprop
