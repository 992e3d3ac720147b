// A compiled network: plain structs, made and validated by the caller.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/kernels.hpp"

namespace varprop {

using Key = std::array<std::uint32_t, 4>;

// The i.i.d. law of a tensor: what initializers.py calls a Draw.
struct Draw {
  enum class Distribution { constant, uniform, normal, truncated_normal };
  Distribution distribution = Distribution::constant;
  double mean = 0, std = 0;
  double low = 0,
         high = 0;  // uniform: the interval; truncated normal: in units of std about the mean
};

// Where a tensor's numbers come from.
struct Tensor {
  enum class Source { absent, drawn, given, formed };
  Source source = Source::absent;
  Draw draw;
  Key key{};
  const void* given = nullptr;  // row-major, in the run's dtype
  double rms = 0;               // root mean square of its numbers
};

struct Layer {
  std::int64_t fan_in, width;
  Tensor weight, bias;
  int activation;
  double parameter;
  bool homogeneous;  // phi(a x) = a phi(x) for a > 0: the layer's output may be rescaled
};

struct Network {
  std::vector<Layer> layers;
  Key input_key{};  // of inputs drawn anew in each trial
};

}  // namespace varprop
