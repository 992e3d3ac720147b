#include "accumulate.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "chain/buffer.hpp"
#include "isa.hpp"

namespace varprop {
namespace {

// Numbers that share a pivot, and neighbouring accumulators that are filled in one sweep over
// memory.
constexpr std::ptrdiff_t kChunk = 1024, kSweep = 16;

float from_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16, size = half & 0x7fff;
  std::uint32_t word;
  float result;
  if (size >= 0x7c00) {
    word = 0x7f800000 | (size & 0x3ff) << 13;
  } else if (size >= 0x400) {
    word = (size << 13) + 0x38000000;
  } else {
    const float subnormal = static_cast<float>(size) * 0x1p-24f;
    std::memcpy(&word, &subnormal, sizeof(word));
  }
  word |= sign;
  std::memcpy(&result, &word, sizeof(result));
  return result;
}

template <class T>
T read(const std::byte* from, InputType type) {
  if (type == InputType::float16) {
    std::uint16_t half;
    std::memcpy(&half, from, sizeof(half));
    return static_cast<T>(from_half(half));
  }
  if (type == InputType::bfloat16) {
    std::uint16_t half;
    std::memcpy(&half, from, sizeof(half));
    const std::uint32_t word = static_cast<std::uint32_t>(half) << 16;
    float value;
    std::memcpy(&value, &word, sizeof(value));
    return static_cast<T>(value);
  }
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// Walks the indices of some axes in C order, as offsets in bytes.
class Odometer {
 public:
  Odometer(const StridedArray& array, std::size_t first, std::size_t last)
      : array_(array), first_(first), index_(last - first, 0) {}

  std::ptrdiff_t offset() const { return offset_; }

  void advance() {
    for (std::size_t axis = index_.size(); axis-- > 0;) {
      offset_ += array_.strides[first_ + axis];
      if (++index_[axis] < array_.shape[first_ + axis]) return;
      offset_ -= array_.strides[first_ + axis] * index_[axis];
      index_[axis] = 0;
    }
  }

 private:
  const StridedArray& array_;
  std::size_t first_;
  std::vector<std::ptrdiff_t> index_;
  std::ptrdiff_t offset_ = 0;
};

std::ptrdiff_t size(const StridedArray& array, std::size_t first, std::size_t last) {
  std::ptrdiff_t product = 1;
  for (std::size_t axis = first; axis < last; ++axis) product *= array.shape[axis];
  return product;
}

template <class T>
Moments chunk_moments(T* data, std::ptrdiff_t count) {
  const auto& kernel = kernels<T>();
  const int columns = static_cast<int>(std::min<std::ptrdiff_t>(count, kBlockColumns));
  const int rows = static_cast<int>(count / columns), rest = static_cast<int>(count % columns);
  const Tile<T> whole{data, columns, rows, columns}, tail{data + rows * columns, columns, 1, rest};
  const T pivot = kernel.pivot({data, columns, 1, columns}, T{1});
  PowerLanes lanes = empty_power_lanes();
  kernel.observe_powers(whole, 1.0, static_cast<double>(pivot), lanes);
  if (rest > 0) kernel.observe_powers(tail, 1.0, static_cast<double>(pivot), lanes);
  return from_sums(static_cast<double>(count), static_cast<double>(pivot), lanes);
}

// Whether the numbers lie side by side, to be read where they are.
template <class T>
bool side_by_side(const StridedArray& array) {
  if (array.type != (sizeof(T) == sizeof(double) ? InputType::float64 : InputType::float32) ||
      reinterpret_cast<std::uintptr_t>(array.data) % alignof(T) != 0) {
    return false;
  }
  std::ptrdiff_t stride = sizeof(T);
  for (std::size_t axis = array.shape.size(); axis-- > 0;) {
    if (array.shape[axis] == 1) continue;
    if (array.strides[axis] != stride) return false;
    stride *= array.shape[axis];
  }
  return true;
}

template <class T>
void accumulate_as(const StridedArray& array, std::size_t kept, std::vector<Moments>& into) {
  const std::size_t axes = array.shape.size();
  const std::ptrdiff_t count = size(array, kept, axes), sets = size(array, 0, kept);
  if (count == 0) return;
  if (kept == 0 && side_by_side<T>(array)) {
    T* const data = const_cast<T*>(reinterpret_cast<const T*>(array.data));  // only read
    for (std::ptrdiff_t done = 0; done < count; done += kChunk) {
      const std::ptrdiff_t chunk = std::min(kChunk, count - done);
      T few[kBlockColumns] = {};  // whole lanes are read
      if (chunk < kBlockColumns) std::copy_n(data + done, chunk, few);
      into[0].merge(chunk_moments<T>(chunk < kBlockColumns ? few : data + done, chunk));
    }
    return;
  }
  const Buffer<T> buffer(static_cast<std::size_t>(kChunk * kSweep));
  std::ptrdiff_t starts[kSweep];
  Odometer set(array, 0, kept);
  for (std::ptrdiff_t first = 0; first < sets; first += kSweep) {
    const std::ptrdiff_t sweep = std::min(kSweep, sets - first);
    for (std::ptrdiff_t s = 0; s < sweep; ++s, set.advance()) starts[s] = set.offset();
    Odometer number(array, kept, axes);
    for (std::ptrdiff_t done = 0; done < count; done += kChunk) {
      const std::ptrdiff_t chunk = std::min(kChunk, count - done);
      for (std::ptrdiff_t i = 0; i < chunk; ++i, number.advance()) {
        const std::byte* const from = array.data + number.offset();
        for (std::ptrdiff_t s = 0; s < sweep; ++s) {
          buffer.get()[s * kChunk + i] = read<T>(from + starts[s], array.type);
        }
      }
      for (std::ptrdiff_t s = 0; s < sweep; ++s) {
        into[static_cast<std::size_t>(first + s)].merge(
            chunk_moments<T>(buffer.get() + s * kChunk, chunk));
      }
    }
  }
}

}  // namespace

void accumulate(const StridedArray& array, std::size_t kept, std::vector<Moments>& into) {
  if (array.type == InputType::float64) {
    accumulate_as<double>(array, kept, into);
  } else {
    accumulate_as<float>(array, kept, into);
  }
}

}  // namespace varprop
