// One thread at work on a trial, on its own or as a member of a team: the walk over the blocks of a
// product, which the way forward and the way back share.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "chain/buffer.hpp"
#include "chain/implicit.hpp"
#include "chain/observer.hpp"
#include "chain/panel.hpp"
#include "chain/plan.hpp"
#include "chain/slopes.hpp"
#include "chain/team.hpp"
#include "isa.hpp"

namespace varprop {

// What the members of a team share.
template <class T>
struct Shared {
  Buffer<T> memory;      // of all signals
  std::vector<T*> work;  // those that come and go
  T* aside;              // pre-activations that are not kept, but looked at
  std::vector<T*> kept;  // pre-activations
  Chunks chunks[2][2];   // of up to two signals, by the step's parity
  std::vector<Slopes> slopes[2];
  Chunks biases[2];
  std::vector<double> norms, parts;    // of correlations: of examples, and sums of blocks
  std::int64_t alive = 0;              // examples that are not zero
  std::vector<double> centre, factor;  // of rows or columns that are normalized ...
  std::vector<double> mean, along;     // ... and of the gradient that comes back to them
  Formed formed;
  Implicit<T> implicit;
};

template <class T>
struct Worker {
  const Job& job;
  Host& host;
  const Results& results;
  Control& control;
  Shared<T>& shared;
  Panel<T>& panel;
  double* strip;  // of rows of doubles, where weights are implicit
  Member& member;
  std::int64_t trial = 0;
  const Kernels<T>& kernel = kernels<T>();
  Histogram histograms[3] = {};           // of the signals of a step: its own part
  std::vector<double> host_numbers[2]{};  // values and slopes of a function of the host's

  // Looking at the clock costs: once in so many chunks is often enough.
  static constexpr std::int64_t kPollChunks = 64;

  std::uint64_t trial_number() const { return static_cast<std::uint64_t>(job.first_trial + trial); }
  std::int64_t layers() const { return static_cast<std::int64_t>(job.network.layers.size()); }
  const Layer& layer(std::int64_t l) const {
    return job.network.layers[static_cast<std::size_t>(l)];
  }

  Matrix<T> matrix(std::int64_t l) {
    const Tensor& weight = layer(l).weight;
    if (weight.source != Tensor::Source::formed) {
      return {static_cast<const T*>(weight.given), weight.rms};
    }
    member.barrier();  // nobody reads the matrix before
    if (member.first()) {
      control.guard([&] {
        shared.formed = {};  // a smaller one must not be read where forming this fails
        shared.formed = host.form(static_cast<std::size_t>(l), trial_number());
      });
    }
    member.barrier();
    return {static_cast<const T*>(shared.formed.numbers.get()), shared.formed.rms};
  }

  // Chunks [from, to) of the rows of X M + bias in one block of columns. `left(row, rows, k,
  // count)` returns a part of X, `get(k, rows)` rows of M; what `see(chunk)` returns is shown the
  // groups of rows that share their sums, as soon as the chunk is whole: add(row, tile), then
  // done().
  template <class Left, class Get, class See>
  void multiply(Left left, std::int64_t depth, const T* bias, const Tile<T>& out, std::int64_t rows,
                std::int64_t from, std::int64_t to, Get get, See see) {
    // Panels of even height, in whole groups of the generator's rows.
    const std::int64_t panels = divide_up(depth, kPanelRows<T>);
    const std::int64_t height = divide_up(divide_up(depth, panels), 4) * 4;
    for (std::int64_t k = 0; k < depth; k += height) {
      const std::int64_t part = std::min(height, depth - k);
      const T* const m = get(k, part);
      // each_chunk and show by hand: through their calls the chain takes 3% longer.
      for (std::int64_t c = from; c < to; ++c) {
        if (control.stopped()) return;
        if (c % kPollChunks == 0) member.poll();
        const std::int64_t row = c * kChunkRows;
        const Tile<T> tile = rows_of(out, row, std::min<std::int64_t>(kChunkRows, rows - row));
        kernel.multiply(left(row, tile.rows, k, part), m, kBlockColumns, static_cast<int>(part),
                        k == 0, bias, tile);
        if (k + part < depth) continue;
        auto seen = see(c);
        each_group(out, rows, c, [&](std::int64_t i, const Tile<T>& group) { seen.add(i, group); });
        seen.done();
      }
    }
  }

