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
};

template <class T>
struct Worker {
  const Job& job;
  Host& host;
  const Results& results;
  Control& control;
  Shared<T>& shared;
  Panel<T>& panel;
  Member& member;
  std::int64_t trial = 0;
  const Kernels<T>& kernel = kernels<T>();
  Histogram histograms[3] = {};  // of the signals of a step: its own part
  std::vector<double> applied_[2]{};

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
    for (std::int64_t c = from; c < to; ++c) {
      if (control.stopped()) return;
      if (c % kPollChunks == 0) member.poll();
      const std::int64_t row = c * kChunkRows;
      const Tile<T> tile = rows_of(out, row, std::min<std::int64_t>(kChunkRows, rows - row));
      kernel.weigh(locate<T>(layer, back, row, in, tile.rows, nullptr, panel.seen()), column, m,
                   kBlockColumns, bias, tile);
      auto seen = see(c);
      each_group(out, rows, c, [&](std::int64_t i, const Tile<T>& group) { seen.add(i, group); });
      seen.done();
    }
  }
  static bool by_channels(const Layer& layer) {
    return layer.kind == Layer::Kind::conv && layer.groups == layer.in.channels &&
           layer.groups == layer.out.channels && layer.window.positions() <= Panel<T>::kMostRuns;
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
    std::vector<double>& numbers = applied_[derivative];
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

  // Mean cosine of the angle between two examples of the batch, those of zeros left out. An example
  // is as many rows of x as it has positions.
  double correlation(const T* x, std::int64_t stride, const Shape& shape, double scale) {
    const std::int64_t positions = shape.positions(), width = shape.channels;
    member.share(divide_up(job.batch, kChunkRows), [&](std::int64_t chunk) {
      const std::int64_t end = std::min(job.batch, (chunk + 1) * kChunkRows);
      for (std::int64_t i = chunk * kChunkRows; i < end; ++i) {
        double squares[kLanes] = {};
        for (std::int64_t row = i * positions; row < (i + 1) * positions; ++row) {
          for (std::int64_t j = 0; j < width; ++j) {
            const double number = static_cast<double>(x[row * stride + j]) * scale;
            squares[j % kLanes] += number * number;
          }
        }
        const double norm = std::sqrt(total(squares));
        shared.norms[static_cast<std::size_t>(i)] = norm > 0 ? scale / norm : 0;
      }
    });
    member.end();
    const auto positive = [](double norm) { return norm > 0; };
    const std::int64_t blocks = divide_up(width, kBlockColumns);
    member.share(blocks, [&](std::int64_t block) {
      const std::int64_t column = block * kBlockColumns;
      const std::int64_t columns = std::min<std::int64_t>(kBlockColumns, width - column);
      double squares = 0;
      for (std::int64_t position = 0; position < positions; ++position) {
        double sums[kBlockColumns] = {};
        for (std::int64_t i = 0; i < job.batch; ++i) {
          const double factor = shared.norms[static_cast<std::size_t>(i)];
          const T* const row = x + (i * positions + position) * stride + column;
          for (std::int64_t j = 0; j < columns; ++j) {
            sums[j] += static_cast<double>(row[j]) * factor;
          }
        }
        for (std::int64_t j = 0; j < columns; ++j) squares += sums[j] * sums[j];
      }
      shared.parts[static_cast<std::size_t>(block)] = squares;
      if (block == 0)
        shared.alive = std::count_if(shared.norms.begin(), shared.norms.end(), positive);
    });
    member.end();
    // Norms may be written anew from here on; the rest only after the next step.
    double squares = 0;
    for (std::int64_t block = 0; block < blocks; ++block) {
      squares += shared.parts[static_cast<std::size_t>(block)];
    }
    const auto alive = static_cast<double>(shared.alive);
    return alive < 2 ? std::numeric_limits<double>::quiet_NaN()
                     : (squares - alive) / (alive * (alive - 1));
  }
};

}  // namespace varprop
