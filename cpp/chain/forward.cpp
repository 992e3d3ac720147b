#include "chain/forward.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "chain/chunk.hpp"
#include "chain/correlation.hpp"
#include "chain/normalize.hpp"

namespace varprop {

template <class T>
Forward<T>::Forward(Worker<T>& worker, const Program& program)
    : worker_(worker),
      job_(worker.job),
      shared_(worker.shared),
      program_(program),
      whole_(shared_.kept.size() >= job_.network.layers.size()),
      keeper_(program.units.size(),
              std::max(0, static_cast<int>(shared_.kept.size()) - static_cast<int>(program.inner))),
      room_(shared_.work),
      activations_(job_.network.layers.size() + 1),
      preactivations_(job_.network.layers.size() + 1) {}

template <class T>
bool Forward<T>::run() {
  const auto last_unit = static_cast<std::int64_t>(program_.units.size()) - 1;
  if (job_.cost && !whole_) keeper_.plan(-1, last_unit);
  inputs();
  std::int64_t l = 0;
  // A number past the range of T spoils all that follows: nothing is known of the layers from
  // there.
  for (; l < worker_.layers() && std::isfinite(activations(l - 1).rms); ++l) {
    if (worker_.member.leaving()) return false;
    step(l, true);
    retire(l);
  }
  const bool whole = std::isfinite(activations(l - 1).rms);
  for (; l < worker_.layers() && worker_.member.first(); ++l) {
    worker_.record(worker_.results.preactivations, l, worker_.layers(), unknown(), 0);
    worker_.record(worker_.results.activations, l, worker_.layers(), unknown(), 0);
    worker_.control.step_done();
  }
  return whole && !worker_.member.leaving();
}

template <class T>
Signal<T> Forward<T>::entering(std::int64_t l) {
  const std::int64_t last = l - 1;
  if (last < 0) {
    inputs();
  } else if (place(last)) {
    activate(last);
  } else {
    const std::int64_t to = program_.unit[at(last)], from = keeper_.before(to);
    keeper_.plan(from, to);
    std::int64_t i = 0;
    if (from < 0) {
      inputs();
    } else {
      i = program_.units[at(from)].last + 1;
      activate(i - 1);
    }
    for (; i <= last && !worker_.member.leaving(); ++i) {
      step(i, false);
      retire(i);
    }
  }
  return activations(last);
}

template <class T>
void Forward<T>::open(std::int64_t l) {
  const Program::Unit& unit = program_.unit_of(l);
  if (whole_ || unit.first == unit.last || open_ == program_.unit[at(l)]) return;
  entering(unit.first);
  open_ = program_.unit[at(l)];
  for (std::int64_t i = unit.first; i < unit.last && !worker_.member.leaving(); ++i) {
    step(i, false);
    retire(i);
  }
  retire(unit.last);
}

template <class T>
Signal<T> Forward<T>::preactivations(std::int64_t l) const {
  Signal<T> signal = preactivations_[at(l + 1)];
  signal.x = place(l);
  return signal;
}

template <class T>
void Forward<T>::release(std::int64_t l) {
  if (!whole_ && program_.unit_of(l).last == l) keeper_.release(program_.unit[at(l)]);
}

// Where the pre-activations of a layer are kept, or null.
template <class T>
T* Forward<T>::place(std::int64_t l) const {
  if (!job_.cost) return nullptr;
  if (whole_) return shared_.kept[at(l)];
  const Program::Unit& unit = program_.unit_of(l);
  if (unit.last != l) {
    return open_ == program_.unit[at(l)] ? shared_.kept[at(l - unit.first)] : nullptr;
  }
  const int place = keeper_.place(program_.unit[at(l)]);
  return place < 0 ? nullptr : shared_.kept[at(program_.inner + place)];
}

template <class T>
void Forward<T>::inputs() {
  const Shape& shape = worker_.layer(0).in;
  const std::int64_t features = shape.channels, rows = job_.batch * shape.positions();
  const T* const given = static_cast<const T*>(job_.inputs);
  if (given && !worker_.layer(0).normalizes()) {
    activations_[0] = {given, features, job_.input_rms, 0};
    return;
  }
  // A normalization reads whole lanes, so past the rows of an array.
  const std::int64_t stride = row_stride(features);
  T* const buffer = room_.take();
  worker_.member.share(divide_up(rows, kChunkRows), [&](std::int64_t chunk) {
    const std::int64_t row = chunk * kChunkRows;
    const std::int64_t count = std::min<std::int64_t>(kChunkRows, rows - row);
    T* const to = buffer + row * stride;
    if (given) {
      for (std::int64_t i = 0; i < count; ++i) {
        std::copy_n(given + (row + i) * features, features, to + i * stride);
      }
    } else {
      worker_.draw_normals(job_.network.input_key, row, count, features, to, stride);
    }
  });
  worker_.member.end();
  activations_[0] = {buffer, stride, given ? job_.input_rms : 1.0, 0};
}

// The activations of a layer that is kept.
template <class T>
void Forward<T>::activate(std::int64_t l) {
  const Layer& layer = worker_.layer(l);
  Signal<T>& signal = activations_[at(l + 1)];
  T* const y = place(l);
  signal.x = y;
  if (layer.linear()) return;
  if (layer.normalizes()) read_spread(worker_, layer, preactivations(l), signal.exponent);
  T* const x = room_.take();
  signal.x = x;
  const std::int64_t rows = job_.batch * layer.out.positions(), stride = signal.stride;
  if (layer.kind == Layer::Kind::elementwise) return apply_again(l, y, x, rows, stride);
  worker_.member.share(divide_up(rows, kChunkRows), [&](std::int64_t chunk) {
    const Tile<T> whole{y, stride, 0, static_cast<int>(layer.width())};
    Worker<T>::each_group(whole, rows, chunk, [&](std::int64_t row, const Tile<T>& tile) {
      finish(layer, row, 0, tile, {x + row * stride, stride, tile.rows, tile.columns});
    });
  });
  worker_.member.end();
}

template <class T>
void Forward<T>::finish(const Layer& layer, std::int64_t row, std::int64_t column, const Tile<T>& y,
                        const Tile<T>& x) const {
  if (layer.normalizes()) return normalize(shared_, layer, row, column, y, x);
  if (x.data != y.data) {
    const std::int64_t columns = divide_up(y.columns, kLanes) * kLanes;
    for (int i = 0; i < y.rows; ++i) {
      std::copy_n(y.data + i * y.stride, columns, x.data + i * x.stride);
    }
  }
  if (layer.kind == Layer::Kind::dropout) {
    mask(worker_, layer, row, column, x);
  } else {
    worker_.kernel.activate(layer.activation, static_cast<T>(layer.parameter), x);
  }
}

template <class T>
void Forward<T>::step(std::int64_t l, bool seen) {
  const Layer& layer = worker_.layer(l);
  const Signal<T>& in = activations(l - 1);
  const Signal<T> skip = layer.kind == Layer::Kind::join ? activations(layer.skip) : Signal<T>{};
  Plan<T> plan =
      make_plan<T>(layer, in, skip, worker_.matrix(l), job_.batch, worker_.trial_number());
  if (job_.implicit && layer.has_weight()) imply(l, plan, seen);
  if (layer.normalizes()) read_spread(worker_, layer, plan.in, plan.act_exponent);
  const bool linear = layer.linear(), aside = seen && job_.wanted.correlation && !linear;
  T *y = place(l), *x = y;
  if (!y || !linear) x = room_.take();
  if (!y) y = aside ? shared_.aside : x;
  if (layer.has_weight()) {
    multiply(plan, y, x, seen);
  } else {
    pass(l, plan, y, x, seen);
  }
  Signal<T>& signal = activations_[at(l + 1)];
  signal.x = x;
  if (!seen) return worker_.member.end();
  const std::int64_t stride = row_stride(layer.width());
  signal = {x, stride, 0, plan.act_exponent};
  preactivations_[at(l + 1)] = {y, stride, 0, plan.exponent};
  look(l, plan, y);
  double* const whole = Whole::of(worker_.results.whole.activations, l);
  if (whole && !worker_.member.leaving()) {
    worker_.copy_rows(activations(l), plan.rows, layer.width(), whole);
  }
}

template <class T>
void Forward<T>::multiply(const Plan<T>& plan, T* y, T* x, bool seen) {
  if (convolve(plan, y, x, seen)) return;
  const Layer& layer = plan.layer;
  const auto run = [&](std::int64_t block, std::int64_t from, std::int64_t to) {
    if (from >= to) return;
    const std::int64_t column = block * kBlockColumns;
    const Tile<T> tile = Worker<T>::block_of(y, row_stride(layer.width()), layer.width(), block);
    const T* const biases = worker_.panel.biases(plan, column, tile.columns);
    const auto see = [&](std::int64_t chunk) { return Chunk(*this, plan, x, seen, block, chunk); };
    if (by_channels(layer)) {
      return worker_.multiply_channels(layer, false, plan.in,
                                       worker_.panel.of_channels(plan, column, tile.columns),
                                       biases, column, tile, plan.rows, from, to, see);
    }
    const Groups groups(layer, false, column, tile.columns);
    worker_.multiply(
        [&](std::int64_t row, std::int64_t rows, std::int64_t k, std::int64_t count) {
          return worker_.left(layer, groups, false, plan.in, row, rows, k, count);
        },
        plan.depth ? plan.depth : groups.depth(), biases, tile, plan.rows, from, to,
        [&](std::int64_t k, std::int64_t rows) {
          return worker_.panel.weights(plan, k, rows, column, tile.columns);
        },
        see);
  };
  const Member& member = worker_.member;
  // Owning rows keeps a member's part of X in its cache, but then every member draws all weights.
  const int members = member.count();
  if (members > 1 && plan.row_chunks >= members &&
      (2 * layer.width() < plan.rows || plan.blocks < members)) {
    // An equal part of all chunks, of which those of the same rows follow each other.
    const std::int64_t chunks = plan.row_chunks * plan.blocks;
    const std::int64_t from = chunks * member.index() / members;
    const std::int64_t to = chunks * (member.index() + 1) / members;
    for (std::int64_t block = 0; block < plan.blocks; ++block) {
      run(block, divide_up(from - block, plan.blocks), divide_up(to - block, plan.blocks));
    }
  } else {
    member.share(plan.blocks, [&](std::int64_t block) { run(block, 0, plan.row_chunks); });
  }
}

// Gives back what no layer after l needs.
template <class T>
void Forward<T>::retire(std::int64_t l) {
  const Layer& layer = worker_.layer(l);
  if (layer.kind == Layer::Kind::join && program_.last_use[at(layer.skip + 1)] == l) {
    room_.give(activations(layer.skip).x);
  }
  if (program_.last_use[at(l)] == l) room_.give(activations(l - 1).x);
}

// Ends a step by writing down what was seen of it.
template <class T>
void Forward<T>::look(std::int64_t l, const Plan<T>& plan, const T* y) {
  Member& member = worker_.member;
  const Layer& layer = plan.layer;
  const std::size_t parity = member.parity();
  const Results& to = worker_.results;
  Histogram* const own = worker_.histograms;
  if (layer.linear()) std::copy_n(own[0], kBins, own[1]);
  worker_.flush(to.preactivations, l, worker_.layers(), own[0]);
  worker_.flush(to.activations, l, worker_.layers(), own[1]);
  member.end();
  if (member.leaving()) return;
  const std::int64_t chunks = plan.blocks * plan.row_chunks;
  Taken pre = shared_.chunks[0][parity].merged(chunks);
  Taken act = layer.linear() ? pre : shared_.chunks[1][parity].merged(chunks);
  // Activations such as relu would turn what is not a number into one.
  if (!pre.moments.finite()) pre = unknown();
  if (!pre.moments.finite() || !act.moments.finite()) act = unknown();
  Signal<T>& out = activations_[at(l + 1)];
  out.rms = std::ldexp(act.rms(), plan.act_unit);
  preactivations_[at(l + 1)].rms = std::ldexp(pre.rms(), plan.pre_unit);
  if (member.first()) {
    if (!act.moments.finite() || plan.underflow) worker_.out_of_range(l);
    worker_.record(to.preactivations, l, worker_.layers(), pre, plan.exponent + plan.pre_unit);
    worker_.record(to.activations, l, worker_.layers(), act, plan.act_exponent + plan.act_unit);
    if (job_.wanted.saturation && act.moments.finite()) {
      record_slopes(l, plan, shared_.slopes[parity]);
    }
    worker_.control.step_done();
  }
  if (!job_.wanted.correlation || !act.moments.finite()) return;
  const double before =
      correlation(worker_, y, out.stride, layer.out, std::ldexp(1.0, -plan.pre_unit));
  const double after = layer.linear() ? before
                                      : correlation(worker_, out.x, out.stride, layer.out,
                                                    std::ldexp(1.0, -plan.act_unit));
  if (member.first()) {
    const std::size_t position = at(worker_.trial * worker_.layers() + l);
    to.preactivations.correlation[position] = before;
    to.activations.correlation[position] = after;
  }
}

template <class T>
void Forward<T>::record_slopes(std::int64_t l, const Plan<T>& plan,
                               const std::vector<Slopes>& chunks) const {
  Slopes all;
  std::int64_t alive = 0;
  for (std::int64_t block = 0; block < plan.blocks; ++block) {
    std::uint64_t columns = 0;
    for (std::int64_t row = 0; row < plan.row_chunks; ++row) {
      const Slopes& chunk = chunks[at(block * plan.row_chunks + row)];
      all.saturated += chunk.saturated;
      all.zero += chunk.zero;
      columns |= chunk.alive;
    }
    alive += std::popcount(columns);
  }
  const Observed& to = worker_.results.activations;
  const std::size_t position = at(worker_.trial * worker_.layers() + l);
  const auto width = static_cast<double>(plan.layer.width());
  const double numbers = width * static_cast<double>(plan.rows);
  to.saturation[position] = static_cast<double>(all.saturated) / numbers;
  to.zero_slope[position] = static_cast<double>(all.zero) / numbers;
  to.dead[position] = (width - static_cast<double>(alive)) / width;
}

template class Forward<float>;
template class Forward<double>;

}  // namespace varprop