  // The same of a layer with a group for each channel: few terms, read from `in` where they are,
  // and m their weights in the block.
  template <class See>
  void multiply_channels(const Layer& layer, bool back, const Signal<T>& in, const T* m,
                         const T* bias, std::int64_t column, const Tile<T>& out, std::int64_t rows,
                         std::int64_t from, std::int64_t to, See see) {
    each_chunk(out, rows, from, to, [&](std::int64_t c, std::int64_t row, const Tile<T>& tile) {
      kernel.weigh(locate<T>(layer, back, row, in, tile.rows, nullptr, panel.seen()), column, m,
                   kBlockColumns, bias, tile);
      show(out, rows, c, see(c));
    });
  }

  // A part of what a layer multiplies: rows of a signal, or of an image's patches.
  View<T> left(const Layer& layer, const Groups& groups, bool back, const Signal<T>& from,
               std::int64_t row, std::int64_t rows, std::int64_t k, std::int64_t count) const {
    if (layer.kind == Layer::Kind::dense) {
      return {from.x + row * from.stride + k, from.stride, 1};
    }
    gather(layer, groups, back, from, row, rows, k, count, panel.patches(), count, panel.seen());
    return {panel.patches(), count, 1};
  }

  // The values of a layer's own function, or of its derivative, at some rows of x; they stay until
  // the next call. By the first member alone.
  const double* applied(std::int64_t l, bool derivative, const T* x, std::int64_t stride,
                        std::int64_t rows) {
    const std::int64_t width = layer(l).width();
    std::vector<double>& numbers = host_numbers[derivative];
    numbers.resize(static_cast<std::size_t>(rows * width));
    for (std::int64_t i = 0; i < rows; ++i) {
      std::copy_n(x + i * stride, width, numbers.data() + i * width);
    }
    control.guard([&] { host.apply(l, derivative, numbers.data(), rows * width); });
    return numbers.data();
  }

  // Rows row, row + 1, ... of a tile.
  static Tile<T> rows_of(const Tile<T>& tile, std::int64_t row, std::int64_t rows) {
    return {tile.data + row * tile.stride, tile.stride, static_cast<int>(rows), tile.columns};
  }

  // Calls action(chunk, row, tile) for chunks [from, to) of the rows of `out`, as long as the job
  // is not stopped.
  template <class Action>
  void each_chunk(const Tile<T>& out, std::int64_t rows, std::int64_t from, std::int64_t to,
                  Action action) {
    for (std::int64_t c = from; c < to && !control.stopped(); ++c) {
      if (c % kPollChunks == 0) member.poll();
      const std::int64_t row = c * kChunkRows;
      action(c, row, rows_of(out, row, std::min<std::int64_t>(kChunkRows, rows - row)));
    }
  }

  // Shows a chunk to what looks at it: add(row, tile) for every group of rows, then done().
  template <class Seen>
  static void show(const Tile<T>& out, std::int64_t rows, std::int64_t chunk, Seen seen) {
    each_group(out, rows, chunk,
               [&](std::int64_t row, const Tile<T>& group) { seen.add(row, group); });
    seen.done();
  }

  // The groups of rows of a chunk that share their sums; out's first row is that of chunk 0.
  template <class Action>
  static void each_group(const Tile<T>& out, std::int64_t rows, std::int64_t chunk, Action action) {
    const std::int64_t end = std::min(rows, (chunk + 1) * kChunkRows);
    for (std::int64_t i = chunk * kChunkRows; i < end; i += kGroupRows) {
      action(i, rows_of(out, i, std::min<std::int64_t>(kGroupRows, end - i)));
    }
  }

