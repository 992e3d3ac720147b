// Which layers are kept for the way back: all where there is room, else checkpoints between which
// the others are computed again, placed by the binomial rule of Griewank and Walther (2000).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace varprop {

class Keeper {
 public:
  Keeper(std::size_t layers, int places) : place_(layers, -1) {
    for (int place = places; place-- > 0;) free_.push_back(place);
  }

  // Where a layer is kept, or -1.
  int place(std::int64_t layer) const { return place_[static_cast<std::size_t>(layer)]; }

  // The last layer before `to` that is kept, or -1: what to start from.
  std::int64_t before(std::int64_t to) const {
    while (--to >= 0 && place(to) < 0) continue;
    return to;
  }

  // Gives out places for the layers after `from` up to `to`, which is always kept: those from
  // which the way back to `from` computes the fewest again.
  void plan(std::int64_t from, std::int64_t to) {
    while (from < to) {
      const auto spare = static_cast<std::int64_t>(free_.size()) - 1;
      from += spare >= to - from - 1 ? 1 : spare == 0 ? to - from : stride(to - from, spare);
      place_[static_cast<std::size_t>(from)] = free_.back();
      free_.pop_back();
    }
  }

  void release(std::int64_t layer) {
    free_.push_back(place(layer));
    place_[static_cast<std::size_t>(layer)] = -1;
  }

 private:
  // Layers to the next checkpoint, where `layers` are to be gone back over from `places` of them:
  // with each computed at most t times, (places + t choose t) can be.
  static std::int64_t stride(std::int64_t layers, std::int64_t places) {
    double reach = 1;
    std::int64_t t = 0;
    while (reach < static_cast<double>(layers)) {
      ++t;
      reach *= static_cast<double>(places + t) / static_cast<double>(t);
    }
    const double beyond = reach * static_cast<double>(places) / static_cast<double>(places + t);
    return std::clamp<std::int64_t>(layers - static_cast<std::int64_t>(beyond), 1, layers - 1);
  }

  std::vector<int> place_;
  std::vector<int> free_;
};

}  // namespace varprop
