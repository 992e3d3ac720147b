// What a simulation is asked for, and where its results go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "control.hpp"
#include "network.hpp"

namespace varprop {

// A matrix formed whole: row-major (fan_in, width) in the run's dtype, and its root mean square.
struct Formed {
  std::shared_ptr<const void> numbers;
  double rms = 0;
};

// What the chain asks of whoever called it. form may be called from any thread.
class Host : public Watcher {
 public:
  // The weights of a layer whose law is formed whole.
  virtual Formed form(std::size_t layer, std::uint64_t trial) = 0;

  // A layer's own function, or its derivative, of so many rows of x, in place. Only on the calling
  // thread.
  virtual void apply(std::int64_t layer, bool derivative, double* x, std::int64_t rows) = 0;
};

// The cost whose gradient goes back: its value falls out of nothing that is asked for.
struct Cost {
  enum class Loss { gaussian, mse, softmax_cross_entropy, bce };
  Loss loss = Loss::gaussian;
  Key key{};                             // of the cotangent, or of the targets that are drawn
  const void* targets = nullptr;         // (batch, width) in the run's dtype ...
  const std::int64_t* labels = nullptr;  // ... or (batch) numbers of classes
};

// What is taken of the signals, beside their mean and variance.
struct Wanted {
  bool powers = false;  // third and fourth moments and extremes
  bool histogram = false;
  bool correlation = false, gradient_correlation = false;
  std::optional<double> saturation;  // slopes under this are counted
};

struct Job {
  const Network& network;
  std::int64_t batch;
  const void* inputs;  // (batch, features) in the run's dtype; null draws standard normals
  double input_rms;
  std::int64_t first_trial, trials;
  std::optional<Cost> cost;  // none: forward only
  Wanted wanted;
  int threads;
  bool implicit = false;  // are weights never drawn, but what they do?
  bool by_trial = true;   // may whole trials run side by side? Costs memory, changes no bit.
  int kept = 0;           // layers whose pre-activations are kept for the way back; changes no bit
};

// Arrays of (trials, layers). True moments are mean * 2^exponent, variance * 4^exponent, m3 *
// 8^exponent ...; null for what is not wanted.
struct Observed {
  double *mean = nullptr, *variance = nullptr;
  std::int64_t* exponent = nullptr;
  double *m3 = nullptr, *m4 = nullptr, *minimum = nullptr, *maximum = nullptr;
  std::int64_t* histogram = nullptr;  // (trials, layers, kBins), zeros to begin with
  double* correlation = nullptr;
  double *saturation = nullptr, *zero_slope = nullptr, *dead = nullptr;
};

// Whole signals, for whom their moments are not enough: of a job of one trial, true values by
// layer; null where they are not asked for.
struct Whole {
  std::vector<double*> activations, gradients;  // (rows, width)
  double* input_gradients = nullptr;
  std::vector<double*> weight_gradients, bias_gradients;

  static double* of(const std::vector<double*>& signals, std::int64_t layer) {
    return signals.empty() ? nullptr : signals[static_cast<std::size_t>(layer)];
  }
};

struct Results {
  Observed preactivations, activations;
  Observed gradients, weight_gradients, bias_gradients;
  Observed input_gradients;  // of one layer
  // (trials): the first layer with a number outside the dtype's range, or -1
  std::int64_t* out_of_range = nullptr;
  Whole whole;
};

}  // namespace varprop
