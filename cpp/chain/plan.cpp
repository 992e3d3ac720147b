#include "chain/plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "isa.hpp"

namespace varprop {
int exponent_of(double size) {
  if (!(size > 0) || !std::isfinite(size)) return 0;
  int exponent;
  const double mantissa = std::frexp(size, &exponent);
  return mantissa < 0.70710678118654752 ? exponent - 1 : exponent;
}

namespace {

// The power of two of the activation's size where the pre-activations have size 2^exponent.
template <class T>
int activation_exponent(const Layer& layer, int exponent) {
  alignas(64) T probes[kLanes] = {};
  for (int i = 0; i < 4; ++i) {
    probes[2 * i] = std::ldexp(T{1}, exponent + i - 2);
    probes[2 * i + 1] = -probes[2 * i];
  }
  kernels<T>().activate(layer.activation, static_cast<T>(layer.parameter),
                        {probes, kLanes, 1, kLanes});
  double size = 0;
  for (T probe : probes) size = std::max(size, static_cast<double>(std::abs(probe)));
  return exponent_of(size);
}

template <class T>
constexpr int kRange = std::numeric_limits<T>::max_exponent - 8;

// A product brought near 1 by a power of two that goes into its second factor, as far as that one
// stays well inside the range of T; what is left over is a unit for the moments.
struct Fold {
  int shift, unit;
};

template <class T>
Fold fold(double product_rms, double factor_rms) {
  const int factor = exponent_of(factor_rms) - exponent_of(product_rms);
  const int excess = factor - std::clamp(factor, -kRange<T> / 2, kRange<T> / 2);
  return {-exponent_of(product_rms) - excess, -excess};
}

template <class T>
int clamped_exponent_of(double size) {
  return std::clamp(exponent_of(size), -kRange<T>, kRange<T>);
}

}  // namespace

template <class T>
Plan<T> make_plan(const Layer& layer, const Signal<T>& in, const Matrix<T>& matrix,
                  std::int64_t batch, std::uint64_t trial) {
  const double weight_rms = matrix.numbers ? matrix.rms : layer.weight.rms;
  const double product = weight_rms * std::sqrt(static_cast<double>(layer.fan_in)) * in.rms;
  const double predicted = std::hypot(product, std::ldexp(layer.bias.rms, -in.exponent));
  const double predicted_true = std::ldexp(predicted, in.exponent);
  Plan<T> plan{.layer = layer,
               .in = in,
               .matrix = matrix,
               .blocks = divide_up(layer.width, kBlockColumns),
               .row_chunks = divide_up(batch, kChunkRows),
               .linear = layer.activation == 0};
  if (layer.homogeneous) {
    // The output may have any scale: about 1 is best. The next layer can do what is left.
    const Fold near_one = fold<T>(predicted, weight_rms);
    plan.exponent = in.exponent - near_one.shift;
    plan.pre_unit = plan.act_unit = near_one.unit;
  } else {
    plan.pre_unit = clamped_exponent_of<T>(predicted_true);
    plan.act_unit = std::clamp(activation_exponent<T>(layer, plan.pre_unit), -kRange<T>, kRange<T>);
    plan.underflow = predicted > 0 && predicted_true < std::numeric_limits<T>::min();
  }
  plan.pre_scale = std::ldexp(T{1}, -plan.pre_unit);
  plan.act_scale = std::ldexp(T{1}, -plan.act_unit);
  const int shift = in.exponent - plan.exponent;
  plan.weight = make_recipe<T>(layer.weight.draw, layer.weight.key, trial, shift);
  plan.bias = make_recipe<T>(layer.bias.draw, layer.bias.key, trial, -plan.exponent);
  plan.weight_scale = std::ldexp(T{1}, shift);
  plan.bias_scale = std::ldexp(T{1}, -plan.exponent);
  return plan;
}

template <class T>
BackwardPlan<T> make_backward_plan(const Layer& layer, const Signal<T>& gradient,
                                   const Signal<T>& in, const Matrix<T>& matrix, std::int64_t batch,
                                   std::uint64_t trial) {
  BackwardPlan<T> plan{.layer = layer, .gradient = gradient, .in = in, .matrix = matrix};
  const double weight_rms = matrix.numbers ? matrix.rms : layer.weight.rms;
  const double width = static_cast<double>(layer.width), rows = static_cast<double>(batch);
  const Fold back = fold<T>(gradient.rms * weight_rms * std::sqrt(width), weight_rms);
  plan.weight = make_recipe<T>(layer.weight.draw, layer.weight.key, trial, back.shift);
  plan.weight_scale = std::ldexp(T{1}, back.shift);
  plan.exponent = gradient.exponent - back.shift;
  plan.unit = back.unit;
  plan.scale = std::ldexp(T{1}, -plan.unit);

  const double sum = gradient.rms * std::sqrt(rows);
  const Fold aside = fold<T>(sum * in.rms, gradient.rms);
  plan.panel_scale = std::ldexp(T{1}, aside.shift);
  plan.weight_unit = aside.unit;
  plan.bias_unit = clamped_exponent_of<T>(std::ldexp(sum, aside.shift));
  plan.weight_moment_scale = std::ldexp(T{1}, -plan.weight_unit);
  plan.bias_moment_scale = std::ldexp(T{1}, -plan.bias_unit);
  plan.bias_exponent = gradient.exponent - aside.shift;
  plan.weight_exponent = plan.bias_exponent + in.exponent;
  return plan;
}

template Plan<float> make_plan(const Layer&, const Signal<float>&, const Matrix<float>&,
                               std::int64_t, std::uint64_t);
template Plan<double> make_plan(const Layer&, const Signal<double>&, const Matrix<double>&,
                                std::int64_t, std::uint64_t);
template BackwardPlan<float> make_backward_plan(const Layer&, const Signal<float>&,
                                                const Signal<float>&, const Matrix<float>&,
                                                std::int64_t, std::uint64_t);
template BackwardPlan<double> make_backward_plan(const Layer&, const Signal<double>&,
                                                 const Signal<double>&, const Matrix<double>&,
                                                 std::int64_t, std::uint64_t);

}  // namespace varprop
