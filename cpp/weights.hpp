// Weights: any region of any random tensor, into any buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "control.hpp"
#include "kernels/kernels.hpp"
#include "network.hpp"

namespace varprop {

// The recipe of a tensor's numbers in T, times 2^exponent.
template <class T>
Recipe<T> make_recipe(const Draw&, const Key&, std::uint64_t trial, int exponent = 0);

enum class OutputType { float32, float64, float16, bfloat16 };

// So many positions, `step` rows or columns of a tensor and `stride` bytes of memory apart.
struct Axis {
  std::int64_t step, count;
  std::ptrdiff_t stride;
};

// Part of a tensor in writable memory. Rows are numbered through all matrices of a kernel and lie
// along any number of axes, outermost first; steps and strides may be negative.
struct Region {
  std::int64_t row, column;  // of the first number
  std::byte* data;           // where it goes
  std::vector<Axis> rows;
  Axis columns;
};

// Draws a region. Throws what the watcher throws; a stopped region is left half drawn.
void fill(const Draw&, const Key&, std::uint64_t trial, const Region&, OutputType, int threads,
          Watcher&);

}  // namespace varprop
