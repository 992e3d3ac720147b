// Count, mean and central power sums of a set of numbers: a value that can be merged.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/kernels.hpp"

namespace varprop {

struct Variance {
  double count = 0, mean = 0;
  double m2 = 0;  // sum of squares of x - mean

  bool finite() const { return std::isfinite(mean) && std::isfinite(m2); }

  // Merging in the manner of Chan, Golub, LeVeque (1979).
  void merge(const Variance& other) {
    if (other.count == 0) return;
    if (count == 0) {
      *this = other;
      return;
    }
    const double n = count + other.count, delta = other.mean - mean;
    const double step = delta * (other.count / n);
    m2 += other.m2 + delta * step * count;
    mean += step;
    count = n;
  }
};

// The same with third and fourth powers and the extremes.
struct Moments : Variance {
  double m3 = 0, m4 = 0;
  double minimum = std::numeric_limits<double>::infinity();
  double maximum = -std::numeric_limits<double>::infinity();

  // By Pebay (2008).
  void merge(const Moments& other) {
    if (other.count == 0) return;
    if (count == 0) {
      *this = other;
      return;
    }
    const double n = count + other.count, delta = other.mean - mean;
    const double a = count / n, b = other.count / n;
    const double shift = delta * (delta * b) * count;
    m4 += other.m4 + shift * delta * delta * (a * a - a * b + b * b) +
          6 * delta * delta * (a * a * other.m2 + b * b * m2) + 4 * delta * (a * other.m3 - b * m3);
    m3 += other.m3 + shift * delta * (a - b) + 3 * delta * (a * other.m2 - b * m2);
    Variance::merge(other);
    minimum = std::min(minimum, other.minimum);
    maximum = std::max(maximum, other.maximum);
  }
};

// The sum of so many lanes: each half added to the other, until one is left.
template <int count>
inline double total(const double (&lanes)[count]) {
  if constexpr (count == 1) {
    return lanes[0];
  } else {
    double sums[count / 2];  // each size its own: they become registers
    for (int i = 0; i < count / 2; ++i) sums[i] = lanes[i] + lanes[i + count / 2];
    return total(sums);
  }
}

// A sum of squares past the range of double is infinite, whatever is taken off it.
inline double central(double squares, double mean_part) {
  return std::isinf(squares) ? squares : std::max(squares - mean_part, 0.0);
}

// From sums of d = x - pivot over `count` numbers.
inline Variance from_sums(double count, double pivot, const Lanes& lanes) {
  Variance result;
  result.count = count;
  const double mean = total(lanes.sum) / count;
  result.mean = pivot + mean;
  result.m2 = central(total(lanes.square), count * mean * mean);
  return result;
}

inline Moments from_sums(double count, double pivot, const PowerLanes& lanes) {
  Moments result;
  result.count = count;
  const double mean = total(lanes.sum[0]) / count;
  const double s2 = total(lanes.sum[1]), s3 = total(lanes.sum[2]), s4 = total(lanes.sum[3]);
  result.mean = pivot + mean;
  result.m2 = central(s2, count * mean * mean);
  result.m3 = s3 - 3 * mean * s2 + 2 * count * mean * mean * mean;
  result.m4 = std::max(
      s4 - 4 * mean * s3 + 6 * mean * mean * s2 - 3 * count * mean * mean * mean * mean, 0.0);
  result.minimum = *std::min_element(lanes.minimum, lanes.minimum + kLanes);
  result.maximum = *std::max_element(lanes.maximum, lanes.maximum + kLanes);
  return result;
}

inline PowerLanes empty_power_lanes() {
  PowerLanes lanes{};
  std::fill_n(lanes.minimum, kLanes, std::numeric_limits<double>::infinity());
  std::fill_n(lanes.maximum, kLanes, -std::numeric_limits<double>::infinity());
  return lanes;
}

}  // namespace varprop
