// What is taken of a signal, tile by tile while it is hot.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "chain/histogram.hpp"
#include "chain/job.hpp"
#include "isa.hpp"
#include "moments.hpp"

namespace varprop {

// The moments of a chunk, or of several.
struct Taken {
  Variance moments;
  Moments powers;  // where wanted

  void merge(const Taken& other) {
    moments.merge(other.moments);
    powers.merge(other.powers);
  }
  // Root of the mean of the squares.
  double rms() const { return std::sqrt(moments.m2 / moments.count + moments.mean * moments.mean); }
};

inline Taken unknown() {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const Variance moments{1, nan, nan};
  return {moments, {moments, nan, nan, nan, nan}};
}

// What was taken of the chunks of a signal: next to each other, as every member reads them all.
class Chunks {
 public:
  Chunks() = default;
  Chunks(std::size_t count, bool powers) : moments_(count), powers_(powers ? count : 0) {}

  static std::size_t bytes(std::size_t count, bool powers) {
    return count * (sizeof(Variance) + powers * sizeof(Moments));
  }

  void put(std::int64_t chunk, const Taken& taken) {
    const auto at = static_cast<std::size_t>(chunk);
    moments_[at] = taken.moments;
    if (!powers_.empty()) powers_[at] = taken.powers;
  }

  // The first of them, in their order.
  Taken merged(std::int64_t count) const {
    const auto end = static_cast<std::size_t>(count);
    Variance moments;  // in registers
    for (std::size_t c = 0; c < end; ++c) moments.merge(moments_[c]);
    Moments powers;
    for (std::size_t c = 0; c < std::min(end, powers_.size()); ++c) powers.merge(powers_[c]);
    return {moments, powers};
  }

 private:
  std::vector<Variance> moments_;
  std::vector<Moments> powers_;
};

// Takes the moments of one chunk of numbers, times a scale. The first tile sets the pivot.
template <class T>
class Observer {
 public:
  Observer(const Wanted& wanted, T scale, Histogram& histogram)
      : wanted_(wanted), scale_(scale), histogram_(histogram) {}

  void add(const Tile<T>& tile) {
    if (count_ == 0) {
      pivot_ = kernels<T>().pivot(tile, scale_);
      if (wanted_.powers) power_lanes_ = empty_power_lanes();
    }
    kernels<T>().observe(tile, scale_, pivot_, lanes_);
    if (wanted_.powers) {
      kernels<T>().observe_powers(tile, static_cast<double>(scale_), static_cast<double>(pivot_),
                                  *power_lanes_);
    }
    if (wanted_.histogram) varprop::count(tile, scale_, histogram_);
    count_ += tile.rows * tile.columns;
  }

  Taken taken() const {
    const auto pivot = static_cast<double>(pivot_);
    if (count_ == 0) return {};
    return {from_sums(count_, pivot, lanes_),
            power_lanes_ ? from_sums(count_, pivot, *power_lanes_) : Moments()};
  }

 private:
  const Wanted& wanted_;
  T scale_;
  Histogram& histogram_;
  double count_ = 0;
  T pivot_ = 0;
  Lanes lanes_{};
  std::optional<PowerLanes> power_lanes_;
};

}  // namespace varprop