  // The columns of a block, as a tile of unstated height.
  static Tile<T> block_of(T* x, std::int64_t stride, std::int64_t width, std::int64_t block) {
    const std::int64_t column = block * kBlockColumns;
    return {x + column, stride, 0,
            static_cast<int>(std::min<std::int64_t>(kBlockColumns, width - column))};
  }

  // Standard normals, rows [row, row + rows) of a matrix of the batch.
  void draw_normals(const Key& key, std::int64_t row, std::int64_t rows, std::int64_t width, T* x,
                    std::int64_t stride) const {
    const Draw normal{.distribution = Draw::Distribution::normal, .std = 1};
    kernel.draw(make_recipe<T>(normal, key, trial_number()), Rectangle{row, rows, 0, width, 1}, x,
                stride, true);
  }

  // Writes what was taken of layer l's signal, of so many layers; exponent is that of its unit.
  void record(const Observed& to, std::int64_t l, std::int64_t of, const Taken& taken,
              int exponent) const {
    const std::int64_t at = trial * of + l;
    const bool known = taken.moments.finite();
    to.mean[at] = taken.moments.mean;
    to.variance[at] = taken.moments.m2 / taken.moments.count;
    to.exponent[at] = known ? exponent : 0;
    if (to.m4) {
      to.m3[at] = taken.powers.m3 / taken.powers.count;
      to.m4[at] = taken.powers.m4 / taken.powers.count;
      to.minimum[at] = taken.powers.minimum;
      to.maximum[at] = taken.powers.maximum;
    }
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    if (known) return;
    if (to.histogram) std::fill_n(to.histogram + at * kBins, kBins, std::int64_t{0});
    for (double* const share : {to.correlation, to.saturation, to.zero_slope, to.dead}) {
      if (share) share[at] = nan;
    }
  }

  // Copies a part of a signal that is wanted whole; `to` is where its first number goes.
  static void copy(const Tile<T>& tile, int exponent, double* to, std::int64_t row_step,
                   std::int64_t column_step = 1) {
    for (int i = 0; i < tile.rows; ++i) {
      const T* const from = tile.data + i * tile.stride;
      for (int j = 0; j < tile.columns; ++j) {
        to[i * row_step + j * column_step] = std::ldexp(static_cast<double>(from[j]), exponent);
      }
    }
  }

  // The whole signal, a step of the team.
  void copy_rows(const Signal<T>& x, std::int64_t rows, std::int64_t width, double* to) {
    member.share(divide_up(rows, kChunkRows), [&](std::int64_t chunk) {
      const std::int64_t row = chunk * kChunkRows;
      const auto count = static_cast<int>(std::min<std::int64_t>(kChunkRows, rows - row));
      const Tile<T> tile{const_cast<T*>(x.x) + row * x.stride, x.stride, count,
                         static_cast<int>(width)};  // only read
      copy(tile, x.exponent, to + row * width, width);
    });
    member.end();
  }

  // Is the job stopped? For what a member does alone for long.
  bool stopped() const {
    member.poll();
    return control.stopped();
  }

  void out_of_range(std::int64_t l) const {
    if (results.out_of_range[trial] < 0) results.out_of_range[trial] = l;
  }

  // Adds this worker's part of a layer's histogram to the whole; counts know no order.
  void flush(const Observed& to, std::int64_t l, std::int64_t of, Histogram& own) const {
    if (!to.histogram) return;
    std::int64_t* const whole = to.histogram + (trial * of + l) * kBins;
    for (int bin = 0; bin < kBins; ++bin) {
      if (own[bin]) std::atomic_ref(whole[bin]).fetch_add(own[bin], std::memory_order_relaxed);
      own[bin] = 0;
    }
  }
};

}  // namespace varprop
