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

// What one example has in one place of the network: channels at each position of an image, or, at
// one position, features.
struct Shape {
  std::int64_t height = 1, width = 1, channels;
  std::int64_t positions() const { return height * width; }
};

// Where a convolution or a pool looks: at output (i, j), rows i stride_height - top and on.
struct Window {
  std::int64_t height = 1, width = 1, stride_height = 1, stride_width = 1, top = 0, left = 0;
  std::int64_t positions() const { return height * width; }
};

// One step of the program. All signals are matrices: a row for each position of each example, a
// column for each channel.
struct Layer {
  enum class Kind {
    dense,        // Y = X W + b
    conv,         // the same on patches of X, in groups of channels
    map,          // Y = factor X + b
    join,         // Y = skip_scale (the activations of layer skip) + factor X
    layer_norm,   // each row to mean 0 and variance 1, factor is eps
    rms_norm,     // each row to mean square 1
    batch_norm,   // each column to mean 0 and variance 1
    pool,         // means over windows
    flatten,      // an image's numbers in one row
    elementwise,  // a function of the host's
    dropout       // a share `factor` of the numbers to zero, the others divided by the rest
  };
  Kind kind;
  Shape in, out;
  Tensor weight, bias;  // of dropout, the weight is the mask before it is compared
  int activation;       // phi, of dense and map
  double parameter;
  bool homogeneous;  // f(a x) = a f(x) for a > 0, but for biases: the output may be rescaled
  double factor, skip_scale;
  std::int64_t skip;  // -1: the inputs
  Window window;
  std::int64_t groups;
  bool channels_first;  // does flattening go channel by channel?
  bool has_bias;        // has it a gradient by biases, even where they are zeros?

  // Rows of the weights.
  std::int64_t fan_in() const { return window.positions() * in.channels / groups; }
  std::int64_t width() const { return out.channels; }
  bool normalizes() const {
    return kind == Kind::layer_norm || kind == Kind::rms_norm || kind == Kind::batch_norm;
  }
  // What it multiplies by where it has no weights: a norm's factor is eps, dropout's a share.
  double multiplier() const { return normalizes() || kind == Kind::dropout ? 1 : factor; }
  // Do its activations, and the gradient back through them, take whole rows or columns?
  bool takes_rows() const { return normalizes() || kind == Kind::elementwise; }
  // Are its activations its pre-activations?
  bool linear() const { return activation == 0 && !takes_rows() && kind != Kind::dropout; }
  bool has_weight() const { return kind == Kind::dense || kind == Kind::conv; }
};

struct Network {
  std::vector<Layer> layers;
  Key input_key{};  // of inputs drawn anew in each trial
};

}  // namespace varprop
