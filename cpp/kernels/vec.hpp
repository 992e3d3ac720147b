// Short vectors of the instruction set this file is compiled for. Every operation is correctly
// rounded, so that all instruction sets give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#  include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename VectorOf<T>::type;

template <class T>
constexpr int kWidth = kVectorBytes / static_cast<int>(sizeof(T));

// Integers and properties of a floating-point format.
template <class T>
struct Format;
template <>
struct Format<float> {
  using Int = std::int32_t;
  using UInt = std::uint32_t;
  static constexpr int kBits = 32, kMantissa = 23, kBias = 127;
};
template <>
struct Format<double> {
  using Int = std::int64_t;
  using UInt = std::uint64_t;
  static constexpr int kBits = 64, kMantissa = 52, kBias = 1023;
};
template <class T>
using Int = typename Format<T>::Int;
template <class T>
using UInt = typename Format<T>::UInt;

template <class To, class From>
inline To bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  __builtin_memcpy(&result, &value, sizeof(To));
  return result;
}

template <class T>
inline Vec<T> splat(T value) {
  return value - Vec<T>{};  // x - 0 is x, to the sign of zero
}

// Vectors of consecutive numbers 0, 1, 2, ...
template <class T, int... I>
struct Indices {};
template <class T, int N, int... I>
struct MakeIndices : MakeIndices<T, N - 1, N - 1, I...> {};
template <class T, int... I>
struct MakeIndices<T, 0, I...> {
  using type = Indices<T, I...>;
};
template <class T>
using AllIndices = typename MakeIndices<T, kWidth<T>>::type;

template <class T, int... I>
inline Vec<T> iota(Indices<T, I...>) {
  return Vec<T>{static_cast<T>(I)...};
}
template <class T>
inline Vec<T> iota() {
  return iota(AllIndices<T>{});
}

template <class T>
inline Vec<T> load(const T* from) {
  Vec<T> result;
  __builtin_memcpy(&result, from, sizeof(result));
  return result;
}

// The first `count` numbers, then zeros; nothing past them is read.
template <class T>
inline Vec<T> load_part(const T* from, int count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
  } else {
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << count) - 1), from);
  }
#elif defined(__AVX2__)
  const auto mask = bits<__m256i>(iota<Int<T>>() < splat(static_cast<Int<T>>(count)));
  if constexpr (sizeof(T) == 4) {
    return _mm256_maskload_ps(from, mask);
  } else {
    return _mm256_maskload_pd(from, mask);
  }
#else
  Vec<T> result{};
  __builtin_memcpy(&result, from, static_cast<std::size_t>(count) * sizeof(T));
  return result;
#endif
}

template <class T>
inline void store(T* to, Vec<T> value) {
  __builtin_memcpy(to, &value, sizeof(value));
}

template <class T>
inline void store_part(T* to, Vec<T> value, int count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_epi32(to, static_cast<__mmask16>((1u << count) - 1), bits<__m512i>(value));
  } else {
    _mm512_mask_storeu_epi64(to, static_cast<__mmask8>((1u << count) - 1), bits<__m512i>(value));
  }
#else
  __builtin_memcpy(to, &value, static_cast<std::size_t>(count) * sizeof(T));
#endif
}

inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  for (int i = 0; i < kWidth<float>; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_pd(a, b, c);
#else
  for (int i = 0; i < kWidth<double>; ++i) c[i] = __builtin_fma(a[i], b[i], c[i]);
  return c;
#endif
}

inline Vec<float> sqrt(Vec<float> a) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(a);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(a);
#elif defined(__SSE2__)
  return _mm_sqrt_ps(a);
#else
  for (int i = 0; i < kWidth<float>; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
#endif
}

