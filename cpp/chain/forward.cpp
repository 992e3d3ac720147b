#include "chain/forward.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "chain/mask.hpp"
#include "chain/normalize.hpp"
#include "chain/pool.hpp"

namespace varprop {

// What is seen of a chunk of pre-activations, which become activations.
template <class T>
struct Forward<T>::Chunk {
  const Forward& forward;
  const Plan<T>& plan;
  bool seen;
  T* x;  // where the activations of row 0 go
  std::int64_t stride, column, position;
  Observer<T> pre, act;
  Slopes slopes{};
  // Of the chunk's rows, activations and slopes that the host computed.
  const double *values = nullptr, *derivatives = nullptr;

  Chunk(const Forward& of, const Plan<T>& with, T* to, bool is_seen, std::int64_t block,
        std::int64_t chunk)
      : forward(of),
        plan(with),
        seen(is_seen),
        x(to + block * kBlockColumns),
        stride(row_stride(with.layer.width())),
        column(block * kBlockColumns),
        position(block * with.row_chunks + chunk),
        pre(of.job_.wanted, with.pre_scale, of.worker_.histograms[0]),
        act(of.job_.wanted, with.act_scale, of.worker_.histograms[1]) {}

  void add(std::int64_t row, const Tile<T>& y) {
    if (seen) look(row, y);
    if (plan.layer.linear()) return;
    const Tile<T> to{x + row * stride, stride, y.rows, y.columns};
    if (values) {
      take(values + row % kChunkRows * plan.layer.width() + column, to);
    } else {
      forward.finish(plan.layer, row, column, y, to);
    }
    if (seen) act.add(to);
  }

  void done() const {
    if (!seen) return;
    Shared<T>& shared = forward.shared_;
    const std::size_t parity = forward.worker_.member.parity();
    shared.chunks[0][parity].put(position, pre.taken());
    if (!plan.layer.linear()) shared.chunks[1][parity].put(position, act.taken());
    if (forward.job_.wanted.saturation) shared.slopes[parity][at(position)] = slopes;
  }

 private:
  void take(const double* from, const Tile<T>& to) const {
    for (int i = 0; i < to.rows; ++i, from += plan.layer.width()) {
      for (int j = 0; j < to.columns; ++j) to.data[i * to.stride + j] = static_cast<T>(from[j]);
    }
  }

  void look(std::int64_t row, const Tile<T>& y) {
    pre.add(y);
    const auto& threshold = forward.job_.wanted.saturation;
    if (!threshold) return;
    if (derivatives) {
      const std::int64_t width = plan.layer.width();
      add_slopes(*threshold, derivatives + row % kChunkRows * width + column, width, y.rows,
                 y.columns, slopes);
    } else {
      add_slopes(plan.layer, static_cast<T>(*threshold), y, slopes);
    }
  }
};

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
  if (job_.inputs) {
    activations_[0] = {static_cast<const T*>(job_.inputs), features, job_.input_rms, 0};
    return;
  }
  const std::int64_t stride = row_stride(features);
  T* const buffer = room_.take();
  worker_.member.share(divide_up(rows, kChunkRows), [&](std::int64_t chunk) {
    const std::int64_t row = chunk * kChunkRows;
    worker_.draw_normals(job_.network.input_key, row,
                         std::min<std::int64_t>(kChunkRows, rows - row), features,
                         buffer + row * stride, stride);
  });
  worker_.member.end();
  activations_[0] = {buffer, stride, 1.0, 0};
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
void Forward<T>::apply_again(std::int64_t l, const T* y, T* x, std::int64_t rows,
                             std::int64_t stride) {
  const std::int64_t width = worker_.layer(l).width();
  for (std::int64_t row = 0; row < rows && worker_.member.first(); row += kChunkRows) {
    if (worker_.control.stopped()) break;
    const std::int64_t count = std::min<std::int64_t>(kChunkRows, rows - row);
    const double* const values = worker_.applied(l, false, y + row * stride, stride, count);
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t j = 0; j < width; ++j) {
        x[(row + i) * stride + j] = static_cast<T>(values[i * width + j]);
      }
    }
  }
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
  const Plan<T> plan =
      make_plan<T>(layer, in, skip, worker_.matrix(l), job_.batch, worker_.trial_number());
  if (layer.normalizes()) read_spread(worker_, layer, in, plan.act_exponent);
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
}

