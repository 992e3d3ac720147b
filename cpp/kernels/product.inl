// The product of a few rows of X with a panel of W, in register tiles; each number sums in the
// order of k.
#pragma once

#include "kernels.hpp"
#include "vec.hpp"

namespace {

using varprop::Tile;
using varprop::View;

// Register tiles: as many rows as the accumulators leave room for, beside one row of W and one
// broadcast, and as divide kChunkRows; fewer vectors, more rows, so that the latency stays hidden.
constexpr int kTileVectors = kVectorBytes == 64 ? 4 : 2;
constexpr int kMostTileRows = 12;
constexpr int tile_rows(int vectors) {
  constexpr int kRows[] = {12, kVectorBytes == 64 ? 12 : 6, 8, 6};
  return kRows[vectors - 1];
}

template <int rows, int vectors, class T>
void multiply_tile(const View<T>& view, const T* b, std::ptrdiff_t b_stride, int depth, bool first,
                   const T* bias, T* c, std::ptrdiff_t c_stride) {
  const T* a = view.data;
  const std::ptrdiff_t a_stride = view.row_stride, a_step = view.column_stride;
  Vec<T> sum[rows][vectors];
  const T* from = c;
  if (!first) {
    const T* next = c + rows * c_stride;
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i, next += c_stride) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) __builtin_prefetch(next + v * kWidth<T>, 1);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i, from += c_stride) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const int j = v * kWidth<T>;
      sum[i][v] = !first ? load(from + j) : bias ? load(bias + j) : Vec<T>{};
    }
  }
#pragma GCC unroll 2
  for (int k = 0; k < depth; ++k, a += a_step, b += b_stride) {
    Vec<T> w[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) w[v] = load(b + v * kWidth<T>);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) {
      const Vec<T> factor = splat(a[i * a_stride]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[i][v] = fma(factor, w[v], sum[i][v]);
    }
  }
  __asm__("" : "+r"(c));  // the addresses anew: kept over the loop, they would be spilled
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i, c += c_stride) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) store(c + v * kWidth<T>, sum[i][v]);
  }
}

template <class T>
using TileFunction = void (*)(const View<T>&, const T*, std::ptrdiff_t, int, bool, const T*, T*,
                              std::ptrdiff_t);

// Every height and width of tile, for the edges: position (rows - 1) * kTileVectors + vectors - 1.
template <class T, int position>
constexpr TileFunction<T> tile_function() {
  constexpr int rows = position / kTileVectors + 1, vectors = position % kTileVectors + 1;
  if constexpr (rows <= tile_rows(vectors)) {
    return multiply_tile<rows, vectors, T>;
  } else {
    return nullptr;
  }
}
template <class T, int... position>
struct TileTable {
  static constexpr TileFunction<T> kTiles[] = {tile_function<T, position>()...};
};
template <class T, int n, int... position>
struct MakeTileTable : MakeTileTable<T, n - 1, n - 1, position...> {};
template <class T, int... position>
struct MakeTileTable<T, 0, position...> {
  using type = TileTable<T, position...>;
};

template <class T>
void multiply(const View<T>& a, const T* b, std::ptrdiff_t b_stride, int depth, bool first,
              const T* bias, const Tile<T>& c) {
  using Tiles = typename MakeTileTable<T, kMostTileRows * kTileVectors>::type;
  constexpr int span = kTileVectors * kWidth<T>;
  for (int j = 0; j < c.columns; j += span) {
    const int left = (c.columns - j + kWidth<T> - 1) / kWidth<T>;
    const int vectors = left < kTileVectors ? left : kTileVectors;
    const int most = tile_rows(vectors);
    for (int i = 0; i < c.rows; i += most) {
      const int rows = c.rows - i < most ? c.rows - i : most;
      Tiles::kTiles[(rows - 1) * kTileVectors + vectors - 1](
          {a.data + i * a.row_stride, a.row_stride, a.column_stride}, b + j, b_stride, depth, first,
          bias ? bias + j : nullptr, c.data + i * c.stride + j, c.stride);
    }
  }
}

}  // namespace
