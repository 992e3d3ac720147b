// Normalizations of rows or columns, forward and back: sums in double, and what follows from them.
#pragma once

#include "kernels.hpp"
#include "lanes.inl"
#include "vec.hpp"

namespace {

using varprop::Spread;
using varprop::Tile;

// The value of a row, or the values of columns.
template <bool by_columns>
inline Vec<double> of_units(const double* values, int row, int column) {
  if constexpr (by_columns) {
    return load(values + column);
  } else {
    return splat(values[row]);
  }
}

template <bool by_columns, class T>
inline Vec<double> centred(const Tile<T>& x, const double* centre, int row, int column) {
  return widened(x.data + row * x.stride + column) - of_units<by_columns>(centre, row, column);
}

template <bool by_columns, class T>
inline Vec<double> normalized(const Tile<T>& x, const Spread& spread, int row, int column) {
  return centred<by_columns>(x, spread.centre, row, column) *
         of_units<by_columns>(spread.factor, row, column);
}

// Adds term(row, column), of so many numbers from there on, over each row in kLanes partial sums,
// or down each column.
template <bool by_columns, class Term>
inline void add_terms(int rows, int columns, double* sums, Term term) {
  constexpr int kStep = kWidth<double>;
  if constexpr (by_columns) {
    for (int j = 0; j < columns; j += kLanes) {
      Vec<double> lanes[kParts<double>];
      for (int part = 0; part < kParts<double>; ++part) lanes[part] = load(sums + j + part * kStep);
      for (int i = 0; i < rows; ++i) {
        for (int part = 0; part < kParts<double>; ++part) lanes[part] += term(i, j + part * kStep);
      }
      for (int part = 0; part < kParts<double>; ++part) store(sums + j + part * kStep, lanes[part]);
    }
  } else {
    for (int i = 0; i < rows; ++i) {
      Vec<double> lanes[kParts<double>] = {};
      int j = 0;
      for (; j + kLanes <= columns; j += kLanes) {
        for (int part = 0; part < kParts<double>; ++part) lanes[part] += term(i, j + part * kStep);
      }
      for (int part = 0; part < kParts<double> && j < columns; ++part) {
        lanes[part] += keep<double>(inside<double>(part, columns - j), term(i, j + part * kStep));
      }
      alignas(64) double numbers[kLanes];
      for (int part = 0; part < kParts<double>; ++part) store(numbers + part * kStep, lanes[part]);
      sums[i] += folded(numbers);
    }
  }
}

// Calls action(row, column) for every vector of a tile.
template <class T, class Action>
inline void each_vector(const Tile<T>& tile, Action action) {
  for (int i = 0; i < tile.rows; ++i) {
    for (int j = 0; j < tile.columns; j += kWidth<double>) action(i, j);
  }
}

template <bool by_columns, class T>
void add(const Tile<T>& x, double* sums) {
  add_terms<by_columns>(x.rows, x.columns, sums, [&](int row, int column) {
    return widened(x.data + row * x.stride + column);
  });
}

template <bool by_columns, class T>
void add_squares(const Tile<T>& x, const double* centre, double* sums) {
  add_terms<by_columns>(x.rows, x.columns, sums, [&](int row, int column) {
    const Vec<double> d = centred<by_columns>(x, centre, row, column);
    return d * d;
  });
}

template <bool by_columns, class T>
void add_products(const Tile<T>& x, const Spread& spread, const Tile<T>& gradient, double* sums) {
  add_terms<by_columns>(x.rows, x.columns, sums, [&](int row, int column) {
    return widened(gradient.data + row * gradient.stride + column) *
           normalized<by_columns>(x, spread, row, column);
  });
}

template <bool by_columns, class T>
void normalize(const Tile<T>& x, const Spread& spread, const Tile<T>& to) {
  each_vector(x, [&](int row, int column) {
    store_rounded(to.data + row * to.stride + column,
                  normalized<by_columns>(x, spread, row, column));
  });
}

template <bool by_columns, class T>
void backpropagate(const Tile<T>& x, const Spread& spread, double scale, const Tile<T>& gradient) {
  each_vector(x, [&](int row, int column) {
    const auto of = [&](const double* values) { return of_units<by_columns>(values, row, column); };
    T* const g = gradient.data + row * gradient.stride + column;
    const Vec<double> left = widened(g) - of(spread.mean) -
                             normalized<by_columns>(x, spread, row, column) * of(spread.along);
    store_rounded(g, scale * of(spread.factor) * left);
  });
}

template <bool by_columns, class T>
constexpr varprop::Normalizing<T> kNormalizing = {
    .add = add<by_columns, T>,
    .add_squares = add_squares<by_columns, T>,
    .add_products = add_products<by_columns, T>,
    .normalize = normalize<by_columns, T>,
    .backpropagate = backpropagate<by_columns, T>,
};

}  // namespace
