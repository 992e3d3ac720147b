// One thread's piece of a layer's weights and biases, drawn or copied where the product reads it.
#pragma once

#include <algorithm>

#include "chain/plan.hpp"
#include "isa.hpp"

namespace varprop {

template <class T>
class Panel {
 public:
  // Rows k, k + 1, ... of columns column, column + 1, ...; rows are kBlockColumns numbers apart.
  const T* weights(const Plan<T>& plan, std::int64_t k, std::int64_t rows, std::int64_t column,
                   std::int64_t columns) {
    if (!plan.matrix.numbers) {
      kernels<T>().draw(plan.weight, Rectangle{k, rows, column, columns, 1}, weights_,
                        kBlockColumns, true);
      return weights_;
    }
    for (std::int64_t i = 0; i < rows; ++i) {
      const T* const from = plan.matrix.numbers + (k + i) * plan.layer.width + column;
      copy(from, columns, plan.weight_scale, weights_ + i * kBlockColumns);
    }
    return weights_;
  }

  // Null for a layer without biases.
  const T* biases(const Plan<T>& plan, std::int64_t column, std::int64_t columns) {
    const Tensor& bias = plan.layer.bias;
    if (bias.source == Tensor::Source::absent) return nullptr;
    if (bias.source == Tensor::Source::given) {
      copy(static_cast<const T*>(bias.given) + column, columns, plan.bias_scale, biases_);
    } else {
      std::fill_n(biases_, kBlockColumns, T{0});
      kernels<T>().draw_transposed(plan.bias, Rectangle{column, columns, 0, 1, 1}, biases_,
                                   kBlockColumns);
    }
    return biases_;
  }

 private:
  static void copy(const T* from, std::int64_t count, T scale, T* to) {
    for (std::int64_t j = 0; j < count; ++j) to[j] = from[j] * scale;
    std::fill(to + count, to + kBlockColumns, T{0});
  }

  alignas(64) T weights_[kPanelRows<T> * kBlockColumns];
  alignas(64) T biases_[kBlockColumns];
};

}  // namespace varprop
