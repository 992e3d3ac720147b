// The way forward through a trial, layer after layer, with the moments of every layer; and the way
// to have a layer once more.
#pragma once

#include <cstdint>
#include <vector>

#include "chain/keep.hpp"
#include "chain/program.hpp"
#include "chain/room.hpp"
#include "chain/worker.hpp"

namespace varprop {

template <class T>
class Forward {
 public:
  Forward(Worker<T>& worker, const Program& program);

  // All layers. True where every number stayed in the range of T and the team is still at work.
  bool run();

  // What entered layer l, where the pre-activations of the layer before are at hand or nothing of
  // its unit is; to be given back to the room.
  Signal<T> entering(std::int64_t l);

  // Computes the layers inside the unit that ends with layer l again, where they are not kept.
  void open(std::int64_t l);

  // Layer l, as far as it is kept: its size and exponent always are.
  const Signal<T>& activations(std::int64_t l) const { return activations_[at(l + 1)]; }
  Signal<T> preactivations(std::int64_t l) const;
  void release(std::int64_t l);
  Room<T>& room() { return room_; }

  // From pre-activations to activations; the first number of the tile is at (row, column).
  void finish(const Layer&, std::int64_t row, std::int64_t column, const Tile<T>& y,
              const Tile<T>& x) const;

 private:
  struct Chunk;

  static std::size_t at(std::int64_t l) { return static_cast<std::size_t>(l); }
  T* place(std::int64_t l) const;
  void inputs();
  void activate(std::int64_t l);
  void step(std::int64_t l, bool seen);
  void imply(std::int64_t l, Plan<T>&, bool seen);
  void multiply(const Plan<T>&, T* y, T* x, bool seen);
  // True where it was a convolution that is done in its own way.
  bool convolve(const Plan<T>&, T* y, T* x, bool seen);
  void pass(std::int64_t l, const Plan<T>&, T* y, T* x, bool seen);
  void apply_again(std::int64_t l, const T* y, T* x, std::int64_t rows, std::int64_t stride);
  void make(const Plan<T>&, const T* biases, std::int64_t row, std::int64_t column,
            const Tile<T>& y) const;
  void retire(std::int64_t l);
  void look(std::int64_t l, const Plan<T>& plan, const T* y);
  void record_slopes(std::int64_t l, const Plan<T>& plan, const std::vector<Slopes>& chunks) const;

  Worker<T>& worker_;
  const Job& job_;
  Shared<T>& shared_;
  const Program& program_;
  bool whole_;              // are all layers kept?
  Keeper keeper_;           // else of the units that are
  std::int64_t open_ = -1;  // and the unit of which the inner layers are at hand
  Room<T> room_;
  std::vector<Signal<T>> activations_, preactivations_;  // of the inputs, then of every layer
};

}  // namespace varprop
