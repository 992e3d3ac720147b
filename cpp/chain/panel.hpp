// One thread's piece of a matrix, drawn or copied to where the product reads it: rows of the second
// factor, kBlockColumns numbers apart.
#pragma once

#include <algorithm>
#include <utility>

#include "chain/patches.hpp"
#include "isa.hpp"

namespace varprop {

template <class T>
class Panel {
 public:
  // Terms k, k + 1, ... of a product with the weights, in columns column, column + 1, ...
  const T* weights(const Plan<T>& plan, std::int64_t k, std::int64_t rows, std::int64_t column,
                   std::int64_t columns) {
    const Layer& layer = plan.layer;
    if (layer.groups == 1) {
      if (plan.matrix.numbers && columns < kBlockColumns) clear(rows);
      put(plan, k, rows, column, columns, numbers_, true);
      return numbers_;
    }
    clear(rows);
    const Groups groups(layer, false, column, columns);
    each_stretch(groups, k, rows, [&](std::int64_t at, const Stretch& stretch) {
      const auto [first, count] = own(groups, stretch.group, column, columns);
      put(plan, stretch.position * groups.channels + stretch.channel, stretch.count, first, count,
          numbers_ + at * kBlockColumns + first - column, false);
    });
    return numbers_;
  }

  // The same of a product with the weights' transpose.
  const T* transposed(const BackwardPlan<T>& plan, std::int64_t k, std::int64_t rows,
                      std::int64_t column, std::int64_t columns) {
    const Layer& layer = plan.layer;
    if (plan.matrix.numbers || layer.groups > 1) clear(rows);
    const Groups groups(layer, true, column, columns);
    each_stretch(groups, k, rows, [&](std::int64_t at, const Stretch& stretch) {
      const auto [first, count] = own(groups, stretch.group, column, columns);
      put_transposed(plan,
                     stretch.position * groups.columns + first - stretch.group * groups.columns,
                     count, stretch.group * groups.channels + stretch.channel, stretch.count,
                     numbers_ + at * kBlockColumns + first - column);
    });
    return numbers_;
  }

  // The gradient by the pre-activations: rows k, k + 1, ..., again for each of the groups, and then
  // with zeros in the columns of the others.
  const T* gradient(const BackwardPlan<T>& plan, std::int64_t k, std::int64_t rows,
                    std::int64_t column, std::int64_t columns) {
    const Signal<T>& gradient = plan.gradient;
    if (columns < kBlockColumns) clear(rows);
    if (plan.layer.groups == 1) {
      copy({gradient.x + k * gradient.stride + column, gradient.stride, 1}, rows, columns,
           plan.panel_scale, numbers_);
      return numbers_;
    }
    clear(rows);
    const Groups groups(plan.layer, false, column, columns);
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t row = (k + i) % plan.rows;
      const auto [first, count] = own(groups, groups.first + (k + i) / plan.rows, column, columns);
      copy({gradient.x + row * gradient.stride + first, gradient.stride, 1}, 1, count,
           plan.panel_scale, numbers_ + i * kBlockColumns + first - column);
    }
    return numbers_;
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

  // A block of a product that is never a whole matrix, and patches of an image.
  T* product() { return product_; }
  T* patches() { return patches_; }

 private:
  void clear(std::int64_t rows) { std::fill_n(numbers_, rows * kBlockColumns, T{0}); }

  // A group's own columns among some, which it may fill in part.
  static std::pair<std::int64_t, std::int64_t> own(const Groups& groups, std::int64_t group,
                                                   std::int64_t column, std::int64_t columns) {
    const std::int64_t first = std::max(column, group * groups.columns);
    return {first, std::min(column + columns, (group + 1) * groups.columns) - first};
  }

  // A rectangle of the weights.
  void put(const Plan<T>& plan, std::int64_t row, std::int64_t rows, std::int64_t column,
           std::int64_t columns, T* to, bool padded) {
    if (!plan.matrix.numbers) {
      kernels<T>().draw(plan.weight, Rectangle{row, rows, column, columns, 1}, to, kBlockColumns,
                        padded);
      return;
    }
    const std::int64_t width = plan.layer.width();
    copy({plan.matrix.numbers + row * width + column, width, 1}, rows, columns, plan.weight_scale,
         to);
  }
  void put_transposed(const BackwardPlan<T>& plan, std::int64_t row, std::int64_t rows,
                      std::int64_t column, std::int64_t columns, T* to) {
    if (!plan.matrix.numbers) {
      kernels<T>().draw_transposed(plan.weight, Rectangle{row, rows, column, columns, 1}, to,
                                   kBlockColumns);
      return;
    }
    const std::int64_t width = plan.layer.width();
    copy({plan.matrix.numbers + row * width + column, 1, width}, columns, rows, plan.weight_scale,
         to);
  }

  static void copy(const View<T>& from, std::int64_t rows, std::int64_t columns, T scale, T* to) {
    for (std::int64_t i = 0; i < rows; ++i, to += kBlockColumns) {
      const T* const x = from.data + i * from.row_stride;
      const std::ptrdiff_t step = from.column_stride;
      if (step == 1) {  // said apart, it becomes vectors
        for (std::int64_t j = 0; j < columns; ++j) to[j] = x[j] * scale;
      } else {
        for (std::int64_t j = 0; j < columns; ++j) to[j] = x[j * step] * scale;
      }
    }
  }

  // Columns beyond a narrow block are multiplied, too: any numbers do.
  alignas(64) T numbers_[kPanelRows<T> * kBlockColumns];
  alignas(64) T biases_[kBlockColumns];
  alignas(64) T product_[kProductRows * kBlockColumns];
  alignas(64) T patches_[kChunkRows * kPanelRows<T>];
};

}  // namespace varprop
