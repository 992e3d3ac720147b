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

// In a row of an image's numbers, those of each position together or those of each channel.
class Flat {
 public:
  explicit Flat(const Layer& layer)
      : channels_(layer.in.channels),
        positions_(layer.in.positions()),
        channels_first_(layer.channels_first) {}
  std::int64_t positions() const { return positions_; }
  std::int64_t place(std::int64_t column) const {
    return channels_first_ ? column % positions_ : column / channels_;
  }
  std::int64_t channel(std::int64_t column) const {
    return channels_first_ ? column / positions_ : column % channels_;
  }
  // Column of a place's first channel, and how far the next one is.
  std::int64_t first(std::int64_t place) const {
    return channels_first_ ? place : place * channels_;
  }
  std::int64_t step() const { return channels_first_ ? positions_ : 1; }

 private:
  std::int64_t channels_, positions_;
  bool channels_first_;
};

template <class T>
void flatten(const Layer& layer, const Signal<T>& in, T factor, std::int64_t row,
             std::int64_t column, const Tile<T>& out) {
  const Flat flat(layer);
  for (int i = 0; i < out.rows; ++i) {
    const std::int64_t first = (row + i) * flat.positions();
    for (int j = 0; j < out.columns; ++j) {
      out.data[i * out.stride + j] =
          in.x[(first + flat.place(column + j)) * in.stride + flat.channel(column + j)] * factor;
    }
  }
}

template <class T>
void flatten_back(const Layer& layer, const Signal<T>& gradient, T factor, std::int64_t row,
                  std::int64_t column, const Tile<T>& out) {
  const Flat flat(layer);
  for (int i = 0; i < out.rows; ++i) {
    const std::int64_t example = (row + i) / flat.positions(), place = (row + i) % flat.positions();
    const T* const from = gradient.x + example * gradient.stride + flat.first(place);
    for (int j = 0; j < out.columns; ++j) {
      out.data[i * out.stride + j] = from[(column + j) * flat.step()] * factor;
    }
  }
}

}  // namespace varprop
