// Forward propagation: X -> phi(X W + b), layer after layer, with the moments of every layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "control.hpp"
#include "network.hpp"

namespace varprop {

// A matrix formed whole: row-major (fan_in, width) in the run's dtype, and its root mean square.
struct Formed {
  std::shared_ptr<const void> numbers;
  double rms = 0;
};

// What the chain asks of whoever called it; form may be called from any thread.
class Host : public Watcher {
 public:
  // The weights of a layer whose law is formed whole.
  virtual Formed form(std::size_t layer, std::uint64_t trial) = 0;
};

struct Job {
  const Network& network;
  std::int64_t batch;
  const void* inputs;  // (batch, features) in the run's dtype; null draws standard normals
  double input_rms;
  std::int64_t first_trial, trials;
  int threads;
  bool by_trial;  // may whole trials run side by side? Costs memory, changes no bit.
  bool powers;    // also third and fourth moments and extremes
};

// Where results go: arrays of (trials, layers). True moments are mean * 2^exponent,
// variance * 4^exponent, m3 * 8^exponent ...
struct Observed {
  double *mean, *variance;
  std::int64_t* exponent;
  double *m3 = nullptr, *m4 = nullptr, *minimum = nullptr, *maximum = nullptr;
};

struct Results {
  Observed preactivations, activations;
  std::int64_t*
      out_of_range;  // (trials): first layer with a number outside the dtype's range, or -1
};

// T is float or double. Returns false when poll stopped it. Throws what form throws.
template <class T>
bool forward(const Job&, Host&, const Results&);

// Bytes of working memory that forward allocates.
template <class T>
std::int64_t forward_memory(const Job&);

}  // namespace varprop
