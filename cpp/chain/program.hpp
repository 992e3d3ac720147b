// How the layers of a network hang together: what stands on its own, and what is needed until when.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "network.hpp"

namespace varprop {

struct Program {
  // Layers from which the rest can go on with nothing else known end a unit: every layer that is
  // in no residual, and the joins that are in no other.
  struct Unit {
    std::int64_t first, last;
  };
  std::vector<Unit> units;
  std::vector<std::int64_t> unit;      // the number of a layer's unit
  std::vector<std::int64_t> last_use;  // of the inputs, then of every layer's activations
  std::int64_t aside = 0;              // signals, or gradients, that wait for a join at the most
  std::int64_t inner = 0;              // layers of a unit beside its last, at the most
  // Of every layer, which of the weights and of the biases are its own; -1 for none.
  std::vector<std::int64_t> weight, bias;
  std::int64_t weights = 0, biases = 0;

  explicit Program(const Network& network) {
    const auto count = static_cast<std::int64_t>(network.layers.size());
    unit.resize(network.layers.size());
    for (std::int64_t l = 0; l <= count; ++l) last_use.push_back(l);
    for (const Layer& layer : network.layers) {
      weight.push_back(layer.has_weight() ? weights++ : -1);
      bias.push_back(layer.has_bias ? biases++ : -1);
    }
    std::vector<std::int64_t> waiting(network.layers.size() + 1);
    for (std::int64_t l = count - 1; l >= 0;) {
      const Layer& top = network.layers[static_cast<std::size_t>(l)];
      const std::int64_t first = top.kind == Layer::Kind::join ? top.skip + 1 : l;
      units.push_back({first, l});
      inner = std::max(inner, l - first);
      for (std::int64_t i = first; i <= l; ++i) {
        unit[static_cast<std::size_t>(i)] = static_cast<std::int64_t>(units.size()) - 1;
        const Layer& layer = network.layers[static_cast<std::size_t>(i)];
        if (layer.kind != Layer::Kind::join) continue;
        std::int64_t& last = last_use[static_cast<std::size_t>(layer.skip + 1)];
        last = std::max(last, i);
        for (std::int64_t k = layer.skip + 1; k <= i; ++k) {
          aside = std::max(aside, ++waiting[static_cast<std::size_t>(k)]);
        }
      }
      l = first - 1;
    }
    std::reverse(units.begin(), units.end());
    for (std::int64_t& u : unit) u = static_cast<std::int64_t>(units.size()) - 1 - u;
  }

  const Unit& unit_of(std::int64_t l) const {
    return units[static_cast<std::size_t>(unit[static_cast<std::size_t>(l)])];
  }
};

}  // namespace varprop