template <class T>
void Forward<T>::multiply(const Plan<T>& plan, T* y, T* x, bool seen) {
  const Layer& layer = plan.layer;
  const auto run = [&](std::int64_t block, std::int64_t from, std::int64_t to) {
    const std::int64_t column = block * kBlockColumns;
    const Tile<T> tile = Worker<T>::block_of(y, row_stride(layer.width()), layer.width(), block);
    const Groups groups(layer, false, column, tile.columns);
    worker_.multiply(
        [&](std::int64_t row, std::int64_t rows, std::int64_t k, std::int64_t count) {
          return worker_.left(layer, groups, false, plan.in, row, rows, k, count);
        },
        groups.depth(), worker_.panel.biases(plan, column, tile.columns), tile, plan.rows, from, to,
        [&](std::int64_t k, std::int64_t rows) {
          return worker_.panel.weights(plan, k, rows, column, tile.columns);
        },
        [&](std::int64_t chunk) { return Chunk(*this, plan, x, seen, block, chunk); });
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

// A layer without a product.
template <class T>
void Forward<T>::pass(std::int64_t l, const Plan<T>& plan, T* y, T* x, bool seen) {
  const std::int64_t width = plan.layer.width(), stride = row_stride(width);
  const bool by_host = plan.layer.kind == Layer::Kind::elementwise;
  const auto run = [&](std::int64_t chunk) {
    const double *values = nullptr, *derivatives = nullptr;
    if (by_host) {
      const std::int64_t row = chunk * kChunkRows;
      const std::int64_t rows = std::min<std::int64_t>(kChunkRows, plan.rows - row);
      const Tile<T> all{y, stride, 0, static_cast<int>(width)};
      make(plan, nullptr, row, 0, Worker<T>::rows_of(all, row, rows));
      values = worker_.applied(l, false, y + row * stride, stride, rows);
      if (seen && job_.wanted.saturation) {
        derivatives = worker_.applied(l, true, y + row * stride, stride, rows);
      }
    }
    for (std::int64_t block = 0; block < plan.blocks; ++block) {
      const Tile<T> tile = Worker<T>::block_of(y, stride, width, block);
      const std::int64_t column = block * kBlockColumns;
      const T* const biases = worker_.panel.biases(plan, column, tile.columns);
      Chunk seen_chunk(*this, plan, x, seen, block, chunk);
      seen_chunk.values = values;
      seen_chunk.derivatives = derivatives;
      Worker<T>::each_group(tile, plan.rows, chunk, [&](std::int64_t row, const Tile<T>& group) {
        if (!values) make(plan, biases, row, column, group);
        seen_chunk.add(row, group);
      });
      seen_chunk.done();
    }
  };
  if (!by_host) return worker_.member.share(plan.row_chunks, run);
  for (std::int64_t c = 0; c < plan.row_chunks && worker_.member.first(); ++c) {
    if (worker_.control.stopped()) return;
    run(c);
  }
}

template <class T>
void Forward<T>::make(const Plan<T>& plan, const T* biases, std::int64_t row, std::int64_t column,
                      const Tile<T>& y) const {
  if (plan.layer.kind == Layer::Kind::pool)
    return pool(plan.layer, plan.in, plan.factor, row, column, y);
  if (plan.layer.kind == Layer::Kind::flatten)
    return flatten(plan.layer, plan.in, plan.factor, row, column, y);
  for (int i = 0; i < y.rows; ++i) {
    const T* const in = plan.in.x + (row + i) * plan.in.stride + column;
    T* const out = y.data + i * y.stride;
    if (plan.layer.kind == Layer::Kind::join) {
      const T* const skip = plan.skip.x + (row + i) * plan.skip.stride + column;
      for (int j = 0; j < y.columns; ++j) {
        out[j] = in[j] * plan.factor + skip[j] * plan.skip_factor;
      }
    } else if (plan.layer.kind == Layer::Kind::map || plan.layer.kind == Layer::Kind::elementwise) {
      for (int j = 0; j < y.columns; ++j) out[j] = in[j] * plan.factor;
      if (biases) {
        for (int j = 0; j < y.columns; ++j) out[j] += biases[j];
      }
    } else {
      std::copy_n(in, y.columns, out);
    }
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
      worker_.correlation(y, out.stride, layer.out, std::ldexp(1.0, -plan.pre_unit));
  const double after = layer.linear() ? before
                                      : worker_.correlation(out.x, out.stride, layer.out,
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
