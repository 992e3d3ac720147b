#include "chain/backward.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "chain/chunk.hpp"
#include "chain/correlation.hpp"
#include "chain/cost.hpp"

namespace varprop {
namespace {

template <class T>
void multiply_by(T factor, const Tile<T>& tile) {
  for (int i = 0; i < tile.rows; ++i) {
    for (int j = 0; j < tile.columns; ++j) tile.data[i * tile.stride + j] *= factor;
  }
}

}  // namespace

template <class T>
void Backward<T>::run() {
  std::int64_t l = worker_.layers() - 1;
  Signal<T> gradient = cost();
  for (; l >= 0 && std::isfinite(gradient.rms); --l) {
    if (worker_.member.leaving()) return;
    gradient = step(l, gradient);
  }
  if (!worker_.member.leaving()) record_unknown(worker_, program_, l);
}

template <class T>
void Backward<T>::record_unknown(const Worker<T>& worker, const Program& program,
                                 std::int64_t last) {
  if (last < 0 || !worker.member.first()) return;
  const Results& to = worker.results;
  for (std::int64_t l = last; l >= 0; --l) {
    const auto at = static_cast<std::size_t>(l);
    worker.record(to.gradients, l, worker.layers(), unknown(), 0);
    if (program.weight[at] >= 0) {
      worker.record(to.weight_gradients, program.weight[at], program.weights, unknown(), 0);
    }
    if (program.bias[at] >= 0) {
      worker.record(to.bias_gradients, program.bias[at], program.biases, unknown(), 0);
    }
    worker.control.step_done();
  }
  worker.record(to.input_gradients, 0, 1, unknown(), 0);
}

// The gradient of the cost by the last pre-activations.
template <class T>
Signal<T> Backward<T>::cost() {
  const std::int64_t last = worker_.layers() - 1;
  const Place to = place(last);
  const std::int64_t width = to.shape.channels, stride = row_stride(width);
  T* const gradient = forward_.room().take();
  const CostGradient<T> by_activations(worker_, forward_.activations(last));
  const std::size_t parity = worker_.member.parity();
  worker_.member.share(to.chunks, [&](std::int64_t chunk) {
    const std::int64_t row = chunk * kChunkRows;
    by_activations.write(row, std::min<std::int64_t>(kChunkRows, to.rows - row),
                         gradient + row * stride, stride);
    for (std::int64_t block = 0; block < to.blocks; ++block) {
      Worker<T>::show(Worker<T>::block_of(gradient, stride, width, block), to.rows, chunk,
                      Chunk(*this, last, by_activations.exponent(), T{1}, block, chunk,
                            by_activations.by_preactivations()));
    }
  });
  end(last);
  forward_.room().give(forward_.activations(last).x);
  if (worker_.member.leaving()) return {gradient, stride, 0, 0};
  const Signal<T> seen = worker_.layer(last).takes_rows()
                             ? through(last, gradient, by_activations.exponent(), 0)
                             : look(last, gradient, by_activations.exponent(), 0, parity);
  forward_.release(last);
  forward_.open(last);
  return seen;
}

// From the gradient by the pre-activations of layer l to those by its weights, by its biases, and
// by the pre-activations of the layer below or the inputs.
template <class T>
Signal<T> Backward<T>::step(std::int64_t l, const Signal<T>& gradient) {
  Member& member = worker_.member;
  const Layer& layer = worker_.layer(l);
  Room<T>& room = forward_.room();
  Signal<T> in = forward_.activations(l - 1);
  const bool missing = l > 0 && !forward_.preactivations(l - 1).x;
  if (layer.has_weight() || missing) in = forward_.entering(l);
  if (!layer.has_weight() && missing) room.give(in.x);
  if (member.leaving()) return gradient;
  const BackwardPlan<T> plan = make_backward_plan<T>(
      layer, gradient, in, worker_.matrix(l), beside(l - 1), job_.batch, worker_.trial_number());
  const bool implicit = job_.implicit && layer.has_weight();
  if (implicit) imply(plan, l);
  T* const out = room.take();
  const std::size_t parity = member.parity();
  if (implicit) {
    multiply_implied(plan, l, out);
  } else if (layer.has_weight()) {
    multiply(plan, l, out);
  } else {
    pass(plan, l, out);
  }
  const auto at = static_cast<std::size_t>(l);
  if (program_.weight[at] >= 0) {
    worker_.flush(worker_.results.weight_gradients, program_.weight[at], program_.weights,
                  worker_.histograms[1]);
  }
  if (program_.bias[at] >= 0) {
    worker_.flush(worker_.results.bias_gradients, program_.bias[at], program_.biases,
                  worker_.histograms[2]);
  }
  end(l - 1);
  if (layer.has_weight()) room.give(in.x);
  give_skips(l - 1);
  if (layer.kind == Layer::Kind::join) {
    skips_.push_back({layer.skip, gradient, layer.skip_scale});
  } else {
    room.give(gradient.x);
  }
  if (member.leaving()) return gradient;
  if (member.first()) record_parameters(plan, l, parity);
  const Signal<T> below = l > 0 && worker_.layer(l - 1).takes_rows()
                              ? through(l - 1, out, plan.exponent, plan.unit)
                              : look(l - 1, out, plan.exponent, plan.unit, parity);
  if (l > 0) {
    forward_.release(l - 1);
    forward_.open(l - 1);
  }
  return below;
}

template <class T>
void Backward<T>::multiply(const BackwardPlan<T>& plan, std::int64_t l, T* out) {
  // Tasks are blocks of the gradient by what entered, all rows or some, then pieces of that by the
  // weights.
  const Layer& layer = plan.layer;
  const Member& member = worker_.member;
  const Place to = place(l - 1);
  const std::int64_t parts =
      to.blocks < 2 * member.count() ? std::min<std::int64_t>(member.count(), to.chunks) : 1;
  const std::int64_t groups = divide_up(layer.fan_in(), kProductRows);
  const std::int64_t pieces = groups * divide_up(layer.width(), kBlockColumns);
  member.share(to.blocks * parts + pieces, [&](std::int64_t task) {
    if (task < to.blocks * parts) {
      const std::int64_t part = task % parts;
      back(plan, l, out, task / parts, to.chunks * part / parts, to.chunks * (part + 1) / parts);
    } else {
      const std::int64_t piece = task - to.blocks * parts;
      multiply_parameters(plan, l, piece / groups, piece % groups);
    }
  });
}

// Chunks [from, to) of rows of the gradient by what entered, in a block of columns.
template <class T>
void Backward<T>::back(const BackwardPlan<T>& plan, std::int64_t l, T* out, std::int64_t block,
                       std::int64_t from, std::int64_t to) {
  const std::int64_t stride = row_stride(plan.layer.in.channels), column = block * kBlockColumns;
  const Tile<T> tile = Worker<T>::block_of(out, stride, plan.layer.in.channels, block);
  const auto see = [&](std::int64_t chunk) {
    return Chunk(*this, l - 1, plan.exponent, plan.scale, block, chunk);
  };
  if (by_channels(plan.layer)) {
    return worker_.multiply_channels(plan.layer, true, plan.gradient,
                                     worker_.panel.of_channels(plan, column, tile.columns), nullptr,
                                     column, tile, place(l - 1).rows, from, to, see);
  }
  const Groups groups(plan.layer, true, column, tile.columns);
  worker_.multiply(
      [&](std::int64_t row, std::int64_t rows, std::int64_t k, std::int64_t count) {
        return worker_.left(plan.layer, groups, true, plan.gradient, row, rows, k, count);
      },
      groups.depth(), nullptr, tile, place(l - 1).rows, from, to,
      [&](std::int64_t k, std::int64_t rows) {
        return worker_.panel.transposed(plan, k, rows, column, tile.columns);
      },
      see);
}

// The size of the gradients that come to layer l by skips.
template <class T>
Size Backward<T>::beside(std::int64_t l) const {
  Size sum;
  for (const Skip& skip : skips_) {
    if (skip.to == l) sum = sum + std::abs(skip.scale) * skip.gradient.size();
  }
  return sum;
}

template <class T>
void Backward<T>::add_skips(std::int64_t l, int exponent, std::int64_t row, std::int64_t column,
                            const Tile<T>& gradient) const {
  for (const Skip& skip : skips_) {
    if (skip.to != l || skip.gradient.rms == 0) continue;
    const Signal<T>& more = skip.gradient;
    const T factor = static_cast<T>(std::ldexp(skip.scale, more.exponent - exponent));
    for (int i = 0; i < gradient.rows; ++i) {
      const T* const from = more.x + (row + i) * more.stride + column;
      T* const to = gradient.data + i * gradient.stride;
      for (int j = 0; j < gradient.columns; ++j) to[j] += from[j] * factor;
    }
  }
}

template <class T>
void Backward<T>::give_skips(std::int64_t l) {
  std::erase_if(skips_, [&](const Skip& skip) {
    if (skip.to == l) forward_.room().give(skip.gradient.x);
    return skip.to == l;
  });
}

template <class T>
typename Backward<T>::Place Backward<T>::place(std::int64_t l) const {
  const Results& to = worker_.results;
  const Shape& shape = l < 0 ? worker_.layer(0).in : worker_.layer(l).out;
  const std::int64_t rows = job_.batch * shape.positions();
  return {l < 0 ? to.input_gradients : to.gradients,
          l < 0 ? 0 : l,
          l < 0 ? 1 : worker_.layers(),
          shape,
          rows,
          divide_up(shape.channels, kBlockColumns),
          divide_up(rows, kChunkRows)};
}

// Ends a step in which it was seen.
template <class T>
void Backward<T>::end(std::int64_t l) {
  const Place to = place(l);
  worker_.flush(to.observed, to.layer, to.layers, worker_.histograms[0]);
  worker_.member.end();
}

// Writes down what was seen of it. Slopes far below 1 leave small numbers, which are brought near 1
// and looked at again.
template <class T>
Signal<T> Backward<T>::look(std::int64_t l, T* gradient, int exponent, int unit,
                            std::size_t parity) {
  constexpr int kStep = std::numeric_limits<T>::max_exponent / 2 - 4, kTimes = 3;
  constexpr double kSmall = 0x1p-8;
  Member& member = worker_.member;
  const Place to = place(l);
  const std::int64_t count = to.blocks * to.chunks;
  Taken taken = shared_.chunks[0][parity].merged(count);
  const int before = exponent;
  for (int times = 0; times < kTimes && taken.rms() < kSmall; ++times) {
    // Squares that underflow hide how small the numbers are.
    const int shift = taken.rms() > 0 ? std::min(-exponent_of(taken.rms()), kStep) : kStep;
    exponent -= shift;
    const std::size_t next = member.parity();
    lift(to, gradient, shift, unit);
    end(l);
    if (member.leaving()) break;
    taken = shared_.chunks[0][next].merged(count);
  }
  if (taken.rms() == 0) exponent = before;  // zeros are not small
  if (!taken.moments.finite()) taken = unknown();
  if (member.first()) {
    if (!taken.moments.finite()) worker_.out_of_range(to.layer);
    worker_.record(to.observed, to.layer, to.layers, taken, exponent + unit);
  }
  const std::int64_t stride = row_stride(to.shape.channels);
  double* const whole =
      l < 0 ? worker_.results.whole.input_gradients : Whole::of(worker_.results.whole.gradients, l);
  if (whole) worker_.copy_rows({gradient, stride, 0, exponent}, to.rows, to.shape.channels, whole);
  if (to.observed.correlation && taken.moments.finite()) {
    const double found = correlation(worker_, gradient, stride, to.shape, std::ldexp(1.0, -unit));
    if (member.first()) {
      to.observed.correlation[worker_.trial * to.layers + to.layer] = found;
    }
  }
  return {gradient, stride, std::ldexp(taken.rms(), unit), exponent};
}

// Multiplies a gradient by a power of two, to see it anew.
template <class T>
void Backward<T>::lift(const Place& to, T* gradient, int shift, int unit) {
  Member& member = worker_.member;
  if (member.first() && to.observed.histogram) {
    std::int64_t* const bins =
        to.observed.histogram + (worker_.trial * to.layers + to.layer) * kBins;
    std::fill_n(bins, kBins, std::int64_t{0});
  }
  member.barrier();  // before any new count
  Chunks& taken = shared_.chunks[0][member.parity()];
  member.share(to.blocks, [&](std::int64_t block) {
    const Tile<T> tile =
        Worker<T>::block_of(gradient, row_stride(to.shape.channels), to.shape.channels, block);
    for (std::int64_t chunk = 0; chunk < to.chunks; ++chunk) {
      Observer<T> observer(job_.wanted, std::ldexp(T{1}, -unit), worker_.histograms[0]);
      Worker<T>::each_group(tile, to.rows, chunk, [&](std::int64_t, const Tile<T>& group) {
        multiply_by(std::ldexp(T{1}, shift), group);
        observer.add(group);
      });
      taken.put(block * to.chunks + chunk, observer.taken());
    }
  });
}

template class Backward<float>;
template class Backward<double>;

}  // namespace varprop
