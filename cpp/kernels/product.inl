// The product of a few rows of X with a panel of W, in register tiles; each number sums in the
// order of k.
#pragma once

#include "kernels.hpp"
#include "vec.hpp"

namespace {

using varprop::Tile;
using varprop::View;

// Rows and vectors of a register tile: accumulators, one row of W and one broadcast fit the
// registers.
constexpr int kTileRows = 6;
constexpr int kTileVectors = kVectorBytes == 64 ? 4 : 2;

template <int rows, int vectors, class T>
void multiply_tile(const View<T>& view, const T* b, std::ptrdiff_t b_stride, int depth, bool first,
                   const T* bias, T* c, std::ptrdiff_t c_stride) {
  const T* a = view.data;
  const std::ptrdiff_t a_stride = view.row_stride, a_step = view.column_stride;
  Vec<T> sum[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const int j = v * kWidth<T>;
      sum[i][v] = !first ? load(c + i * c_stride + j) : bias ? load(bias + j) : Vec<T>{};
    }
  }
  for (int k = 0; k < depth; ++k, a += a_step, b += b_stride) {
    Vec<T> w[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) w[v] = load(b + v * kWidth<T>);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const Vec<T> factor = splat(a[i * a_stride]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[i][v] = fma(factor, w[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store(c + i * c_stride + v * kWidth<T>, sum[i][v]);
  }
}

template <class T>
using TileFunction = void (*)(const View<T>&, const T*, std::ptrdiff_t, int, bool, const T*, T*,
                              std::ptrdiff_t);

// Every height and width of tile, for the edges.
template <class T, int... tile>
struct TileTable {
  static constexpr TileFunction<T> kTiles[] = {
      multiply_tile<tile / kTileVectors + 1, tile % kTileVectors + 1, T>...};
};
template <class T, int n, int... tile>
struct MakeTileTable : MakeTileTable<T, n - 1, n - 1, tile...> {};
template <class T, int... tile>
struct MakeTileTable<T, 0, tile...> {
  using type = TileTable<T, tile...>;
};

template <class T>
void multiply(const View<T>& a, const T* b, std::ptrdiff_t b_stride, int depth, bool first,
              const T* bias, const Tile<T>& c) {
  using Tiles = typename MakeTileTable<T, kTileRows * kTileVectors>::type;
  constexpr int span = kTileVectors * kWidth<T>;
  for (int i = 0; i < c.rows; i += kTileRows) {
    const int rows = c.rows - i < kTileRows ? c.rows - i : kTileRows;
    const View<T> from{a.data + i * a.row_stride, a.row_stride, a.column_stride};
    for (int j = 0; j < c.columns; j += span) {
      const int left = (c.columns - j + kWidth<T> - 1) / kWidth<T>;
      const int vectors = left < kTileVectors ? left : kTileVectors;
      Tiles::kTiles[(rows - 1) * kTileVectors + vectors - 1](from, b + j, b_stride, depth, first,
                                                             bias ? bias + j : nullptr,
                                                             c.data + i * c.stride + j, c.stride);
    }
  }
}

}  // namespace