inline Vec<double> sqrt(Vec<double> a) {
#if defined(__AVX512F__)
  return _mm512_sqrt_pd(a);
#elif defined(__AVX2__)
  return _mm256_sqrt_pd(a);
#elif defined(__SSE2__)
  return _mm_sqrt_pd(a);
#else
  for (int i = 0; i < kWidth<double>; ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
#endif
}

// Signed integers to the nearest floating-point number.
inline Vec<float> convert(Vec<std::int32_t> a) { return __builtin_convertvector(a, Vec<float>); }

inline Vec<double> convert(Vec<std::int64_t> a) {
#if defined(__AVX512DQ__)
  return _mm512_cvtepi64_pd(bits<__m512i>(a));
#else
  // Halves of 32 bits are exact as doubles (in the mantissas of 2^52 and of 1.5 * 2^52); one sum
  // rounds.
  const Vec<std::int64_t> low = (a & 0xffffffff) | bits<std::int64_t>(0x1p52);
  const Vec<std::int64_t> high = (a >> 32) + bits<std::int64_t>(0x1.8p52);
  return (bits<Vec<double>>(high) - 0x1.8p52) * 0x1p32 + (bits<Vec<double>>(low) - 0x1p52);
#endif
}

// As many numbers as a vector holds doubles, made doubles, and back to the nearest of T.
inline Vec<double> widened(const double* from) { return load(from); }
inline Vec<double> widened(const float* from) {
#if defined(__AVX512F__)
  return _mm512_cvtps_pd(_mm256_loadu_ps(from));
#elif defined(__AVX2__)
  return _mm256_cvtps_pd(_mm_loadu_ps(from));
#else
  Vec<double> result;
  for (int i = 0; i < kWidth<double>; ++i) result[i] = static_cast<double>(from[i]);
  return result;
#endif
}

inline void store_rounded(double* to, Vec<double> value) { store(to, value); }
inline void store_rounded(float* to, Vec<double> value) {
  typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
  const Half half = __builtin_convertvector(value, Half);
  __builtin_memcpy(to, &half, sizeof(half));
}

template <class T>
inline Vec<T> lesser(Vec<T> a, Vec<T> b) {
  return a < b ? a : b;
}

template <class T>
inline Vec<T> greater(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}

template <class T>
inline Vec<T> magnitude(Vec<T> a) {
  return bits<Vec<T>>(bits<Vec<UInt<T>>>(a) & (static_cast<UInt<T>>(-1) >> 1));
}

template <class T>
inline Vec<T> copy_sign(Vec<T> a, Vec<T> sign) {
  const UInt<T> top = UInt<T>{1} << (Format<T>::kBits - 1);
  return bits<Vec<T>>((bits<Vec<UInt<T>>>(a) & ~top) | (bits<Vec<UInt<T>>>(sign) & top));
}

// a0 b0 a1 b1 ...: the lower or upper half of two interleaved vectors.
template <int kFirst, class T, int... I>
inline Vec<T> zip_half(Vec<T> a, Vec<T> b, Indices<T, I...>) {
  constexpr int n = kWidth<T>;
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, (kFirst + I / 2 + (I % 2) * n)...);
#else
  return __builtin_shuffle(a, b, Vec<Int<T>>{(kFirst + I / 2 + (I % 2) * n)...});
#endif
}
template <class T>
inline void zip(Vec<T> a, Vec<T> b, Vec<T>& low, Vec<T>& high) {
  low = zip_half<0, T>(a, b, AllIndices<T>{});
  high = zip_half<kWidth<T> / 2, T>(a, b, AllIndices<T>{});
}

// Halves of two vectors of 32-bit words as words of 64 bits: low | high << 32.
inline void join(Vec<std::uint32_t> low, Vec<std::uint32_t> high, Vec<std::uint64_t> (&words)[2]) {
  Vec<std::uint32_t> halves[2];
  zip<std::uint32_t>(low, high, halves[0], halves[1]);
  for (int half = 0; half < 2; ++half) words[half] = bits<Vec<std::uint64_t>>(halves[half]);
}

// Horner's rule with fused multiply-adds, lowest coefficient first.
template <class T, std::size_t N>
inline Vec<T> polynomial(const T (&coefficients)[N], Vec<T> x) {
  Vec<T> result = splat(coefficients[N - 1]);
  for (std::size_t i = N - 1; i-- > 0;) result = fma(result, x, splat(coefficients[i]));
  return result;
}

}  // namespace
