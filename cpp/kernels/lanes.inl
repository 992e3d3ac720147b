// Sums in kLanes parts, whatever the vector's width, so that all instruction sets add in one order.
#pragma once

#include "kernels.hpp"
#include "vec.hpp"

namespace {

using varprop::kLanes;

// Vectors that make up kLanes numbers.
template <class T>
constexpr int kParts = kLanes / kWidth<T>;

// Ones in the lanes of a strip that hold columns, zeros in those past the end.
template <class T>
inline Vec<Int<T>> inside(int part, int columns) {
  return iota<Int<T>>() + part * kWidth<T> < splat(static_cast<Int<T>>(columns));
}

template <class T>
inline Vec<T> keep(Vec<Int<T>> mask, Vec<T> x) {
  return bits<Vec<T>>(mask & bits<Vec<Int<T>>>(x));
}

template <class T>
inline void add_to(double* lanes, const Vec<T>* sums) {
  alignas(64) T numbers[kLanes];
  for (int part = 0; part < kParts<T>; ++part) store(numbers + part * kWidth<T>, sums[part]);
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(numbers[lane]);
}

// Of `count` numbers from a vector on, those that it has.
template <class T>
constexpr int within(int count) {
  return count < 0 ? 0 : count < kWidth<T> ? count : kWidth<T>;
}

// The sum of numbers, each half added to the other until one is left.
template <class T, int count>
inline T folded(const T (&numbers)[count]) {
  if constexpr (count == 1) {
    return numbers[0];
  } else {
    T sums[count / 2];
    for (int i = 0; i < count / 2; ++i) sums[i] = numbers[i] + numbers[i + count / 2];
    return folded(sums);
  }
}

template <class T>
inline T total(const Vec<T> (&sums)[kParts<T>]) {
  alignas(64) T numbers[kLanes];
  for (int part = 0; part < kParts<T>; ++part) store(numbers + part * kWidth<T>, sums[part]);
  return folded(numbers);
}

}  // namespace
