// One thread's piece of a matrix, drawn or copied to where the product reads it: rows of the second
// factor, kBlockColumns numbers apart.
#pragma once

#include <algorithm>

#include "chain/plan.hpp"
#include "isa.hpp"

namespace varprop {

template <class T>
class Panel {
 public:
  // Rows k, k + 1, ... of columns column, column + 1, ... of the weights.
  const T* weights(const Plan<T>& plan, std::int64_t k, std::int64_t rows, std::int64_t column,
                   std::int64_t columns) {
    if (!plan.matrix.numbers) {
      kernels<T>().draw(plan.weight, Rectangle{k, rows, column, columns, 1}, numbers_,
                        kBlockColumns, true);
      return numbers_;
    }
    const std::int64_t width = plan.layer.width;
    return copy({plan.matrix.numbers + k * width + column, width, 1}, rows, columns,
                plan.weight_scale);
  }

  // The same of the weights' transpose.
  const T* transposed(const BackwardPlan<T>& plan, std::int64_t k, std::int64_t rows,
                      std::int64_t column, std::int64_t columns) {
    if (!plan.matrix.numbers) {
      kernels<T>().draw_transposed(plan.weight, Rectangle{column, columns, k, rows, 1}, numbers_,
                                   kBlockColumns);
      return numbers_;
    }
    const std::int64_t width = plan.layer.width;
    return copy({plan.matrix.numbers + column * width + k, 1, width}, rows, columns,
                plan.weight_scale);
  }

  // The same of the gradient by the pre-activations.
  const T* gradient(const BackwardPlan<T>& plan, std::int64_t k, std::int64_t rows,
                    std::int64_t column, std::int64_t columns) {
    const Signal<T>& gradient = plan.gradient;
    return copy({gradient.x + k * gradient.stride + column, gradient.stride, 1}, rows, columns,
                plan.panel_scale);
  }

  // Null for a layer without biases.
  const T* biases(const Plan<T>& plan, std::int64_t column, std::int64_t columns) {
    const Tensor& bias = plan.layer.bias;
    if (bias.source == Tensor::Source::absent) return nullptr;
    std::fill_n(biases_, kBlockColumns, T{0});
    if (bias.source == Tensor::Source::given) {
      const T* const from = static_cast<const T*>(bias.given) + column;
      for (std::int64_t j = 0; j < columns; ++j) biases_[j] = from[j] * plan.bias_scale;
    } else {
      kernels<T>().draw_transposed(plan.bias, Rectangle{column, columns, 0, 1, 1}, biases_,
                                   kBlockColumns);
    }
    return biases_;
  }

  // A block of a product that is never a whole matrix.
  T* product() { return product_; }

 private:
  const T* copy(const View<T>& from, std::int64_t rows, std::int64_t columns, T scale) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const T* const x = from.data + i * from.row_stride;
      T* const to = numbers_ + i * kBlockColumns;
      const std::ptrdiff_t step = from.column_stride;
      if (step == 1) {  // said apart, it becomes vectors
        for (std::int64_t j = 0; j < columns; ++j) to[j] = x[j] * scale;
      } else {
        for (std::int64_t j = 0; j < columns; ++j) to[j] = x[j * step] * scale;
      }
      std::fill(to + columns, to + kBlockColumns, T{0});
    }
    return numbers_;
  }

  alignas(64) T numbers_[kPanelRows<T> * kBlockColumns];
  alignas(64) T biases_[kBlockColumns];
  alignas(64) T product_[kProductRows * kBlockColumns];
};

}  // namespace varprop
