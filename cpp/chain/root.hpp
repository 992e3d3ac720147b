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
  std::int64_t stride() const { return padded(most_); }
  const double* row(std::int64_t i) const { return l_.data() + i * stride(); }
  double* row(std::int64_t i) { return l_.data() + i * stride(); }
  // Row k of the triangle.
  const double* triangle(std::int64_t k) const { return row(pivot(k)); }
  void take(std::int64_t pivot, bool late) {
    pivots_[static_cast<std::size_t>(rank_++)] = pivot;
    late_ = late;
  }
  // Do pivots nearly depend on others? Their rows of U, differences of large numbers, are not quite
  // orthogonal to the others.
  bool late() const { return late_; }

  // Rows from products with the pivots to products with the rows of U, in place. They are `between`
  // numbers apart, padded to whole lanes. `steps`: as write_steps made them.
  void divide(const double* steps, double* rows, std::int64_t count, std::int64_t between) const;
  // Of the triangle: rows of `rank` numbers, padded, each over minus its diagonal, which is left
  // out.
  void write_steps(double* steps) const;
  // A row from coefficients of the rows of U to those of the pivots.
  void combine(double* row) const;

  std::vector<double> sums;  // of the rows of X, in their scales

 private:
  std::int64_t rows_ = 0, most_ = 0, rank_ = 0;
  bool late_ = false;
  std::vector<int> exponents_;
  std::vector<std::int64_t> pivots_;
  std::vector<double> l_;  // (rows, most), zeros from the rank on
};

// What it takes to find roots, of matrices of so many rows at the most.
struct Search {
  struct Row {
    std::int64_t row;  // of X
    double before;     // its square's part outside of the pivots, when it was last seen
  };
  std::vector<Row> open;            // rows of X that are neither pivots nor known to depend on them
  bool first = true;                // are products to be those of the rows themselves?
  std::vector<std::int64_t> equal;  // to each row of X the first that is equal
  std::vector<double> squares;      // of the rows of X
  std::vector<double> left;         // of open rows: their squares when last computed
  std::vector<double> diagonal;     // of `rest`
  // Small matrices, rows padded: minus the pivots' coefficients in the open rows; the products of
  // what is left of these; a factor of what is subtracted from them, and its transpose; and the
  // triangle's steps.
  std::vector<double> coefficients, rest, factor, turned, steps;

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
