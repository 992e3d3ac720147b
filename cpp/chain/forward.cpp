#include "chain/forward.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace varprop {

// What is seen of a chunk of pre-activations, which become activations.
template <class T>
struct Forward<T>::Chunk {
  const Forward& forward;
  const Plan<T>& plan;
  bool seen;
  T* x;  // where the activations of row 0 go
  std::int64_t stride;
  std::int64_t position;
  Observer<T> pre, act;
  Slopes slopes{};

  void add(std::int64_t row, const Tile<T>& y) {
    if (seen) look(y);
    if (plan.linear) return;
    const Tile<T> to{x + row * stride, stride, y.rows, y.columns};
    activate_tile(plan.layer, y, to);
    if (seen) act.add(to);
  }

  void done() const {
    if (!seen) return;
    Shared<T>& shared = forward.shared_;
    const std::size_t parity = forward.worker_.member.parity();
    shared.chunks[0][parity].put(position, pre.taken());
    if (!plan.linear) shared.chunks[1][parity].put(position, act.taken());
    if (forward.job_.wanted.saturation) shared.slopes[parity][at(position)] = slopes;
  }

 private:
  void look(const Tile<T>& y) {
    pre.add(y);
    const auto& threshold = forward.job_.wanted.saturation;
    if (threshold) add_slopes(plan.layer, static_cast<T>(*threshold), y, slopes);
  }
};

template <class T>
bool Forward<T>::run() {
  if (job_.cost) keeper_.plan(-1, worker_.layers() - 1);
  Signal<T> signal = inputs(shared_.work[1]);
  std::int64_t l = 0;
  // A number past the range of T spoils all that follows: nothing is known of the layers from
  // there.
  for (; l < worker_.layers() && std::isfinite(signal.rms); ++l) {
    if (worker_.member.leaving()) return false;
    signal = step(l, signal, shared_.work[l % 2], true);
  }
  const bool whole = std::isfinite(signal.rms);
  for (; l < worker_.layers() && worker_.member.first(); ++l) {
    worker_.record(worker_.results.preactivations, l, worker_.layers(), unknown(), 0);
    worker_.record(worker_.results.activations, l, worker_.layers(), unknown(), 0);
    worker_.control.step_done();
  }
  return whole && !worker_.member.leaving();
}

template <class T>
Signal<T> Forward<T>::entering(std::int64_t l, T* one, T* other) {
  if (l == 0) return inputs(one);
  const std::int64_t last = l - 1;
  if (keeper_.place(last) >= 0) return activate(last, one);
  const std::int64_t from = keeper_.before(last);
  keeper_.plan(from, last);
  Signal<T> signal = from < 0 ? inputs(one) : activate(from, one);
  for (std::int64_t i = from + 1; i <= last && !worker_.member.leaving(); ++i) {
    std::swap(one, other);
    signal = step(i, signal, one, false);
  }
  return signal;
}

template <class T>
Signal<T> Forward<T>::inputs(T* buffer) {
  const std::int64_t features = worker_.layer(0).fan_in;
  if (job_.inputs) return {static_cast<const T*>(job_.inputs), features, job_.input_rms, 0};
  const std::int64_t stride = row_stride(features);
  worker_.member.share(divide_up(job_.batch, kChunkRows), [&](std::int64_t chunk) {
    const std::int64_t row = chunk * kChunkRows;
    worker_.draw_normals(job_.network.input_key, row,
                         std::min<std::int64_t>(kChunkRows, job_.batch - row), features,
                         buffer + row * stride, stride);
  });
  worker_.member.end();
  return {buffer, stride, 1.0, 0};
}

// The activations of a layer that is kept.
template <class T>
Signal<T> Forward<T>::activate(std::int64_t l, T* buffer) {
  const Layer& layer = worker_.layer(l);
  Signal<T> signal = signals_[at(l)];
  T* const y = shared_.kept[at(keeper_.place(l))];
  signal.x = y;
  if (layer.activation == 0) return signal;
  signal.x = buffer;
  worker_.member.share(divide_up(job_.batch, kChunkRows), [&](std::int64_t chunk) {
    const Tile<T> whole{y, signal.stride, 0, static_cast<int>(layer.width)};
    Worker<T>::each_group(whole, job_.batch, chunk, [&](std::int64_t row, const Tile<T>& tile) {
      const Tile<T> to{buffer + row * signal.stride, signal.stride, tile.rows, tile.columns};
      activate_tile(layer, tile, to);
    });
  });
  worker_.member.end();
  return signal;
}

