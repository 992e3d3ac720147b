// Layers of implicit weights: exact in law for independent normal weights W, of which no number is
// ever drawn. Forward, given what enters, X = L U (root.hpp), Y = X W = s L Z for standard normals
// Z; back, given that too, W = s (U^T Z + P V^T), where P leaves out the rows of X and V is new. So
//   W D^T = s (U^T Z D^T + P V^T R^T),  D D^T = R R^T,
// for all rows of the gradient D at once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "chain/root.hpp"

namespace varprop {

// What the members of a team share for it.
template <class T>
struct Implicit {
  std::vector<Root> roots;  // of what enters each layer with weights; going forward only, one
  Root gradient{0, 0};
  Search search{0};
  Products products;
  std::vector<T> left;  // (rows, depth) of a product with normals and with rows of U
  // Small matrices, rows padded: D Z^T; and triangles, from a pivot after rows of U to its own row
  // of U, and from rows of U to mended ones, where pivots are late.
  std::vector<double> along, steps, mends;

  Implicit() = default;
  // For layers of so many inputs and outputs at the most.
  Implicit(std::int64_t rows, const std::vector<std::int64_t>& inputs, std::int64_t outputs,
           bool back)
      : search(rows) {
    const std::int64_t widest = *std::max_element(inputs.begin(), inputs.end());
    products = Products(rows + 1, rows);
    left.resize(static_cast<std::size_t>(rows * (back ? 2 : 1) * rows));
    if (!back) {
      roots.emplace_back(rows, widest);
      return;
    }
    for (const std::int64_t width : inputs) roots.emplace_back(rows, width);
    gradient = Root(rows, outputs);
    for (auto* const matrix : {&along, &steps, &mends}) {
      matrix->resize(static_cast<std::size_t>(rows * padded(rows)));
    }
  }

  static std::size_t bytes(std::int64_t rows, const std::vector<std::int64_t>& inputs,
                           std::int64_t outputs, bool back) {
    const auto square = static_cast<std::size_t>(rows * padded(rows));
    const std::size_t shared = Search::bytes(rows) + Products::bytes(rows + 1, rows);
    const std::int64_t widest = *std::max_element(inputs.begin(), inputs.end());
    if (!back) return shared + square * sizeof(T) + Root::bytes(rows, widest);
    std::size_t sum =
        shared + square * (2 * sizeof(T) + 3 * sizeof(double)) + Root::bytes(rows, outputs);
    for (const std::int64_t width : inputs) sum += Root::bytes(rows, width);
    return sum;
  }
};

// Memory of a member for rows of doubles.
inline std::size_t strip_numbers(std::int64_t rows) {
  return static_cast<std::size_t>(2 * rows * kStripColumns);
}

}  // namespace varprop
