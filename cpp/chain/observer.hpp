// The moments of one chunk: taken tile by tile while it is hot, before and after the activation.
#pragma once

#include <optional>

#include "chain/plan.hpp"
#include "isa.hpp"
#include "moments.hpp"

namespace varprop {

struct Chunk {
  Moments pre, act;
  Moments pre_powers, act_powers;  // with third and fourth moments and extremes, where asked for

  // Those of a linear layer's activations are not kept chunk by chunk.
  void merge(const Chunk& other) {
    pre.merge(other.pre);
    pre_powers.merge(other.pre_powers);
    act.merge(other.act);
    act_powers.merge(other.act_powers);
  }
};

template <class T>
class Observer {
 public:
  Observer(const Plan<T>& plan, bool powers) : plan_(plan), powers_(powers) {}

  // Turns a tile of pre-activations into activations. The first tile of a chunk sets the pivots.
  void finish(const Tile<T>& tile) {
    pre_.add(tile, plan_.pre_scale, powers_);
    if (plan_.linear) return;
    kernels<T>().activate(plan_.layer.activation, static_cast<T>(plan_.layer.parameter), tile);
    act_.add(tile, plan_.act_scale, powers_);
  }

  void write(Chunk& chunk) const {
    pre_.write(chunk.pre, chunk.pre_powers);
    act_.write(chunk.act, chunk.act_powers);
  }

 private:
  struct Side {
    double count = 0;
    T pivot = 0;
    Lanes lanes{};
    std::optional<PowerLanes> power_lanes;

    void add(const Tile<T>& tile, T scale, bool powers) {
      if (count == 0) {
        pivot = kernels<T>().pivot(tile, scale);
        if (powers) power_lanes = empty_power_lanes();
      }
      kernels<T>().observe(tile, scale, pivot, lanes);
      if (powers) {
        kernels<T>().observe_powers(tile, static_cast<double>(scale), static_cast<double>(pivot),
                                    *power_lanes);
      }
      count += tile.rows * tile.columns;
    }

    void write(Moments& moments, Moments& powers) const {
      moments = powers = Moments();
      if (count == 0) return;
      moments = from_sums(count, static_cast<double>(pivot), lanes);
      if (power_lanes) powers = from_sums(count, static_cast<double>(pivot), *power_lanes);
    }
  };

  const Plan<T>& plan_;
  bool powers_;
  Side pre_, act_;
};

}  // namespace varprop
