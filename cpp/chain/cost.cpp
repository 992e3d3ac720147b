#include "chain/cost.hpp"

#include <algorithm>
#include <cmath>

namespace varprop {
namespace {

using Loss = Cost::Loss;

constexpr Draw kUniform{.distribution = Draw::Distribution::uniform, .low = -1, .high = 1};

}  // namespace

template <class T>
CostGradient<T>::CostGradient(const Worker<T>& worker, const Signal<T>& x)
    : worker_(worker),
      cost_(*worker.job.cost),
      x_(x),
      width_(worker.job.network.layers.back().width()) {
  const std::int64_t rows = worker.job.batch * worker.job.network.layers.back().out.positions();
  const auto batch = static_cast<double>(rows), width = static_cast<double>(width_);
  double factor = 1;
  if (cost_.loss == Loss::mse) factor = 2 / (batch * width);
  if (cost_.loss == Loss::softmax_cross_entropy) factor = 1 / batch;
  if (cost_.loss == Loss::bce) factor = 1 / (batch * width);
  factor_ = static_cast<T>(std::frexp(factor, &exponent_));
  if (cost_.loss == Loss::mse) exponent_ += std::max(x.exponent, 0);
}

template <class T>
void CostGradient<T>::write(std::int64_t row, std::int64_t rows, T* out,
                            std::int64_t stride) const {
  switch (cost_.loss) {
    case Loss::gaussian:
      worker_.draw_normals(cost_.key, row, rows, width_, out, stride);
      break;
    case Loss::mse:
    case Loss::bce:
      subtract_targets(row, rows, out, stride);
      break;
    case Loss::softmax_cross_entropy:
      softmax(row, rows, out, stride);
      break;
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < width_; ++j) out[i * stride + j] *= factor_;
  }
}

// x - t, for large x in its own scale.
template <class T>
void CostGradient<T>::subtract_targets(std::int64_t row, std::int64_t rows, T* out,
                                       std::int64_t stride) const {
  const T* targets = out;
  std::int64_t between = stride;
  if (cost_.targets) {
    targets = static_cast<const T*>(cost_.targets) + row * width_;
    between = width_;
  } else {
    draw_targets(row, rows, out, stride);
  }
  const T shrink = std::ldexp(T{1}, -std::max(x_.exponent, 0));
  const T grow = std::ldexp(T{1}, std::min(x_.exponent, 0));
  for (std::int64_t i = 0; i < rows; ++i) {
    const T* const x = x_.x + (row + i) * x_.stride;
    for (std::int64_t j = 0; j < width_; ++j) {
      out[i * stride + j] = x[j] * grow - targets[i * between + j] * shrink;
    }
  }
}

template <class T>
void CostGradient<T>::draw_targets(std::int64_t row, std::int64_t rows, T* out,
                                   std::int64_t stride) const {
  if (cost_.loss == Loss::mse)
    return worker_.draw_normals(cost_.key, row, rows, width_, out, stride);
  const auto recipe = make_recipe<T>(kUniform, cost_.key, worker_.trial_number());
  worker_.kernel.draw(recipe, Rectangle{row, rows, 0, width_, 1}, out, stride, true);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < width_; ++j) {
      out[i * stride + j] = static_cast<T>(out[i * stride + j] > 0);
    }
  }
}

// The softmax of x, less the targets.
template <class T>
void CostGradient<T>::softmax(std::int64_t row, std::int64_t rows, T* out,
                              std::int64_t stride) const {
  constexpr int kFar = 100;  // differences times 2^100 are zero or past the range of exp
  for (std::int64_t i = 0; i < rows; ++i) {
    std::copy_n(x_.x + (row + i) * x_.stride, width_, out + i * stride);
  }
  worker_.kernel.softmax({out, stride, static_cast<int>(rows), static_cast<int>(width_)},
                         std::ldexp(T{1}, std::clamp(x_.exponent, -kFar, kFar)));
  if (const T* const targets = static_cast<const T*>(cost_.targets)) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const T* const t = targets + (row + i) * width_;
      T* const to = out + i * stride;
      double sum = 0;
      for (std::int64_t j = 0; j < width_; ++j) sum += static_cast<double>(t[j]);
      for (std::int64_t j = 0; j < width_; ++j) to[j] = to[j] * static_cast<T>(sum) - t[j];
    }
    return;
  }
  T uniforms[kChunkRows];
  if (!cost_.labels) {
    const auto recipe = make_recipe<T>(kUniform, cost_.key, worker_.trial_number());
    worker_.kernel.draw_transposed(recipe, Rectangle{row, rows, 0, 1, 1}, uniforms, kChunkRows);
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    const double share = (static_cast<double>(uniforms[i]) + 1) / 2;
    const std::int64_t label =
        cost_.labels
            ? cost_.labels[row + i]
            : std::min(static_cast<std::int64_t>(share * static_cast<double>(width_)), width_ - 1);
    out[i * stride + label] -= 1;
  }
}

template class CostGradient<float>;
template class CostGradient<double>;

}  // namespace varprop
