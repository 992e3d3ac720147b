// Sums of a tile's numbers and of their powers, in a fixed number of lanes.
#pragma once

#include "kernels.hpp"
#include "lanes.inl"
#include "vec.hpp"

namespace {

using varprop::Lanes;
using varprop::PowerLanes;

template <class T>
T pivot(const Tile<T>& tile, T scale) {
  Vec<T> sum[kParts<T>] = {};
  for (int j = 0; j < tile.columns; j += kLanes) {
    for (int part = 0; part < kParts<T>; ++part) {
      const Vec<T> x = load(tile.data + j + part * kWidth<T>) * splat(scale);
      sum[part] += keep<T>(inside<T>(part, tile.columns - j), x);
    }
  }
  return total<T>(sum) / static_cast<T>(tile.columns);
}

template <bool partial, class T>
inline void observe_strip(const Tile<T>& tile, int column, T scale, T pivot, Lanes& lanes) {
  Vec<T> sum[kParts<T>] = {}, square[kParts<T>] = {};
#pragma GCC unroll 4
  for (int row = 0; row < tile.rows; ++row) {
    const T* const x = tile.data + row * tile.stride + column;
#pragma GCC unroll 8
    for (int part = 0; part < kParts<T>; ++part) {
      Vec<T> d = fma(load(x + part * kWidth<T>), splat(scale), splat(-pivot));
      if constexpr (partial) d = keep<T>(inside<T>(part, tile.columns - column), d);
      sum[part] += d;
      square[part] = fma(d, d, square[part]);
    }
  }
  add_to<T>(lanes.sum, sum);
  add_to<T>(lanes.square, square);
}

// tile.rows <= kGroupRows: sums in T stay short.
template <class T>
void observe(const Tile<T>& tile, T scale, T pivot, Lanes& lanes) {
  int column = 0;
  for (; column + kLanes <= tile.columns; column += kLanes) {
    observe_strip<false, T>(tile, column, scale, pivot, lanes);
  }
  if (column < tile.columns) observe_strip<true, T>(tile, column, scale, pivot, lanes);
}

// Asked for, not free: one number at a time in double.
template <class T>
void observe_powers(const Tile<T>& tile, double scale, double pivot, PowerLanes& lanes) {
  for (int row = 0; row < tile.rows; ++row) {
    const T* const x = tile.data + row * tile.stride;
    for (int column = 0; column < tile.columns; column += kLanes) {
      const int count = tile.columns - column < kLanes ? tile.columns - column : kLanes;
      for (int lane = 0; lane < count; ++lane) {
        const double y = static_cast<double>(x[column + lane]) * scale, d = y - pivot;
        const double d2 = d * d;
        lanes.sum[0][lane] += d;
        lanes.sum[1][lane] += d2;
        lanes.sum[2][lane] += d2 * d;
        lanes.sum[3][lane] += d2 * d2;
        lanes.minimum[lane] = y < lanes.minimum[lane] ? y : lanes.minimum[lane];
        lanes.maximum[lane] = y > lanes.maximum[lane] ? y : lanes.maximum[lane];
      }
    }
  }
}

}  // namespace
