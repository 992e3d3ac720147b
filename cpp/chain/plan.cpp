#include "chain/plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "isa.hpp"

namespace varprop {
namespace {

// The power of two nearest to a size; 0 where there is none to speak of.
int exponent_of(double size) {
  if (!(size > 0) || !std::isfinite(size)) return 0;
  int exponent;
  const double mantissa = std::frexp(size, &exponent);
  return mantissa < 0.70710678118654752 ? exponent - 1 : exponent;
}

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
  constexpr int kRange = std::numeric_limits<T>::max_exponent - 8;
  if (layer.homogeneous) {
    // The output may have any scale: about 1 is best, as far as the weights, which are drawn at the
    // scale that makes it so, stay well inside the range of T. The next layer can do the rest.
    const int scaled = exponent_of(weight_rms) - exponent_of(predicted);
    const int excess = scaled - std::clamp(scaled, -kRange / 2, kRange / 2);
    plan.exponent = in.exponent + exponent_of(predicted) + excess;
    plan.pre_unit = plan.act_unit = -excess;
  } else {
    plan.pre_unit = std::clamp(exponent_of(predicted_true), -kRange, kRange);
    plan.act_unit = std::clamp(activation_exponent<T>(layer, plan.pre_unit), -kRange, kRange);
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

template Plan<float> make_plan(const Layer&, const Signal<float>&, const Matrix<float>&,
                               std::int64_t, std::uint64_t);
template Plan<double> make_plan(const Layer&, const Signal<double>&, const Matrix<double>&,
                                std::int64_t, std::uint64_t);

}  // namespace varprop
