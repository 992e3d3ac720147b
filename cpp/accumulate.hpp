// Moments of anybody's array, of any shape and strides, read in place.
#pragma once

#include <cstddef>
#include <vector>

#include "moments.hpp"

namespace varprop {

enum class InputType { float16, bfloat16, float32, float64 };

struct StridedArray {
  const std::byte* data;
  InputType type;
  std::vector<std::ptrdiff_t> shape, strides;  // strides in bytes
};

// Adds the array to one accumulator for each index of its first `kept` axes, in their C order.
void accumulate(const StridedArray&, std::size_t kept, std::vector<Moments>& into);

}  // namespace varprop
