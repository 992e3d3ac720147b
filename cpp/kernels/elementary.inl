// Elementary functions where activations need them: exp and expm1 of numbers <= 0, log1p on [0, 1],
// erfc, sin.
#pragma once

#include "coefficients.inl"
#include "vec.hpp"

namespace {

template <class T>
struct Elementary;
template <>
struct Elementary<float> {
  static constexpr auto& kExpm1 = kExpm1F32;
  static constexpr auto& kLog1p = kLog1pF32;
  static constexpr auto& kErfc = kErfcF32;
  static constexpr auto& kSin = kSinPiF32;
  static constexpr float kErfcEnd = 4;
  static constexpr float kExpEnd = -88.02f;   // 2^-127 here: the scale's bits are those of zero
  static constexpr float kRound = 0x1.8p23f;  // adding it rounds to an integer, in the low bits
  // ln 2 and pi as sums of numbers of T.
  static constexpr float kLn2[2] = {0x1.62e43p-1f, -0x1.05c61p-29f};
  static constexpr float kPi[3] = {0x1.921fb6p1f, -0x1.777a5cp-24f, -0x1.ee59dap-49f};
};
template <>
struct Elementary<double> {
  static constexpr auto& kExpm1 = kExpm1F64;
  static constexpr auto& kLog1p = kLog1pF64;
  static constexpr auto& kErfc = kErfcF64;
  static constexpr auto& kSin = kSinPiF64;
  static constexpr double kErfcEnd = 5.7;
  static constexpr double kExpEnd = -709.2;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLn2[2] = {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};
  static constexpr double kPi[3] = {0x1.921fb54442d18p1, 0x1.1a62633145c07p-53,
                                    -0x1.f1976b7ed8fbcp-109};
};

// exp(x) = scale + scale * p, for x <= 0; zero where it would be subnormal.
template <class T>
struct ExpParts {
  Vec<T> scale, p;
  Vec<T> exp() const { return fma(scale, p, scale); }
  Vec<T> expm1() const { return fma(scale, p, scale - 1); }
};

template <class T>
inline ExpParts<T> exp_parts(Vec<T> x) {
  using E = Elementary<T>;
  x = greater<T>(x, splat(E::kExpEnd));
  const Vec<T> shifted = fma(x, splat(static_cast<T>(1.44269504088896340736)), splat(E::kRound));
  const Vec<T> n = shifted - E::kRound;
  Vec<T> r = fma(n, splat(-E::kLn2[0]), x);
  r = fma(n, splat(-E::kLn2[1]), r);
  const Vec<Int<T>> exponent =
      bits<Vec<Int<T>>>(shifted) - (bits<Int<T>>(E::kRound) - Format<T>::kBias);
  return {bits<Vec<T>>(exponent << Format<T>::kMantissa), fma(r * r, polynomial(E::kExpm1, r), r)};
}

template <class T>
inline Vec<T> exp_negative(Vec<T> x) {
  return exp_parts<T>(x).exp();
}

template <class T>
inline Vec<T> expm1_negative(Vec<T> x) {
  return exp_parts<T>(x).expm1();
}

template <class T>
inline Vec<T> log1p_unit(Vec<T> x) {
  return x * polynomial(Elementary<T>::kLog1p, x);
}

// erfc(z) = exp(-z Q(z)) for z >= 0; past the polynomial's end Q stays at its last value.
template <class T>
inline ExpParts<T> erfc_parts(Vec<T> z) {
  const Vec<T> centred = lesser<T>(z, splat(Elementary<T>::kErfcEnd)) - 2;
  return exp_parts<T>(-z * polynomial(Elementary<T>::kErfc, centred));
}

// sin(x + quarters * pi / 2) for quarters 0 or 1, to full precision for |x| <= 1e4.
template <int quarters, class T>
inline Vec<T> sine(Vec<T> x) {
  using E = Elementary<T>;
  constexpr T half = static_cast<T>(quarters) / 2;
  const Vec<T> turns = fma(x, splat(static_cast<T>(0.31830988618379067154)), splat(half));
  const Vec<T> shifted = turns + E::kRound;
  const Vec<T> n = (shifted - E::kRound) - half;
  Vec<T> r = fma(n, splat(-E::kPi[0]), x);
  r = fma(n, splat(-E::kPi[1]), r);
  r = fma(n, splat(-E::kPi[2]), r);
  const Vec<T> bound = splat(static_cast<T>(1.5707963267948966192));
  r = greater<T>(lesser<T>(r, bound),
                 -bound);  // keeps the result in range where the reduction fails
  const Vec<UInt<T>> odd = bits<Vec<UInt<T>>>(shifted) << (Format<T>::kBits - 1);
  const Vec<T> r2 = r * r;
  const Vec<T> result = fma(r * r2, polynomial(E::kSin, r2), r);
  return bits<Vec<T>>(bits<Vec<UInt<T>>>(result) ^ odd);
}

}  // namespace
