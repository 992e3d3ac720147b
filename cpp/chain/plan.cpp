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

// The exponent that brings a signal near 1, as far as the largest factor in that scale stays well
// inside the range of T; what is left over is a unit for the moments.
struct Fold {
  int exponent, unit;
};

template <class T>
Fold fold(const Size& signal, const Size& factor) {
  const int near_one = exponent_of(signal), in_scale = exponent_of(factor) - near_one;
  const int excess = in_scale - std::clamp(in_scale, -kRange<T> / 2, kRange<T> / 2);
  return {near_one + excess, -excess};
}

template <class T>
int clamped_exponent_of(double size) {
  return std::clamp(exponent_of(size), -kRange<T>, kRange<T>);
}

// How much a layer multiplies what enters: the root mean square of its weights, or a number.
template <class T>
double factor_of(const Layer& layer, const Matrix<T>& matrix) {
  if (!layer.has_weight()) return std::abs(layer.multiplier());
  return matrix.numbers ? matrix.rms : layer.weight.rms;
}

// Zeros are zeros in any scale: in that of what is added to them.
template <class T>
Signal<T> scaled_with(Signal<T> signal, int exponent) {
  if (signal.rms == 0) signal.exponent = exponent;
  return signal;
}

// The exponent of what a normalization makes of a signal of mean square s^2: s / sqrt(s^2 + eps).
int normalized_exponent(const Size& signal, double eps) {
  if (signal.rms == 0 || eps == 0) return 0;
  const int eps_exponent = exponent_of(std::sqrt(eps));
  return std::min(0, exponent_of(signal) - eps_exponent);
}

}  // namespace

int exponent_of(const Size& size) { return exponent_of(size.rms) + size.exponent; }

Size operator*(double factor, const Size& size) { return {factor * size.rms, size.exponent}; }

Size operator+(const Size& a, const Size& b) {
  if (b.rms == 0) return a;
  if (a.rms == 0) return b;
  const int exponent = std::max(a.exponent, b.exponent);
  return {std::hypot(std::ldexp(a.rms, a.exponent - exponent),
                     std::ldexp(b.rms, b.exponent - exponent)),
          exponent};
}

template <class T>
Plan<T> make_plan(const Layer& layer, const Signal<T>& entered, const Signal<T>& skipped,
                  const Matrix<T>& matrix, std::int64_t batch, std::uint64_t trial) {
  const Signal<T> in = scaled_with(entered, skipped.exponent);
  const Signal<T> skip = scaled_with(skipped, in.exponent);
  Plan<T> plan{.layer = layer,
               .in = in,
               .skip = skip,
               .matrix = matrix,
               .rows = batch * layer.out.positions(),
               .blocks = divide_up(layer.width(), kBlockColumns),
               .row_chunks = divide_up(batch * layer.out.positions(), kChunkRows)};
  if (layer.normalizes() || layer.kind == Layer::Kind::dropout) {
    plan.exponent = plan.act_exponent = in.exponent;
    plan.pre_unit = plan.act_unit = clamped_exponent_of<T>(in.rms);
    if (layer.normalizes()) {
      plan.act_exponent = normalized_exponent(in.size(), layer.factor);
      plan.act_unit = 0;
    }
  } else {
    const double factor = factor_of(layer, matrix);
    const double sum = layer.has_weight() ? std::sqrt(static_cast<double>(layer.fan_in())) : 1;
    const Size beside = std::abs(layer.skip_scale) * skip.size();
    const Size out = sum * factor * in.size() + Size{layer.bias.rms} + beside;
    if (layer.homogeneous) {
      // The output may have any scale: about 1 is best. The next layer can do what is left.
      const Fold near_one =
          fold<T>(out, Size{factor, in.exponent} + Size{std::abs(layer.skip_scale), skip.exponent});
      plan.exponent = near_one.exponent;
      plan.pre_unit = plan.act_unit = near_one.unit;
    } else {
      const double rms = std::ldexp(out.rms, out.exponent);
      plan.pre_unit = clamped_exponent_of<T>(rms);
      plan.act_unit =
          std::clamp(activation_exponent<T>(layer, plan.pre_unit), -kRange<T>, kRange<T>);
      plan.underflow = out.rms > 0 && rms < std::numeric_limits<T>::min();
    }
    plan.act_exponent = plan.exponent;
  }
  plan.pre_scale = std::ldexp(T{1}, -plan.pre_unit);
  plan.act_scale = std::ldexp(T{1}, -plan.act_unit);
  const int shift = in.exponent - plan.exponent;
  plan.weight = make_recipe<T>(layer.weight.draw, layer.weight.key, trial, shift);
  plan.bias = make_recipe<T>(layer.bias.draw, layer.bias.key, trial, -plan.exponent);
  plan.weight_scale = std::ldexp(T{1}, shift);
  plan.bias_scale = std::ldexp(T{1}, -plan.exponent);
  plan.factor = static_cast<T>(std::ldexp(layer.multiplier(), shift));
  plan.skip_factor = static_cast<T>(std::ldexp(layer.skip_scale, skip.exponent - plan.exponent));
  return plan;
}

