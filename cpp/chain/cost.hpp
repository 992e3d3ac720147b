// The gradient of the cost by the last activations, a few rows at a time.
#pragma once

#include <cstdint>

#include "chain/worker.hpp"

namespace varprop {

template <class T>
class CostGradient {
 public:
  // x: the last activations.
  CostGradient(const Worker<T>& worker, const Signal<T>& x);

  // Rows [row, row + rows); for bce, the gradient by the last pre-activations: its sigmoid's slope
  // cancels what the loss divides by.
  void write(std::int64_t row, std::int64_t rows, T* out, std::int64_t stride) const;

  int exponent() const { return exponent_; }  // true values are out * 2^exponent
  bool by_preactivations() const { return cost_.loss == Cost::Loss::bce; }

 private:
  void draw_targets(std::int64_t row, std::int64_t rows, T* out, std::int64_t stride) const;
  void subtract_targets(std::int64_t row, std::int64_t rows, T* out, std::int64_t stride) const;
  void softmax(std::int64_t row, std::int64_t rows, T* out, std::int64_t stride) const;

  const Worker<T>& worker_;
  const Cost& cost_;
  Signal<T> x_;
  std::int64_t width_;
  int exponent_ = 0;
  T factor_ = 1;  // what the mean divides by, but for a power of two
};

}  // namespace varprop
