// The activations and their derivatives; Activations keeps the order of activations.py.
#pragma once

#include "elementary.inl"
#include "kernels.hpp"
#include "vec.hpp"

namespace {

using varprop::Tile;

template <class T>
inline Vec<T> zero() {
  return Vec<T>{};
}

// sigmoid(x) and 1 - sigmoid(x), both with full relative precision.
template <class T>
struct Sigmoids {
  Vec<T> value, complement;
};
template <class T>
inline Sigmoids<T> sigmoids(Vec<T> x) {
  const Vec<T> e = exp_negative<T>(-magnitude<T>(x));
  const Vec<T> whole = 1 / (1 + e), part = e * whole;
  return {x >= 0 ? whole : part, x >= 0 ? part : whole};
}

// The normal distribution function.
template <class T>
inline Vec<T> normal_cdf(Vec<T> x) {
  const Vec<T> z = magnitude<T>(x) * static_cast<T>(0.70710678118654752440);
  const Vec<T> tail = erfc_parts<T>(z).exp() * static_cast<T>(0.5);
  return x < 0 ? tail : 1 - tail;
}

template <class T>
inline Vec<T> clamp(Vec<T> x, T low, T high) {
  return lesser<T>(greater<T>(x, splat(low)), splat(high));
}

template <class T>
struct Linear {
  static Vec<T> value(Vec<T> x, T) { return x; }
  static Vec<T> derivative(Vec<T>, T) { return splat(T{1}); }
};

template <class T>
struct Relu {
  static Vec<T> value(Vec<T> x, T) { return greater<T>(x, zero<T>()); }
  static Vec<T> derivative(Vec<T> x, T) { return x > 0 ? splat(T{1}) : zero<T>(); }
};

template <class T>
struct LeakyRelu {
  static Vec<T> value(Vec<T> x, T slope) { return x > 0 ? x : x * slope; }
  static Vec<T> derivative(Vec<T> x, T slope) { return x > 0 ? splat(T{1}) : splat(slope); }
};

template <class T>
struct Elu {
  static Vec<T> value(Vec<T> x, T alpha) {
    return x > 0 ? x : alpha * expm1_negative<T>(lesser<T>(x, zero<T>()));
  }
  static Vec<T> derivative(Vec<T> x, T alpha) {
    return x > 0 ? splat(T{1}) : alpha * exp_negative<T>(lesser<T>(x, zero<T>()));
  }
};

template <class T>
struct Selu {  // Klambauer et al. 2017
  static constexpr T kScale = static_cast<T>(1.0507009873554804934);
  static constexpr T kAlpha = static_cast<T>(1.6732632423543772848);
  static Vec<T> value(Vec<T> x, T) { return kScale * Elu<T>::value(x, kAlpha); }
  static Vec<T> derivative(Vec<T> x, T) { return kScale * Elu<T>::derivative(x, kAlpha); }
};

template <class T>
struct Celu {
  static Vec<T> value(Vec<T> x, T alpha) {
    return x > 0 ? x : alpha * expm1_negative<T>(lesser<T>(x, zero<T>()) / alpha);
  }
  static Vec<T> derivative(Vec<T> x, T alpha) {
    return x > 0 ? splat(T{1}) : exp_negative<T>(lesser<T>(x, zero<T>()) / alpha);
  }
};

template <class T>
struct Gelu {
  static Vec<T> value(Vec<T> x, T) { return x * normal_cdf<T>(x); }
  static Vec<T> derivative(Vec<T> x, T) {
    const Vec<T> density =
        exp_negative<T>(x * x * static_cast<T>(-0.5)) * static_cast<T>(0.39894228040143267794);
    return fma(x, density, normal_cdf<T>(x));
  }
};

template <class T>
struct GeluTanh {  // x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
  static constexpr T kTwo = static_cast<T>(1.5957691216057307117);  // 2 sqrt(2 / pi)
  static constexpr T kCubic = static_cast<T>(0.044715);
  static Vec<T> argument(Vec<T> x) { return x * kTwo * fma(x * x, splat(kCubic), splat(T{1})); }
  static Vec<T> value(Vec<T> x, T) { return x * sigmoids<T>(argument(x)).value; }
  static Vec<T> derivative(Vec<T> x, T) {
    x = clamp<T>(x, -100, 100);  // 0 and 1 to the last bit past that, and x^3 stays finite
    const auto s = sigmoids<T>(argument(x));
    const Vec<T> slope = kTwo * fma(x * x, splat(3 * kCubic), splat(T{1}));
    return fma(x * slope, s.value * s.complement, s.value);
  }
};

template <class T>
struct Silu {
  static Vec<T> value(Vec<T> x, T) { return x * sigmoids<T>(x).value; }
  static Vec<T> derivative(Vec<T> x, T) {
    const auto s = sigmoids<T>(x);
    return fma(x * s.complement, s.value, s.value);
  }
};

// tanh(softplus(x)) = n / (n + d) with n = 1 + 2 e, d = 2 e^2 (x >= 0) or n = e (e + 2), d = 2, e =
// exp(-|x|).
template <class T>
struct Mish {
  struct Parts {
    Vec<T> e, n, d;
  };
  static Parts parts(Vec<T> x) {
    const Vec<T> e = exp_negative<T>(-magnitude<T>(x));
    return {e, x >= 0 ? fma(e, splat(T{2}), splat(T{1})) : e * (e + 2),
            x >= 0 ? 2 * e * e : splat(T{2})};
  }
  static Vec<T> value(Vec<T> x, T) {
    const Parts p = parts(x);
    return x * (p.n / (p.n + p.d));
  }
  static Vec<T> derivative(Vec<T> x, T) {
    const Parts p = parts(x);
    const Vec<T> whole = p.n + p.d;
    const Vec<T> squeeze = p.d * (whole + p.n) / (whole * whole);  // 1 - tanh^2
    const Vec<T> sigmoid = (x >= 0 ? splat(T{1}) : p.e) / (1 + p.e);
    return fma(x * sigmoid, squeeze, p.n / whole);
  }
};

template <class T>
struct Softplus {
  static Vec<T> value(Vec<T> x, T) {
    return greater<T>(x, zero<T>()) + log1p_unit<T>(exp_negative<T>(-magnitude<T>(x)));
  }
  static Vec<T> derivative(Vec<T> x, T) { return sigmoids<T>(x).value; }
};

template <class T>
struct Softsign {
  static Vec<T> value(Vec<T> x, T) { return x / (1 + magnitude<T>(x)); }
  static Vec<T> derivative(Vec<T> x, T) {
    const Vec<T> inverse = 1 / (1 + magnitude<T>(x));
    return inverse * inverse;
  }
};

template <class T>
struct Tanh {
  static Vec<T> value(Vec<T> x, T) {
    const Vec<T> m = expm1_negative<T>(magnitude<T>(x) * -2);
    return copy_sign<T>(m / (m + 2), x);
  }
  static Vec<T> derivative(Vec<T> x, T) {  // 4 e / (1 + e)^2, e = exp(-2 |x|)
    const Vec<T> e = exp_negative<T>(magnitude<T>(x) * -2), whole = 1 + e;
    return 4 * e / (whole * whole);
  }
};

template <class T>
struct HardTanh {
  static Vec<T> value(Vec<T> x, T) { return clamp<T>(x, -1, 1); }
  static Vec<T> derivative(Vec<T> x, T) { return magnitude<T>(x) < 1 ? splat(T{1}) : zero<T>(); }
};

template <class T>
struct Sigmoid {
  static Vec<T> value(Vec<T> x, T) { return sigmoids<T>(x).value; }
  static Vec<T> derivative(Vec<T> x, T) {
    const auto s = sigmoids<T>(x);
    return s.value * s.complement;
  }
};

template <class T>
struct HardSigmoid {
  static Vec<T> value(Vec<T> x, T) { return clamp<T>(x + 3, 0, 6) / 6; }
  static Vec<T> derivative(Vec<T> x, T) {
    return magnitude<T>(x) < 3 ? splat(T{1} / 6) : zero<T>();
  }
};

template <class T>
struct Erf {
  static Vec<T> value(Vec<T> x, T) {
    return copy_sign<T>(erfc_parts<T>(magnitude<T>(x)).expm1(), x);
  }
  static Vec<T> derivative(Vec<T> x, T) {
    return exp_negative<T>(-(x * x)) * static_cast<T>(1.12837916709551257390);
  }
};

template <class T>
struct Sin {
  static Vec<T> value(Vec<T> x, T) { return sine<0, T>(x); }
  static Vec<T> derivative(Vec<T> x, T) { return sine<1, T>(x); }
};

template <class T>
struct Relu6 {
  static Vec<T> value(Vec<T> x, T) { return clamp<T>(x, 0, 6); }
  static Vec<T> derivative(Vec<T> x, T) {
    return x > 0 ? (x < 6 ? splat(T{1}) : zero<T>()) : zero<T>();
  }
};

template <class T>
struct SquaredRelu {
  static Vec<T> value(Vec<T> x, T) {
    const Vec<T> positive = greater<T>(x, zero<T>());
    return positive * positive;
  }
  static Vec<T> derivative(Vec<T> x, T) { return 2 * greater<T>(x, zero<T>()); }
};

template <class T>
using Map = void (*)(T parameter, const Tile<T>& x);
template <class T>
using ChainRule = void (*)(T parameter, const Tile<T>& y, const Tile<T>& gradient);

template <class T, class Activation>
void map_value(T parameter, const Tile<T>& tile) {
  for (int row = 0; row < tile.rows; ++row) {
    T* const x = tile.data + row * tile.stride;
    for (int j = 0; j < tile.columns; j += kWidth<T>) {
      store(x + j, Activation::value(load(x + j), parameter));
    }
  }
}

template <class T, class Activation>
void multiply_by_derivative(T parameter, const Tile<T>& tile, const Tile<T>& gradient) {
  for (int row = 0; row < tile.rows; ++row) {
    const T* const y = tile.data + row * tile.stride;
    T* const g = gradient.data + row * gradient.stride;
    for (int j = 0; j < tile.columns; j += kWidth<T>) {
      store(g + j, load(g + j) * Activation::derivative(load(y + j), parameter));
    }
  }
}

template <class T>
struct Maps {
  Map<T> value;
  ChainRule<T> chain_rule;
};

template <class T, template <class> class... Activation>
struct MapTable {
  static constexpr Maps<T> kMaps[] = {
      {map_value<T, Activation<T>>, multiply_by_derivative<T, Activation<T>>}...};
};

template <class T>
using Activations =
    MapTable<T, Linear, Relu, LeakyRelu, Elu, Selu, Celu, Gelu, GeluTanh, Silu, Mish, Softplus,
             Softsign, Tanh, HardTanh, Sigmoid, HardSigmoid, Erf, Sin, Relu6, SquaredRelu>;

template <class T>
void activate(int activation, T parameter, const Tile<T>& tile) {
  Activations<T>::kMaps[activation].value(parameter, tile);
}

template <class T>
void backpropagate(int activation, T parameter, const Tile<T>& y, const Tile<T>& gradient) {
  Activations<T>::kMaps[activation].chain_rule(parameter, y, gradient);
}

}  // namespace
