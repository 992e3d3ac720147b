// Inner products of rows of doubles, each in kLanes parts.
#pragma once

#include "kernels.hpp"
#include "lanes.inl"
#include "vec.hpp"

namespace {

using varprop::Rows;

// From numbers to doubles, times a scale; zeros up to the next multiple of kLanes. What a caller
// that goes along several rows reads next is fetched meanwhile.
template <class T>
void widen(const T* from, int count, double scale, double* to) {
  int k = 0;
  for (; k + kWidth<double> <= count; k += kWidth<double>) {
    __builtin_prefetch(from + k + count);
    store(to + k, widened(from + k) * splat(scale));
  }
  for (; k < count; ++k) to[k] = static_cast<double>(from[k]) * scale;
  for (; k % kLanes != 0; ++k) to[k] = 0;
}

template <int rows, int columns>
void inner_tile(const Rows& a, const Rows& b, int length, double* c, std::ptrdiff_t c_stride) {
  constexpr int kWide = kWidth<double>;
  Vec<double> sum[rows][columns][kParts<double>] = {};
  for (int k = 0; k < length; k += kLanes) {
#pragma GCC unroll 8
    for (int part = 0; part < kParts<double>; ++part) {
      const int at = k + part * kWide;
      Vec<double> y[columns];
#pragma GCC unroll 4
      for (int j = 0; j < columns; ++j) y[j] = load(b.data + j * b.stride + at);
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) {
        const Vec<double> x = load(a.data + i * a.stride + at);
#pragma GCC unroll 4
        for (int j = 0; j < columns; ++j) sum[i][j][part] = fma(x, y[j], sum[i][j][part]);
      }
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) c[i * c_stride + j] += total<double>(sum[i][j]);
  }
}

// Tiles leave the sums in registers.
void inner(const Rows& a, const Rows& b, int length, double* c, std::ptrdiff_t c_stride) {
  constexpr int kRows = kVectorBytes == 64 ? 4 : 1, kColumns = 2;
  for (int i = 0; i < a.count;) {
    const bool high = i + kRows <= a.count;
    const Rows left{a.data + i * a.stride, a.stride, a.count - i};
    for (int j = 0; j < b.count;) {
      const bool wide = j + kColumns <= b.count;
      const Rows right{b.data + j * b.stride, b.stride, b.count - j};
      double* const to = c + i * c_stride + j;
      if (high && wide) {
        inner_tile<kRows, kColumns>(left, right, length, to, c_stride);
      } else if (high) {
        inner_tile<kRows, 1>(left, right, length, to, c_stride);
      } else if (wide) {
        inner_tile<1, kColumns>(left, right, length, to, c_stride);
      } else {
        inner_tile<1, 1>(left, right, length, to, c_stride);
      }
      j += wide ? kColumns : 1;
    }
    i += high ? kRows : 1;
  }
}

}  // namespace
