// Products with few columns: lanes along k, where the rows of W would fill a vector in part.
#pragma once

#include "kernels.hpp"
#include "lanes.inl"
#include "vec.hpp"

namespace {

using varprop::Runs;
using varprop::Tile;

// Register tiles: `rows` share a column's numbers, as many as hide the latency.
constexpr int kDotColumns = 2;
template <class T, int columns>
constexpr int dot_rows() {
  constexpr int sums = kVectorBytes == 64 ? 16 : 8, rows = sums / (columns * kParts<T>);
  return rows > 8 ? 8 : rows > 1 ? rows : 1;
}

template <int rows, int columns, class T>
void dot_tile(const Runs<T>& runs, int row, const T* w, std::ptrdiff_t w_stride, const T* bias,
              T* y, std::ptrdiff_t y_stride) {
  Vec<T> sum[rows][columns][kParts<T>] = {};
  const auto add = [&](const T* const(&from)[rows], int c, auto load_x) {
#pragma GCC unroll 8
    for (int part = 0; part < kParts<T>; ++part) {
      Vec<T> factor[columns];
#pragma GCC unroll 2
      for (int j = 0; j < columns; ++j) factor[j] = load(w + j * w_stride + part * kWidth<T>);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const Vec<T> x = load_x(from[i] + c + part * kWidth<T>, part);
#pragma GCC unroll 2
        for (int j = 0; j < columns; ++j) sum[i][j][part] = fma(x, factor[j], sum[i][j][part]);
      }
    }
    w += kLanes;
  };
  for (int run = 0; run < runs.count; ++run) {
    const T* from[rows];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) from[i] = runs.x[run * runs.rows + row + i];
    int c = 0;
    for (; c + kLanes <= runs.length; c += kLanes) {
      add(from, c, [](const T* x, int) { return load(x); });
    }
    if (c < runs.length) {
      const int left = runs.length - c;
      add(from, c, [left](const T* x, int part) {
        return load_part(x, within<T>(left - part * kWidth<T>));
      });
    }
  }
  for (int i = 0; i < rows; ++i, y += y_stride) {
    for (int j = 0; j < columns; ++j) y[j] = total<T>(sum[i][j]) + (bias ? bias[j] : T{0});
  }
}

template <int columns, class T>
void dot_columns(const Runs<T>& runs, const T* w, std::ptrdiff_t w_stride, const T* bias, T* y,
                 std::ptrdiff_t y_stride) {
  constexpr int most = dot_rows<T, columns>();
  int row = 0;
  for (; row + most <= runs.rows; row += most) {
    dot_tile<most, columns>(runs, row, w, w_stride, bias, y + row * y_stride, y_stride);
  }
  for (; row < runs.rows; ++row) {
    dot_tile<1, columns>(runs, row, w, w_stride, bias, y + row * y_stride, y_stride);
  }
}

template <class T>
void dot(const Runs<T>& runs, const T* w, std::ptrdiff_t w_stride, const T* bias,
         const Tile<T>& y) {
  for (int i = 0; i < y.rows; ++i) {
    for (int part = 0; part < kParts<T>; ++part) {
      store(y.data + i * y.stride + part * kWidth<T>, Vec<T>{});
    }
  }
  for (int j = 0; j < y.columns; j += kDotColumns) {
    const T* const from = w + j * w_stride;
    const T* const start = bias ? bias + j : nullptr;
    if (y.columns - j >= kDotColumns) {
      dot_columns<kDotColumns>(runs, from, w_stride, start, y.data + j, y.stride);
    } else {
      dot_columns<1>(runs, from, w_stride, start, y.data + j, y.stride);
    }
  }
}

}  // namespace
