// Numbers of float32 rounded to 16 bits, to the nearest, ties to even.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vec.hpp"

namespace {

void to_bfloat16(const float* in, std::size_t count, std::uint16_t* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto x = bits<std::uint32_t>(in[i]);
    const bool nan = (x & 0x7fffffff) > 0x7f800000;
    out[i] = static_cast<std::uint16_t>((nan ? x | 0x400000 : x + 0x7fff + (x >> 16 & 1)) >> 16);
  }
}

void to_float16(const float* in, std::size_t count, std::uint16_t* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto x = bits<std::uint32_t>(in[i]);
    const std::uint32_t size = x & 0x7fffffff;
    std::uint32_t half;
    if (size >= 0x47800000) {  // 2^16 and more, infinity, NaN
      half = size > 0x7f800000 ? 0x7e00 : 0x7c00;
    } else if (size <
               0x38800000) {  // subnormal: adding 1/2 leaves multiples of 2^-24 in the low bits
      half = bits<std::uint32_t>(bits<float>(size) + 0.5f) - 0x3f000000;
    } else {
      half = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    }
    out[i] = static_cast<std::uint16_t>(half | (x >> 16 & 0x8000));
  }
}

}  // namespace
