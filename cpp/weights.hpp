// Weights: any rectangle of any random matrix, into any buffer.
#pragma once

#include <cstddef>
#include <cstdint>

#include "control.hpp"
#include "kernels/kernels.hpp"
#include "network.hpp"

namespace varprop {

// The recipe of a tensor's numbers in T, times 2^exponent.
template <class T>
Recipe<T> make_recipe(const Draw&, const Key&, std::uint64_t trial, int exponent = 0);

enum class OutputType { float32, float64, float16, bfloat16 };

// Rows and columns of a matrix: a start, a step (may be negative) and a count each.
struct Region {
  std::int64_t row, row_step, rows;
  std::int64_t column, column_step, columns;
};

// Writable memory of the region's shape; strides in bytes.
struct Output {
  void* data;
  OutputType type;
  std::ptrdiff_t row_stride, column_stride;
};

// Draws a region. Throws what the watcher throws; a stopped region is left half drawn.
void fill(const Draw&, const Key&, std::uint64_t trial, const Region&, const Output&, int threads,
          Watcher&);

}  // namespace varprop