template <class T>
void Forward<T>::activate_tile(const Layer& layer, const Tile<T>& y, const Tile<T>& x) {
  if (x.data != y.data) {
    const std::int64_t columns = divide_up(y.columns, kLanes) * kLanes;
    for (int i = 0; i < y.rows; ++i) {
      std::copy_n(y.data + i * y.stride, columns, x.data + i * x.stride);
    }
  }
  kernels<T>().activate(layer.activation, static_cast<T>(layer.parameter), x);
}

template <class T>
Signal<T> Forward<T>::step(std::int64_t l, const Signal<T>& in, T* out, bool seen) {
  const Layer& layer = worker_.layer(l);
  const Plan<T> plan =
      make_plan<T>(layer, in, worker_.matrix(l), job_.batch, worker_.trial_number());
  const std::int64_t stride = row_stride(layer.width);
  const int place = keeper_.place(l);
  const bool aside = seen && job_.wanted.correlation && !plan.linear;
  T* const y = place >= 0 ? shared_.kept[at(place)] : aside ? shared_.aside : out;
  T* const x = plan.linear ? y : out;
  const auto run = [&](std::int64_t block, std::int64_t from, std::int64_t to) {
    const std::int64_t column = block * kBlockColumns;
    const Tile<T> tile = Worker<T>::block_of(y, stride, layer.width, block);
    worker_.multiply(
        {in.x, in.stride, 1}, layer.fan_in, worker_.panel.biases(plan, column, tile.columns), tile,
        job_.batch, from, to,
        [&](std::int64_t k, std::int64_t rows) {
          return worker_.panel.weights(plan, k, rows, column, tile.columns);
        },
        [&](std::int64_t chunk) {
          return Chunk{.forward = *this,
                       .plan = plan,
                       .seen = seen,
                       .x = x + column,
                       .stride = stride,
                       .position = block * plan.row_chunks + chunk,
                       .pre = {job_.wanted, plan.pre_scale, worker_.histograms[0]},
                       .act = {job_.wanted, plan.act_scale, worker_.histograms[1]}};
        });
  };
  const Member& member = worker_.member;
  // Owning rows keeps a member's part of X in its cache, but then every member draws all weights.
  const int members = member.count();
  if (members > 1 && plan.row_chunks >= members &&
      (2 * layer.width < job_.batch || plan.blocks < members)) {
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
  Signal<T>& signal = signals_[at(l)];
  if (!seen) {
    worker_.member.end();
    return {x, stride, signal.rms, plan.exponent};
  }
  signal = {x, stride, 0, plan.exponent};
  look(l, plan, y, signal);
  return signal;
}

// Ends a step by writing down what was seen of it.
template <class T>
void Forward<T>::look(std::int64_t l, const Plan<T>& plan, const T* y, Signal<T>& out) {
  Member& member = worker_.member;
  const std::size_t parity = member.parity();
  const Results& to = worker_.results;
  Histogram* const own = worker_.histograms;
  if (plan.linear) std::copy_n(own[0], kBins, own[1]);
  worker_.flush(to.preactivations, l, worker_.layers(), own[0]);
  worker_.flush(to.activations, l, worker_.layers(), own[1]);
  member.end();
  if (member.leaving()) return;
  const std::int64_t chunks = plan.blocks * plan.row_chunks;
  Taken pre = shared_.chunks[0][parity].merged(chunks);
  Taken act = plan.linear ? pre : shared_.chunks[1][parity].merged(chunks);
  // Activations such as relu would turn what is not a number into one.
  if (!pre.moments.finite()) pre = unknown();
  if (!pre.moments.finite() || !act.moments.finite()) act = unknown();
  out.rms = std::ldexp(act.rms(), plan.act_unit);
  if (member.first()) {
    if (!act.moments.finite() || plan.underflow) worker_.out_of_range(l);
    worker_.record(to.preactivations, l, worker_.layers(), pre, plan.exponent + plan.pre_unit);
    worker_.record(to.activations, l, worker_.layers(), act, plan.exponent + plan.act_unit);
    if (job_.wanted.saturation && act.moments.finite()) {
      record_slopes(l, plan, shared_.slopes[parity]);
    }
    worker_.control.step_done();
  }
  if (!job_.wanted.correlation || !act.moments.finite()) return;
  const std::int64_t width = plan.layer.width;
  const double before = worker_.correlation(y, out.stride, width, std::ldexp(1.0, -plan.pre_unit));
  const double after =
      plan.linear ? before
                  : worker_.correlation(out.x, out.stride, width, std::ldexp(1.0, -plan.act_unit));
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
  const auto width = static_cast<double>(plan.layer.width);
  const double numbers = width * static_cast<double>(job_.batch);
  to.saturation[position] = static_cast<double>(all.saturated) / numbers;
  to.zero_slope[position] = static_cast<double>(all.zero) / numbers;
  to.dead[position] = (width - static_cast<double>(alive)) / width;
}

template class Forward<float>;
template class Forward<double>;

}  // namespace varprop
