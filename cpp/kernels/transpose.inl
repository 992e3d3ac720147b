// Matrices turned over in memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vec.hpp"

namespace {

// Four rows side by side: a0 b0 c0 d0 a1 b1 ..., in four vectors.
template <class T>
inline void zip_four(const Vec<T>& a, const Vec<T>& b, const Vec<T>& c, const Vec<T>& d, T* out) {
  Vec<T> even[2], odd[2];
  zip<T>(a, c, even[0], even[1]);
  zip<T>(b, d, odd[0], odd[1]);
  for (int part = 0; part < 2; ++part, out += 2 * kWidth<T>) {
    Vec<T> low, high;
    zip<T>(even[part], odd[part], low, high);
    store(out, low);
    store(out + kWidth<T>, high);
  }
}

template <class T>
void transpose(const T* from, std::ptrdiff_t from_stride, std::int64_t rows, std::int64_t columns,
               T* to, std::ptrdiff_t to_stride) {
  std::int64_t j = 0;
  for (; rows >= 4 && j + kWidth<T> <= columns; j += kWidth<T>) {
    for (std::int64_t i = 0; i < rows; i += 4) {
      const std::int64_t top = i + 4 <= rows ? i : rows - 4;  // the last four may overlap others
      const T* const at = from + top * from_stride + j;
      alignas(64) T four[4 * kWidth<T>];
      zip_four<T>(load(at), load(at + from_stride), load(at + 2 * from_stride),
                  load(at + 3 * from_stride), four);
#pragma GCC unroll 16
      for (int lane = 0; lane < kWidth<T>; ++lane) {
        __builtin_memcpy(to + (j + lane) * to_stride + top, four + 4 * lane, 4 * sizeof(T));
      }
    }
  }
  for (; j < columns; ++j) {
    for (std::int64_t i = 0; i < rows; ++i) {  // to memory of any alignment
      __builtin_memcpy(to + j * to_stride + i, from + i * from_stride + j, sizeof(T));
    }
  }
}

}  // namespace
