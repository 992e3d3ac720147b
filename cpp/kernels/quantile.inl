// The normal quantile in double, for truncations other than the usual one.
#pragma once

#include "coefficients.inl"
#include "vec.hpp"

namespace {

// -2 ln(u) for u in (0, 1); `rest` is u - 1 to full precision where u is at least sqrt(1/2).
template <class T>
inline Vec<T> minus_two_log(Vec<T> u, Vec<T> rest) {
  constexpr int mantissa = Format<T>::kMantissa;
  const auto& coefficients = []() -> auto& {
    if constexpr (sizeof(T) == 4) {
      return kNormalLogF32;
    } else {
      return kNormalLogF64;
    }
  }();
  // u = 2^e (1 + g) with 1 + g in [sqrt(1/2), sqrt(2)).
  const Int<T> root_half = bits<Int<T>>(static_cast<T>(0.70710678118654752440));
  const Vec<Int<T>> i = bits<Vec<Int<T>>>(u) - root_half;
  const Vec<Int<T>> e = i >> mantissa;
  const Vec<T> m = bits<Vec<T>>((i & ((Int<T>{1} << mantissa) - 1)) + root_half);
  const Vec<T> g = i >= 0 ? rest : m - 1;
  return fma(convert(e), splat(static_cast<T>(-1.38629436111989061883)),
             g * polynomial(coefficients, g));
}

// The z below which a standard normal lies with probability p <= 1/2.
inline Vec<double> lower_quantile(Vec<double> p) {
  const Vec<double> x = p - 0.5, s = sqrt(minus_two_log<double>(p, p - 1));
  const Vec<double> t = fma(-x, x, splat(kQuantileCentralOrigin)), w = s - kQuantileTailOrigin;
  const Vec<double> central =
      polynomial(kQuantileCentralNumeratorF64, t) / polynomial(kQuantileCentralDenominatorF64, t);
  const Vec<double> tail =
      polynomial(kQuantileTailNumeratorF64, w) / polynomial(kQuantileTailDenominatorF64, w);
  return p >= kQuantileSeam ? x * central : -tail;
}

inline Vec<double> normal_quantile(Vec<double> p) {
  const Vec<double> q = lesser<double>(p, 1 - p);
  const Vec<double> z = lower_quantile(q);
  return p > 0.5 ? -z : z;
}

}  // namespace
