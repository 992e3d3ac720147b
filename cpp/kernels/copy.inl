// Rows of numbers brought together, many of them short.
#pragma once

#include "kernels.hpp"
#include "vec.hpp"

namespace {

template <int piece, class T>
inline void copy_piece(const T* from, T* to) {
  if constexpr (piece > kWidth<T>) {
    for (int j = 0; j < piece; j += kWidth<T>) store(to + j, load(from + j));
  } else {
    __builtin_memcpy(to, from, piece * sizeof(T));
  }
}

// In pieces of a fixed size, the last of which overlaps the one before.
template <int piece, class T>
void copy_pieces(const T* const* from, int rows, int count, T* to, std::ptrdiff_t stride) {
  for (int i = 0; i < rows; ++i, to += stride) {
    const T* const x = from[i];
    if (!x) {
      for (int j = 0; j < count; ++j) to[j] = 0;
      continue;
    }
    for (int j = 0; j + piece < count; j += piece) copy_piece<piece>(x + j, to + j);
    copy_piece<piece>(x + count - piece, to + count - piece);
  }
}

template <class T>
void copy(const T* const* from, int rows, int count, T* to, std::ptrdiff_t stride) {
  if (count >= 16) return copy_pieces<16>(from, rows, count, to, stride);
  if (count >= 4) return copy_pieces<4>(from, rows, count, to, stride);
  if (count >= 2) return copy_pieces<2>(from, rows, count, to, stride);
  copy_pieces<1>(from, rows, count, to, stride);
}

}  // namespace
