// What one layer does in one trial, forward and back: scales and recipes, decided from the size of
// the signal that enters.
#pragma once

#include <cstddef>
#include <cstdint>

#include "network.hpp"
#include "weights.hpp"

namespace varprop {

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Numbers between two rows of X: whole vectors, and no power of two, which would crowd a cache set.
inline std::int64_t row_stride(std::int64_t width) {
  return divide_up(width, kLanes) * kLanes + (width % 512 == 0 ? kLanes : 0);
}

// The power of two nearest to a size; 0 where there is none to speak of.
int exponent_of(double size);

// A size rms * 2^exponent, wherever in or beyond the range of a double.
struct Size {
  double rms = 0;
  int exponent = 0;
};
int exponent_of(const Size&);
Size operator*(double factor, const Size&);
// Of a sum of independent numbers.
Size operator+(const Size&, const Size&);

// A matrix X of numbers in T: true values are x * 2^exponent, their root mean square rms *
// 2^exponent.
template <class T>
struct Signal {
  const T* x;
  std::int64_t stride;
  double rms;
  int exponent;

  Size size() const { return {rms, exponent}; }
};

// Weights that are there as a matrix, given or formed; null for those drawn.
template <class T>
struct Matrix {
  const T* numbers;
  double rms;
};

template <class T>
struct Plan {
  const Layer& layer;
  Signal<T> in, skip;  // skip: of a join alone
  Matrix<T> matrix;
  std::int64_t rows;
  std::int64_t blocks, row_chunks;     // the layer's chunks: blocks of columns times chunks of rows
  int exponent = 0, act_exponent = 0;  // of pre-activations and of activations
  int pre_unit = 0, act_unit = 0;      // moments are taken in units of 2^unit ...
  T pre_scale = 1, act_scale = 1;      // ... that is, of numbers times 2^-unit
  bool underflow = false;              // numbers too small for T, which may not be rescaled
  std::int64_t depth = 0;              // of the product, where it is not the layer's
  Recipe<T> weight{}, bias{};          // of numbers in the scale of the output
  T weight_scale = 1, bias_scale = 1;  // the same for given numbers
  T factor = 1, skip_factor = 1;       // of a map and of a join, in the scale of the output
};

template <class T>
Plan<T> make_plan(const Layer&, const Signal<T>& in, const Signal<T>& skip, const Matrix<T>&,
                  std::int64_t batch, std::uint64_t trial);

// The way back through a layer: of the gradient by its pre-activations, to the gradients by what
// entered it, by its weights and by its biases.
template <class T>
struct BackwardPlan {
  const Layer& layer;
  Signal<T> gradient, in;
  Matrix<T> matrix;
  std::int64_t rows;   // of the gradient
  Recipe<T> weight{};  // of numbers in the scale of the gradient by what entered
  T weight_scale = 1;  // the same for given numbers
  T factor = 1;        // and of the layer's factor
  int exponent = 0, unit = 0;
  T scale = 1;
  T panel_scale = 1;  // of the gradient, where it meets what entered
  int weight_exponent = 0, weight_unit = 0;
  int bias_exponent = 0, bias_unit = 0;
  T weight_moment_scale = 1, bias_moment_scale = 1;
};

// `beside`: the size of gradients that come by skips and are added.
template <class T>
BackwardPlan<T> make_backward_plan(const Layer&, const Signal<T>& gradient, const Signal<T>& in,
                                   const Matrix<T>&, const Size& beside, std::int64_t batch,
                                   std::uint64_t trial);

}  // namespace varprop
