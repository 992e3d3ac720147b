// The root L of a batch's Gram matrix, X X^T = L L^T: all that layers of implicit weights know of
// what enters them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "chain/inner.hpp"

namespace varprop {

// X = L U, where the rows of U are orthonormal and as many as rows of X are independent. On the
// pivots, independent rows in the order in which they were taken, L is a triangle. Rows of zeros
// have rows of zeros in L, and equal rows equal ones.
class Root {
 public:
  // For X of so many rows and columns at the most.
  Root(std::int64_t rows, std::int64_t width);
  static std::size_t bytes(std::int64_t rows, std::int64_t width);

  // Of an X of that size, its rows times 2^-exponent.
  void begin(std::int64_t rows, std::int64_t width, int exponent);
  // Gives a row an exponent of its own; false where it has that.
  bool rescale(std::int64_t i, int exponent);

  std::int64_t rows() const { return rows_; }
  std::int64_t rank() const { return rank_; }
  std::int64_t most() const { return most_; }  // columns that there may be
  int exponent(std::int64_t i) const { return exponents_[static_cast<std::size_t>(i)]; }
  double scale(std::int64_t i) const { return std::ldexp(1.0, -exponent(i)); }
  std::int64_t pivot(std::int64_t k) const { return pivots_[static_cast<std::size_t>(k)]; }
  const double* row(std::int64_t i) const { return l_.data() + i * most_; }
  double* row(std::int64_t i) { return l_.data() + i * most_; }
  // Row k of the triangle.
  const double* triangle(std::int64_t k) const { return row(pivot(k)); }
  void take(std::int64_t pivot, bool late) {
    pivots_[static_cast<std::size_t>(rank_++)] = pivot;
    late_ = late;
  }
  // Do pivots nearly depend on others? Their rows of U, differences of large numbers, are not quite
  // orthogonal to the others.
  bool late() const { return late_; }

  // From products of a row with the pivots to its products with the rows of U; and from its
  // coefficients of the rows of U to those of the pivots.
  void divide(double* row) const;
  void combine(double* row) const;

  std::vector<double> sums;  // of the rows of X, in their scales

 private:
  std::int64_t rows_ = 0, most_ = 0, rank_ = 0;
  bool late_ = false;
  std::vector<int> exponents_;
  std::vector<std::int64_t> pivots_;
  std::vector<double> l_;  // (rows, most), zeros from the rank on
};

// What it takes to find roots; all sizes are those of the largest X.
struct Search {
  struct Row {
    std::int64_t row;  // of X
    double before;     // its square's part outside of the pivots, when it was last seen
  };
  std::vector<Row> open;            // rows of X that are neither pivots nor known to depend on them
  bool first = true;                // are products to be those of the rows themselves?
  std::vector<std::int64_t> equal;  // to each row of X the first that is equal
  std::vector<double> squares;      // of the rows of X
  std::vector<double> left, column;  // of the open rows: their squares, and a column of L
  std::vector<double> coefficients;  // (open, rank), of minus the pivots in an open row
  std::vector<double> rest, part;    // (open, open) and (open, rank)

  explicit Search(std::int64_t rows);
  static std::size_t bytes(std::int64_t rows);
};

template <class T>
struct Worker;

// Finds the root of the rows of x. All members take part; it is there for them after the next
// barrier. False where the team leaves.
template <class T>
bool take_root(Worker<T>&, const Signal<T>& x, std::int64_t rows, std::int64_t width, Root&);

}  // namespace varprop
