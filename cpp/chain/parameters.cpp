// The gradient of the cost by weights and biases.
#include <algorithm>

#include "chain/backward.hpp"

namespace varprop {
namespace {

// A matrix of one row of ones, of any length: a product with it sums columns.
template <class T>
View<T> ones() {
  static constexpr T one = 1;
  return {&one, 0, 0};
}

}  // namespace

// What is seen of some rows of the gradient by the weights.
template <class T>
struct Backward<T>::Rows {
  Observer<T> observer;
  Taken& taken;
  int exponent;
  double* whole;  // where the first number goes, if anybody wants it
  std::int64_t row_step, column_step;

  void add(std::int64_t row, const Tile<T>& product) {
    observer.add(product);
    if (whole) Worker<T>::copy(product, exponent, whole + row * row_step, row_step, column_step);
  }
  void done() const { taken.merge(observer.taken()); }
};

// A group of rows of the gradient by the weights in a block of columns, and with the first group
// the gradient by the biases.
template <class T>
void Backward<T>::multiply_parameters(const BackwardPlan<T>& plan, std::int64_t l,
                                      std::int64_t block, std::int64_t group) {
  const Layer& layer = plan.layer;
  if (narrow(layer)) return multiply_narrow_parameters(plan, l, group);
  const std::int64_t row = group * kProductRows;
  const std::int64_t rows = std::min<std::int64_t>(kProductRows, layer.fan_in() - row);
  Panel<T>& panel = worker_.panel;
  const std::int64_t column = block * kBlockColumns;
  const auto columns =
      static_cast<int>(std::min<std::int64_t>(kBlockColumns, layer.width() - column));
  const Tile<T> product{panel.product(), kBlockColumns, 0, columns};
  alignas(64) T sums[kBlockColumns];
  const Tile<T> bias{sums, kBlockColumns, 1, columns};
  Taken taken;
  double* const first = Whole::of(worker_.results.whole.weight_gradients, l);
  double* const whole = first ? first + row * layer.width() + column : nullptr;
  const Groups groups(layer, false, column, columns);
  worker_.multiply(
      [&](std::int64_t i, std::int64_t height, std::int64_t k, std::int64_t count) -> View<T> {
        if (layer.kind == Layer::Kind::dense) {
          return {plan.in.x + k * plan.in.stride + row + i, 1, plan.in.stride};
        }
        for (std::int64_t j = 0; j < count;) {  // the rows again for each of the groups
          const std::int64_t at = (k + j) % plan.rows, run = std::min(count - j, plan.rows - at);
          gather(layer, groups, false, plan.in, at, run,
                 (k + j) / plan.rows * groups.terms() + row + i, height,
                 panel.patches() + j * height, height, panel.seen());
          j += run;
        }
        return {panel.patches(), 1, height};
      },
      plan.rows* groups.count, nullptr, product, rows, 0, divide_up(rows, kChunkRows),
      [&](std::int64_t k, std::int64_t count) {
        const T* const part = panel.gradient(plan, k, count, column, columns);
        if (group == 0) {
          worker_.kernel.multiply(ones<T>(), part, kBlockColumns, static_cast<int>(count), k == 0,
                                  nullptr, bias);
        }
        return part;
      },
      [&](std::int64_t) {
        return Rows{{job_.wanted, plan.weight_moment_scale, worker_.histograms[1]},
                    taken,
                    plan.weight_exponent,
                    whole,
                    layer.width(),
                    1};
      });
  const std::int64_t pieces = divide_up(layer.fan_in(), kProductRows);
  shared_.chunks[1][worker_.member.parity()].put(block * pieces + group, taken);
  if (group == 0) look_at_biases(plan, l, block, bias);
}

// What is seen of the gradient by the biases of a block.
template <class T>
void Backward<T>::look_at_biases(const BackwardPlan<T>& plan, std::int64_t l, std::int64_t block,
                                 const Tile<T>& bias) {
  Observer<T> observer(job_.wanted, plan.bias_moment_scale, worker_.histograms[2]);
  observer.add(bias);
  shared_.biases[worker_.member.parity()].put(block, observer.taken());
  if (double* const whole = Whole::of(worker_.results.whole.bias_gradients, l)) {
    worker_.copy(bias, plan.bias_exponent, whole + block * kBlockColumns, 0);
  }
}

// The gradient by the weights where there are few columns: they become the rows of the product.
template <class T>
void Backward<T>::multiply_narrow_parameters(const BackwardPlan<T>& plan, std::int64_t l,
                                             std::int64_t group) {
  const Layer& layer = plan.layer;
  const std::int64_t width = layer.width();
  const std::int64_t end = std::min(layer.fan_in(), (group + 1) * kProductRows);
  Panel<T>& panel = worker_.panel;
  const Groups groups(layer, false, 0, width);
  Taken taken;
  double* const first = Whole::of(worker_.results.whole.weight_gradients, l);
  for (std::int64_t term = group * kProductRows; term < end; term += kBlockColumns) {
    const std::int64_t columns = std::min<std::int64_t>(kBlockColumns, end - term);
    const Tile<T> product{panel.product(), kBlockColumns, 0, static_cast<int>(columns)};
    worker_.multiply(
        [&](std::int64_t, std::int64_t, std::int64_t k, std::int64_t count) -> View<T> {
          return {panel.gradient_columns(plan, k, count), 1, width};
        },
        plan.rows, nullptr, product, width, 0, 1,
        [&](std::int64_t k, std::int64_t count) {
          return panel.patches(layer, groups, plan.in, k, count, term, columns);
        },
        [&](std::int64_t) {
          return Rows{{job_.wanted, plan.weight_moment_scale, worker_.histograms[1]},
                      taken,
                      plan.weight_exponent,
                      first ? first + term * width : nullptr,
                      1,
                      width};
        });
  }
  shared_.chunks[1][worker_.member.parity()].put(group, taken);
  if (group == 0) sum_biases(plan, l, 0);
}

// The gradient by the biases of a block of columns.
template <class T>
void Backward<T>::sum_biases(const BackwardPlan<T>& plan, std::int64_t l, std::int64_t block) {
  const std::int64_t column = block * kBlockColumns;
  const auto columns =
      static_cast<int>(std::min<std::int64_t>(kBlockColumns, plan.layer.width() - column));
  alignas(64) T sums[kBlockColumns];
  const Tile<T> bias{sums, kBlockColumns, 1, columns};
  for (std::int64_t k = 0; k < plan.rows; k += kPanelRows<T>) {
    const std::int64_t count = std::min<std::int64_t>(kPanelRows<T>, plan.rows - k);
    const T* const part = worker_.panel.gradient(plan, k, count, column, columns);
    worker_.kernel.multiply(ones<T>(), part, kBlockColumns, static_cast<int>(count), k == 0,
                            nullptr, bias);
  }
  look_at_biases(plan, l, block, bias);
}

template <class T>
void Backward<T>::record_parameters(const BackwardPlan<T>& plan, std::int64_t l,
                                    std::size_t parity) {
  const Layer& layer = plan.layer;
  const std::int64_t blocks = divide_up(layer.width(), kBlockColumns);
  const auto write = [&](const Observed& to, std::int64_t place, std::int64_t of, Taken taken,
                         int exponent) {
    if (!taken.moments.finite()) {
      taken = unknown();
      worker_.out_of_range(l);
    }
    worker_.record(to, place, of, taken, exponent);
  };
  const auto at = static_cast<std::size_t>(l);
  if (program_.weight[at] >= 0 && job_.implicit) record_implied(plan, l);
  if (program_.weight[at] >= 0 && !job_.implicit) {
    const std::int64_t pieces = blocks * divide_up(layer.fan_in(), kProductRows);
    write(worker_.results.weight_gradients, program_.weight[at], program_.weights,
          shared_.chunks[1][parity].merged(pieces), plan.weight_exponent + plan.weight_unit);
  }
  if (program_.bias[at] >= 0) {
    write(worker_.results.bias_gradients, program_.bias[at], program_.biases,
          shared_.biases[parity].merged(blocks), plan.bias_exponent + plan.bias_unit);
  }
  worker_.control.step_done();
}

#define INSTANTIATE(T)                                                                        \
  template void Backward<T>::multiply_parameters(const BackwardPlan<T>&, std::int64_t,        \
                                                 std::int64_t, std::int64_t);                 \
  template void Backward<T>::sum_biases(const BackwardPlan<T>&, std::int64_t, std::int64_t);  \
  template void Backward<T>::multiply_narrow_parameters(const BackwardPlan<T>&, std::int64_t, \
                                                        std::int64_t);                        \
  template void Backward<T>::record_parameters(const BackwardPlan<T>&, std::int64_t, std::size_t);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace varprop
