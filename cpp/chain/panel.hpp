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

  // Of a layer with a group for each channel: a row of weights for each position of the window.
  template <class AnyPlan>
  const T* of_channels(const AnyPlan& plan, std::int64_t column, std::int64_t columns) {
    const std::int64_t rows = plan.layer.window.positions();
    if (plan.matrix.numbers) clear(rows);
    put(plan, 0, rows, column, columns, numbers_, true);
    return numbers_;
  }

  // The gradient by the pre-activations: rows k, k + 1, ..., again for each of the groups, and then
  // with zeros in the columns of the others.
  const T* gradient(const BackwardPlan<T>& plan, std::int64_t k, std::int64_t rows,
                    std::int64_t column, std::int64_t columns) {
    const Signal<T>& gradient = plan.gradient;
    if (columns < kBlockColumns || plan.layer.groups > 1) clear(rows);
    if (plan.layer.groups == 1) {
      copy({gradient.x + k * gradient.stride + column, gradient.stride, 1}, rows, columns,
           plan.panel_scale, numbers_);
      return numbers_;
    }
    const Groups groups(plan.layer, false, column, columns);
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t row = (k + i) % plan.rows;
      const auto [first, count] = own(groups, groups.first + (k + i) / plan.rows, column, columns);
      copy({gradient.x + row * gradient.stride + first, gradient.stride, 1}, 1, count,
           plan.panel_scale, numbers_ + i * kBlockColumns + first - column);
    }
    return numbers_;
  }

  // Few columns of it, all of them, next to each other.
  const T* gradient_columns(const BackwardPlan<T>& plan, std::int64_t k, std::int64_t rows) {
    const Signal<T>& gradient = plan.gradient;
    const std::int64_t width = plan.layer.width();
    T* to = patches_;
    for (std::int64_t i = k; i < k + rows; ++i, to += width) {
      const T* const from = gradient.x + i * gradient.stride;
      for (std::int64_t j = 0; j < width; ++j) to[j] = from[j] * plan.panel_scale;
    }
    return patches_;
  }

  // Rows k, k + 1, ... of an image's patches, some of their terms.
  const T* patches(const Layer& layer, const Groups& groups, const Signal<T>& from, std::int64_t k,
                   std::int64_t rows, std::int64_t term, std::int64_t terms) {
    gather(layer, groups, false, from, k, rows, term, terms, numbers_, kBlockColumns, seen_);
    return numbers_;
  }

  // Null for a layer without biases.
  const T* biases(const Plan<T>& plan, std::int64_t column, std::int64_t columns) {
    return biases(plan, column, columns, biases_);
  }

  // All weights of a layer of one group, block of columns after block; then its biases.
  static bool holds(const Layer& layer) {
    return (layer.fan_in() + 1) * divide_up(layer.width(), kBlockColumns) <= kPanelRows<T>;
  }
  struct Whole {
    const T *weights, *biases;  // of each block, rows of kBlockColumns; no biases: null
  };
  Whole whole(const Plan<T>& plan) {
    const Layer& layer = plan.layer;
    const std::int64_t depth = layer.fan_in();
    if (plan.matrix.numbers) clear(plan.blocks * depth);
    T* const after = numbers_ + plan.blocks * depth * kBlockColumns;
    const T* first = nullptr;
    for (std::int64_t block = plan.blocks; block-- > 0;) {
      const std::int64_t column = block * kBlockColumns;
      const std::int64_t columns = std::min<std::int64_t>(kBlockColumns, layer.width() - column);
      put(plan, 0, depth, column, columns, numbers_ + block * depth * kBlockColumns, true);
      first = biases(plan, column, columns, after + column);
    }
    return {numbers_, first};
  }

  // The weights of a layer of one group and of few columns: column after column, each position of
  // the window padded to whole lanes; then one more position, of zeros.
  static bool holds_columns(const Layer& layer) {
    const std::int64_t positions = layer.window.positions();
    return positions <= kMostRuns &&
           (layer.width() * positions + 1) * padded(layer) <= kPanelRows<T> * kBlockColumns;
  }
  struct Columns {
    const T* weights;
    std::int64_t stride;  // from a column to the next
    const T* zeros;
  };
  Columns columns(const Plan<T>& plan) {
    const Layer& layer = plan.layer;
    const std::int64_t channels = layer.in.channels, width = layer.width();
    const std::int64_t stride = layer.window.positions() * padded(layer);
    std::fill_n(numbers_, width * stride + padded(layer), T{0});
    for (std::int64_t position = 0; position < layer.window.positions(); ++position) {
      T* const to = numbers_ + position * padded(layer);
      const std::int64_t row = position * channels;
      if (!plan.matrix.numbers) {
        kernels<T>().draw_transposed(plan.weight, Rectangle{row, channels, 0, width, 1}, to,
                                     stride);
        continue;
      }
      const T* const from = plan.matrix.numbers + row * width;
      for (std::int64_t j = 0; j < width; ++j) {
        for (std::int64_t i = 0; i < channels; ++i) {
          to[j * stride + i] = from[i * width + j] * plan.weight_scale;
        }
      }
    }
    return {numbers_, stride, numbers_ + width * stride};
  }

  // Where the second factor is made, rows of kBlockColumns; a block of a product that is never a
  // whole matrix; and patches of an image.
  T* numbers() { return numbers_; }
  T* product() { return product_; }
  T* patches() { return patches_; }
  const T** seen() { return seen_; }

 private:
  static std::int64_t padded(const Layer& layer) {
    return divide_up(layer.in.channels, kLanes) * kLanes;
  }
  static const T* biases(const Plan<T>& plan, std::int64_t column, std::int64_t columns, T* to) {
    const Tensor& bias = plan.layer.bias;
    if (bias.source == Tensor::Source::absent) return nullptr;
    std::fill_n(to, kBlockColumns, T{0});
    if (bias.source == Tensor::Source::given) {
      const T* const from = static_cast<const T*>(bias.given) + column;
      for (std::int64_t j = 0; j < columns; ++j) to[j] = from[j] * plan.bias_scale;
    } else {
      kernels<T>().draw_transposed(plan.bias, Rectangle{column, columns, 0, 1, 1}, to,
                                   kBlockColumns);
    }
    return to;
  }
  void clear(std::int64_t rows) { std::fill_n(numbers_, rows * kBlockColumns, T{0}); }

  // A group's own columns among some, which it may fill in part.
  static std::pair<std::int64_t, std::int64_t> own(const Groups& groups, std::int64_t group,
                                                   std::int64_t column, std::int64_t columns) {
    const std::int64_t first = std::max(column, group * groups.columns);
    return {first, std::min(column + columns, (group + 1) * groups.columns) - first};
  }

  // A rectangle of the weights.
  template <class AnyPlan>
  void put(const AnyPlan& plan, std::int64_t row, std::int64_t rows, std::int64_t column,
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
  const T* seen_[kMostRuns * kChunkRows];
  static_assert(kMostRuns * kChunkRows >= kPanelRows<T>);
};

}  // namespace varprop
