// The way forward through a trial: X -> phi(X W + b), layer after layer, with the moments of every
// layer; and the way to have a layer once more.
#pragma once

#include <cstdint>
#include <vector>

#include "chain/keep.hpp"
#include "chain/worker.hpp"

namespace varprop {

template <class T>
class Forward {
 public:
  explicit Forward(Worker<T>& worker)
      : worker_(worker),
        job_(worker.job),
        shared_(worker.shared),
        keeper_(worker.job.network.layers.size(), worker.job.kept),
        signals_(worker.job.network.layers.size()) {}

  // All layers. True where every number stayed in the range of T and the team is still at work.
  bool run();

  // What entered layer l, in one of two buffers that are free; Y of the layer before is kept.
  Signal<T> entering(std::int64_t l, T* one, T* other);

  // Signal sizes, and what is kept: pre-activations.
  const Signal<T>& activations(std::int64_t l) const { return signals_[at(l)]; }
  const T* preactivations(std::int64_t l) const { return shared_.kept[at(keeper_.place(l))]; }
  void release(std::int64_t l) { keeper_.release(l); }

 private:
  struct Chunk;

  static std::size_t at(std::int64_t l) { return static_cast<std::size_t>(l); }
  Signal<T> inputs(T* buffer);
  Signal<T> activate(std::int64_t l, T* buffer);
  Signal<T> step(std::int64_t l, const Signal<T>& in, T* out, bool seen);
  void look(std::int64_t l, const Plan<T>& plan, const T* y, Signal<T>& out);
  void record_slopes(std::int64_t l, const Plan<T>& plan, const std::vector<Slopes>& chunks) const;
  static void activate_tile(const Layer&, const Tile<T>& y, const Tile<T>& x);

  Worker<T>& worker_;
  const Job& job_;
  Shared<T>& shared_;
  Keeper keeper_;
  std::vector<Signal<T>> signals_;
};

}  // namespace varprop
