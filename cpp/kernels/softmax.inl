// Softmax of the rows of a matrix.
#pragma once

#include "elementary.inl"
#include "kernels.hpp"
#include "lanes.inl"
#include "vec.hpp"

namespace {

// Each row to exp(scale * (x - max)), and that over its sum.
template <class T>
void softmax(const Tile<T>& tile, T scale) {
  for (int i = 0; i < tile.rows; ++i) {
    T* const x = tile.data + i * tile.stride;
    T largest = x[0];
    for (int j = 1; j < tile.columns; ++j) largest = x[j] > largest ? x[j] : largest;
    double lanes[kLanes] = {};
    for (int j = 0; j < tile.columns; j += kLanes) {
      Vec<T> e[kParts<T>];
      for (int part = 0; part < kParts<T>; ++part) {
        const int column = j + part * kWidth<T>;
        e[part] = exp_negative<T>((load(x + column) - largest) * scale);
        e[part] = keep<T>(inside<T>(part, tile.columns - j), e[part]);
        store(x + column, e[part]);
      }
      add_to<T>(lanes, e);
    }
    double sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
    const auto inverse = static_cast<T>(1 / sum);
    for (int j = 0; j < tile.columns; j += kWidth<T>) store(x + j, load(x + j) * inverse);
  }
}

}  // namespace
