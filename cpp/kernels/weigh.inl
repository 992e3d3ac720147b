// Sums of rows of numbers, each number with a weight of its own column: no vector is filled in
// part.
#pragma once

#include "kernels.hpp"
#include "lanes.inl"
#include "vec.hpp"

namespace {

using varprop::Runs;
using varprop::Tile;

template <bool partial, class T>
inline void weigh_strip(const Runs<T>& runs, std::ptrdiff_t column, int count, const T* weights,
                        std::ptrdiff_t stride, const T* bias, const Tile<T>& c) {
  for (int i = 0; i < c.rows; ++i) {
    Vec<T> sum[kParts<T>];
    for (int part = 0; part < kParts<T>; ++part) {
      sum[part] = bias ? load(bias + part * kWidth<T>) : Vec<T>{};
    }
    const T* w = weights;
    for (int run = 0; run < runs.count; ++run, w += stride) {
      const T* const x = runs.x[run * runs.rows + i];
      if (!x) continue;
#pragma GCC unroll 8
      for (int part = 0; part < kParts<T>; ++part) {
        const int first = part * kWidth<T>;
        const T* const from = x + column + first;
        const Vec<T> factor = partial ? load_part(from, within<T>(count - first)) : load(from);
        sum[part] = fma(factor, load(w + first), sum[part]);
      }
    }
    for (int part = 0; part < kParts<T>; ++part) {
      store(c.data + i * c.stride + part * kWidth<T>, sum[part]);
    }
  }
}

template <class T>
void weigh(const Runs<T>& runs, std::ptrdiff_t column, const T* w, std::ptrdiff_t w_stride,
           const T* bias, const Tile<T>& c) {
  for (int j = 0; j < c.columns; j += kLanes) {
    const Tile<T> to{c.data + j, c.stride, c.rows, kLanes};
    const T* const start = bias ? bias + j : nullptr;
    const int count = c.columns - j;
    if (count >= kLanes) {
      weigh_strip<false>(runs, column + j, count, w + j, w_stride, start, to);
    } else {
      weigh_strip<true>(runs, column + j, count, w + j, w_stride, start, to);
    }
  }
}

}  // namespace
