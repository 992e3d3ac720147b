// From random words to the numbers of a law, and from laws to rectangles of numbers.
#pragma once

#include "coefficients.inl"
#include "kernels.hpp"
#include "quantile.inl"
#include "threefry.inl"
#include "transpose.inl"
#include "vec.hpp"

namespace {

using varprop::Law;
using varprop::Recipe;
using varprop::Rectangle;

template <class T>
struct LawCoefficients;
template <>
struct LawCoefficients<float> {
  static constexpr auto& kSin = kSinQuarterF32;
  static constexpr auto& kCos = kCosQuarterF32;
  static constexpr auto& kNumerator = kTruncatedNormalNumeratorF32;
  static constexpr auto& kDenominator = kTruncatedNormalDenominatorF32;
};
template <>
struct LawCoefficients<double> {
  static constexpr auto& kSin = kSinQuarterF64;
  static constexpr auto& kCos = kCosQuarterF64;
  static constexpr auto& kNumerator = kTruncatedNormalNumeratorF64;
  static constexpr auto& kDenominator = kTruncatedNormalDenominatorF64;
};

// 2^exponent, exact.
template <class T>
constexpr T power_of_two(int exponent) {
  T result = 1;
  for (; exponent > 0; --exponent) result *= 2;
  for (; exponent < 0; ++exponent) result /= 2;
  return result;
}

// Odd integers times 2^-24 (2^-53 in double) on (-1, 1).
template <class T>
inline Vec<T> symmetric_uniform(Vec<UInt<T>> word) {
  constexpr int digits = Format<T>::kMantissa;
  const Vec<Int<T>> k = (Vec<Int<T>>)word >> (Format<T>::kBits - 1 - digits);
  return fma(convert(k), splat(power_of_two<T>(-digits)), splat(power_of_two<T>(-digits - 1)));
}

// Box and Muller's pair of normals from a word for the radius and one for the angle.
template <class T>
inline void normal_pair(Vec<UInt<T>> a, Vec<UInt<T>> b, T scale, T location, Vec<T>& x, Vec<T>& y) {
  constexpr int n = Format<T>::kBits;
  using C = LawCoefficients<T>;
  // U = f or 1 + f is uniform on (0, 1) with full relative resolution at both ends, f = (a + 1/2)
  // 2^-n.
  const Vec<T> f =
      fma(convert((Vec<Int<T>>)a), splat(power_of_two<T>(-n)), splat(power_of_two<T>(-n - 1)));
  const Vec<T> u = f > 0 ? f : f + 1;
  const Vec<T> radius = sqrt(minus_two_log<T>(u, f)) * scale;
  // An eighth of the circle by polynomials, the rest by the top bits: one signs the cosine, one
  // swaps.
  const Vec<T> t = fma(convert((Vec<Int<T>>)(b << 2)), splat(power_of_two<T>(-n)),
                       splat(power_of_two<T>(1 - n)));
  const Vec<T> t2 = t * t;
  const Vec<T> sine = t * polynomial(C::kSin, t2);
  const Vec<UInt<T>> sign = b & (UInt<T>{1} << (n - 1));
  const Vec<T> cosine = bits<Vec<T>>(bits<Vec<UInt<T>>>(polynomial(C::kCos, t2)) ^ sign);
  const auto swap = (Vec<Int<T>>)(b << 1) < 0;
  x = fma(radius, swap ? sine : cosine, splat(location));
  y = fma(radius, swap ? cosine : sine, splat(location));
}

// Numbers of one word each.
template <Law law, class T>
inline Vec<T> number(const Recipe<T>& recipe, Vec<UInt<T>> word) {
  if constexpr (law == Law::constant) {
    return splat(recipe.location);
  } else if constexpr (law == Law::uniform) {
    return fma(symmetric_uniform<T>(word), splat(recipe.scale), splat(recipe.location));
  } else {
    static_assert(law == Law::truncated_normal);
    const Vec<T> u = symmetric_uniform<T>(word);
    const Vec<T> t = fma(-u, u, splat(T{1}));
    const Vec<T> z = u * (polynomial(LawCoefficients<T>::kNumerator, t) /
                          polynomial(LawCoefficients<T>::kDenominator, t));
    return fma(z, splat(recipe.scale), splat(recipe.location));
  }
}

// The slow law: any truncation, in double.
template <class T>
inline Vec<T> quantile_numbers(const Recipe<T>& recipe, Vec<UInt<T>> word) {
  Vec<T> result;
  for (int first = 0; first < kWidth<T>; first += kWidth<double>) {
    Vec<double>
        v;  // all bits of a 32-bit word, the top 53 of a 64-bit one: odd / 2^digits on (-1, 1)
    for (int i = 0; i < kWidth<double>; ++i) {
      const auto k = static_cast<Int<T>>(word[first + i]);
      v[i] = static_cast<double>(sizeof(T) == 4 ? k : k >> 11);
    }
    v = sizeof(T) == 4 ? fma(v, splat(0x1p-31), splat(0x1p-32))
                       : fma(v, splat(0x1p-52), splat(0x1p-53));
    const Vec<double> p = fma(v, splat(recipe.p_half), splat(recipe.p_middle));
    const Vec<double> x = fma(normal_quantile(p), splat(recipe.std), splat(recipe.mean));
    for (int i = 0; i < kWidth<double>; ++i) {
      const T y = static_cast<T>(x[i]);
      result[first + i] = recipe.factor * (y < recipe.floor     ? recipe.floor
                                           : y > recipe.ceiling ? recipe.ceiling
                                                                : y);
    }
  }
  return result;
}

// Columns of a block, rows of a block: what one Threefry evaluation of a vector of counters yields.
constexpr int kBlockWidth = kWidth<float>;
template <class T>
constexpr int kBlockRows = 16 / static_cast<int>(sizeof(T));
template <class T>
constexpr int kHalves = kBlockWidth / kWidth<T>;

template <class T>
using Block = Vec<T>[kBlockRows<T>][kHalves<T>];

// Several sets of counters at a time: (columns[s], groups[s]) become blocks[s].
template <Law law, int sets, class T>
inline void draw_blocks(const Recipe<T>& recipe, const KeySchedule& key,
                        const Vec<std::uint32_t> (&columns)[sets],
                        const Vec<std::uint32_t> (&groups)[sets], Block<T> (&blocks)[sets]) {
  Vec<std::uint32_t> x[sets][4];
  for (int s = 0; s < sets; ++s) {
    x[s][0] = columns[s];
    x[s][1] = groups[s];
    x[s][2] = splat(static_cast<std::uint32_t>(recipe.trial));
    x[s][3] = splat(static_cast<std::uint32_t>(recipe.trial >> 32));
  }
  if constexpr (law != Law::constant) threefry(key, x);
#pragma GCC unroll 4
  for (int s = 0; s < sets; ++s) {
    Vec<UInt<T>> words[kBlockRows<T>][kHalves<T>];
#pragma GCC unroll 4
    for (int row = 0; row < kBlockRows<T>; ++row) {
      if constexpr (sizeof(T) == 4) {
        words[row][0] = x[s][row];
      } else {
        join(x[s][2 * row], x[s][2 * row + 1], words[row]);
      }
    }
#pragma GCC unroll 4
    for (int half = 0; half < kHalves<T>; ++half) {
      if constexpr (law == Law::normal) {
#pragma GCC unroll 4
        for (int row = 0; row < kBlockRows<T>; row += 2) {
          normal_pair<T>(words[row][half], words[row + 1][half], recipe.scale, recipe.location,
                         blocks[s][row][half], blocks[s][row + 1][half]);
        }
      } else {
#pragma GCC unroll 4
        for (int row = 0; row < kBlockRows<T>; ++row) {
          if constexpr (law == Law::quantile) {
            blocks[s][row][half] = quantile_numbers<T>(recipe, words[row][half]);
          } else {
            blocks[s][row][half] = number<law, T>(recipe, words[row][half]);
          }
        }
      }
    }
  }
}

// The rows [from, to) of a block, `columns` of its columns.
template <class T>
inline void store_rows(const Block<T>& block, int from, int to, std::int64_t columns, T* out,
                       std::ptrdiff_t stride) {
  for (int row = from; row < to; ++row) {
    T* const at = out + row * stride;
    if (columns >= kBlockWidth) {
      for (int half = 0; half < kHalves<T>; ++half) store(at + half * kWidth<T>, block[row][half]);
    } else {
      for (int half = 0; half * kWidth<T> < columns; ++half) {
        const std::int64_t count = columns - half * kWidth<T>;
        store_part(at + half * kWidth<T>, block[row][half],
                   static_cast<int>(count < kWidth<T> ? count : kWidth<T>));
      }
    }
  }
}

// Lanes along columns: out[i * stride + j].
template <Law law, class T>
void draw_rows(const Recipe<T>& recipe, const Rectangle& r, T* out, std::ptrdiff_t stride,
               bool padded) {
  const KeySchedule key(recipe.key);
  const auto step = static_cast<std::uint32_t>(r.column_step);
  const Vec<std::uint32_t> first =
      static_cast<std::uint32_t>(r.column) + iota<std::uint32_t>() * step;
  const std::int64_t end = r.row + r.rows;
  const std::int64_t columns =
      padded ? (r.columns + kBlockWidth - 1) / kBlockWidth * kBlockWidth : r.columns;
  for (std::int64_t group = r.row / kBlockRows<T>; group * kBlockRows<T> < end; ++group) {
    const std::int64_t top = group * kBlockRows<T>;
    const int from = static_cast<int>(r.row > top ? r.row - top : 0);
    const int to = static_cast<int>(end - top < kBlockRows<T> ? end - top : kBlockRows<T>);
    T* const corner = out + (top - r.row) * stride;
    const auto rows = splat(static_cast<std::uint32_t>(group));
    Vec<std::uint32_t> column = first;
    std::int64_t j = 0;
    for (; j + kBlockWidth < columns; j += 2 * kBlockWidth, column += 2 * kBlockWidth * step) {
      Block<T> blocks[2];
      draw_blocks<law, 2, T>(recipe, key, {column, column + kBlockWidth * step}, {rows, rows},
                             blocks);
      store_rows<T>(blocks[0], from, to, kBlockWidth, corner + j, stride);
      store_rows<T>(blocks[1], from, to, columns - j - kBlockWidth, corner + j + kBlockWidth,
                    stride);
    }
    if (j < columns) {
      Block<T> blocks[1];
      draw_blocks<law, 1, T>(recipe, key, {column}, {rows}, blocks);
      store_rows<T>(blocks[0], from, to, columns - j, corner + j, stride);
    }
  }
}

// The rows of a block side by side: numbers of consecutive rows become consecutive in memory.
template <class T>
inline void store_interleaved(const Block<T>& block, T* out) {
  for (int half = 0; half < kHalves<T>; ++half) {
    if constexpr (kBlockRows<T> == 4) {
      zip_four<T>(block[0][half], block[1][half], block[2][half], block[3][half], out);
      out += 4 * kWidth<T>;
    } else {
      Vec<T> a, b;
      zip<T>(block[0][half], block[1][half], a, b);
      store(out, a);
      store(out + kWidth<T>, b);
      out += 2 * kWidth<T>;
    }
  }
}

// The rows of a column that a block with lanes along rows holds, as far as they are asked for.
template <class T>
inline void store_run(const Block<T>& block, const Rectangle& r, std::int64_t top, T* column) {
  constexpr int run = kBlockRows<T> * kBlockWidth;
  const std::int64_t end = r.row + r.rows;
  T* const to = column + (top - r.row);
  if (top >= r.row && top + run <= end) return store_interleaved<T>(block, to);
  T part[run];
  store_interleaved<T>(block, part);
  const std::int64_t from = r.row > top ? r.row - top : 0;
  const std::int64_t until = end - top < run ? end - top : run;
  __builtin_memcpy(to + from, part + from, static_cast<std::size_t>(until - from) * sizeof(T));
}

// Lanes along rows: out[j * stride + i], for tall narrow matrices, vectors and the (out, in)
// layout.
template <Law law, class T>
void draw_columns(const Recipe<T>& recipe, const Rectangle& r, T* out, std::ptrdiff_t stride) {
  const KeySchedule key(recipe.key);
  const std::int64_t first = r.row / kBlockRows<T>, end = r.row + r.rows;
  struct {
    std::int64_t j, group;
  } at[2], next{0, first};
  const auto draw = [&]<int sets>() {
    Vec<std::uint32_t> columns[sets], groups[sets];
    for (int s = 0; s < sets; ++s) {
      at[s] = next;
      columns[s] = splat(static_cast<std::uint32_t>(r.column + next.j * r.column_step));
      groups[s] = static_cast<std::uint32_t>(next.group) + iota<std::uint32_t>();
      next.group += kBlockWidth;
      if (next.group * kBlockRows<T> >= end) next = {next.j + 1, first};
    }
    Block<T> blocks[sets];
    draw_blocks<law, sets, T>(recipe, key, columns, groups, blocks);
    for (int s = 0; s < sets; ++s) {
      store_run<T>(blocks[s], r, at[s].group * kBlockRows<T>, out + at[s].j * stride);
    }
  };
  const std::int64_t per_column = (end - first * kBlockRows<T> + kBlockRows<T> * kBlockWidth - 1) /
                                  (kBlockRows<T> * kBlockWidth);
  const std::int64_t blocks = per_column * r.columns;
  for (std::int64_t i = 0; i + 1 < blocks; i += 2) draw.template operator()<2>();
  if (blocks % 2 == 1) draw.template operator()<1>();
}

template <class T>
void draw(const Recipe<T>& recipe, const Rectangle& r, T* out, std::ptrdiff_t stride, bool padded) {
  switch (recipe.law) {
    case Law::constant:
      return draw_rows<Law::constant>(recipe, r, out, stride, padded);
    case Law::uniform:
      return draw_rows<Law::uniform>(recipe, r, out, stride, padded);
    case Law::normal:
      return draw_rows<Law::normal>(recipe, r, out, stride, padded);
    case Law::truncated_normal:
      return draw_rows<Law::truncated_normal>(recipe, r, out, stride, padded);
    case Law::quantile:
      return draw_rows<Law::quantile>(recipe, r, out, stride, padded);
  }
}

template <class T>
void draw_transposed(const Recipe<T>& recipe, const Rectangle& r, T* out, std::ptrdiff_t stride) {
  switch (recipe.law) {
    case Law::constant:
      return draw_columns<Law::constant>(recipe, r, out, stride);
    case Law::uniform:
      return draw_columns<Law::uniform>(recipe, r, out, stride);
    case Law::normal:
      return draw_columns<Law::normal>(recipe, r, out, stride);
    case Law::truncated_normal:
      return draw_columns<Law::truncated_normal>(recipe, r, out, stride);
    case Law::quantile:
      return draw_columns<Law::quantile>(recipe, r, out, stride);
  }
}

}  // namespace