template <class T>
BackwardPlan<T> make_backward_plan(const Layer& layer, const Signal<T>& arriving,
                                   const Signal<T>& in, const Matrix<T>& matrix, const Size& beside,
                                   std::int64_t batch, std::uint64_t trial) {
  const Signal<T> gradient = scaled_with(arriving, beside.exponent);
  const std::int64_t rows = batch * layer.out.positions();
  BackwardPlan<T> plan{
      .layer = layer, .gradient = gradient, .in = in, .matrix = matrix, .rows = rows};
  const double factor = factor_of(layer, matrix);
  const double terms = static_cast<double>(layer.window.positions() * layer.width()) /
                       static_cast<double>(layer.groups);
  const double sum = layer.has_weight() ? std::sqrt(terms) : 1;
  // Beside what comes by skips the gradient may be too small to matter.
  const Fold back =
      fold<T>(sum * factor * gradient.size() + beside, Size{factor, gradient.exponent} + beside);
  const int shift = gradient.exponent - back.exponent;
  plan.weight = make_recipe<T>(layer.weight.draw, layer.weight.key, trial, shift);
  plan.weight_scale = std::ldexp(T{1}, shift);
  plan.factor = static_cast<T>(std::ldexp(layer.multiplier(), shift));
  plan.exponent = back.exponent;
  plan.unit = back.unit;
  plan.scale = std::ldexp(T{1}, -plan.unit);

  const double column = gradient.rms * std::sqrt(static_cast<double>(rows));
  const Fold aside = fold<T>({column * in.rms, 0}, {gradient.rms, 0});
  plan.panel_scale = std::ldexp(T{1}, -aside.exponent);
  plan.weight_unit = aside.unit;
  plan.bias_unit = clamped_exponent_of<T>(std::ldexp(column, -aside.exponent));
  plan.weight_moment_scale = std::ldexp(T{1}, -plan.weight_unit);
  plan.bias_moment_scale = std::ldexp(T{1}, -plan.bias_unit);
  plan.bias_exponent = gradient.exponent + aside.exponent;
  plan.weight_exponent = plan.bias_exponent + in.exponent;
  return plan;
}

template Plan<float> make_plan(const Layer&, const Signal<float>&, const Signal<float>&,
                               const Matrix<float>&, std::int64_t, std::uint64_t);
template Plan<double> make_plan(const Layer&, const Signal<double>&, const Signal<double>&,
                                const Matrix<double>&, std::int64_t, std::uint64_t);
template BackwardPlan<float> make_backward_plan(const Layer&, const Signal<float>&,
                                                const Signal<float>&, const Matrix<float>&,
                                                const Size&, std::int64_t, std::uint64_t);
template BackwardPlan<double> make_backward_plan(const Layer&, const Signal<double>&,
                                                 const Signal<double>&, const Matrix<double>&,
                                                 const Size&, std::int64_t, std::uint64_t);

}  // namespace varprop
