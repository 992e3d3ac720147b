#include "chain/backward.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "chain/cost.hpp"

namespace varprop {
namespace {

// A matrix of one row of ones, of any length: a product with it sums columns.
template <class T>
View<T> ones() {
  static constexpr T one = 1;
  return {&one, 0, 0};
}

template <class T>
void multiply_by(T factor, const Tile<T>& tile) {
  for (int i = 0; i < tile.rows; ++i) {
    for (int j = 0; j < tile.columns; ++j) tile.data[i * tile.stride + j] *= factor;
  }
}

}  // namespace

// What is seen of a chunk of the gradient by what entered a layer, which becomes that by the
// pre-activations of the layer below.
template <class T>
struct Backward<T>::Chunk {
  const Layer* below;  // null at the inputs
  const T* y;          // its pre-activations, from row 0
  std::int64_t stride;
  Observer<T> observer;
  Chunks& chunks;
  std::int64_t position;

  void add(std::int64_t row, const Tile<T>& gradient) {
    if (below && below->activation != 0) {
      // The kernel only reads y.
      const Tile<T> at_row{const_cast<T*>(y) + row * stride, stride, gradient.rows,
                           gradient.columns};
      kernels<T>().backpropagate(below->activation, static_cast<T>(below->parameter), at_row,
                                 gradient);
    }
    observer.add(gradient);
  }
  void done() const { chunks.put(position, observer.taken()); }
};

// What is seen of some rows of the gradient by the weights.
template <class T>
struct Backward<T>::Rows {
  Observer<T> observer;
  Taken& taken;

  void add(std::int64_t, const Tile<T>& product) { observer.add(product); }
  void done() const { taken.merge(observer.taken()); }
};

template <class T>
void Backward<T>::run() {
  std::int64_t l = worker_.layers() - 1;
  Signal<T> gradient = cost();
  for (; l >= 0 && std::isfinite(gradient.rms); --l) {
    if (worker_.member.leaving()) return;
    gradient = step(l, gradient);
  }
  if (!worker_.member.leaving()) record_unknown(worker_, l);
}

template <class T>
void Backward<T>::record_unknown(const Worker<T>& worker, std::int64_t last) {
  if (last < 0 || !worker.member.first()) return;
  const Results& to = worker.results;
  const std::int64_t layers = worker.layers();
  for (std::int64_t l = last; l >= 0; --l) {
    for (const Observed* signal : {&to.gradients, &to.weight_gradients, &to.bias_gradients}) {
      worker.record(*signal, l, layers, unknown(), 0);
    }
    worker.control.step_done();
  }
  worker.record(to.input_gradients, 0, 1, unknown(), 0);
}

// The gradient of the cost by the last pre-activations.
template <class T>
Signal<T> Backward<T>::cost() {
  const std::int64_t last = worker_.layers() - 1;
  const Layer& layer = worker_.layer(last);
  const std::int64_t stride = row_stride(layer.width);
  const std::int64_t chunks = divide_up(job_.batch, kChunkRows);
  T* const gradient = shared_.work[2];
  const CostGradient<T> by_activations(worker_, forward_.activations(last));
  const std::size_t parity = worker_.member.parity();
  worker_.member.share(chunks, [&](std::int64_t chunk) {
    const std::int64_t row = chunk * kChunkRows;
    by_activations.write(row, std::min<std::int64_t>(kChunkRows, job_.batch - row),
                         gradient + row * stride, stride);
    for (std::int64_t block = 0; block * kBlockColumns < layer.width; ++block) {
      Chunk seen{by_activations.by_preactivations() ? nullptr : &layer,
                 forward_.preactivations(last) + block * kBlockColumns,
                 stride,
                 {job_.wanted, T{1}, worker_.histograms[0]},
                 shared_.chunks[0][parity],
                 block * chunks + chunk};
      Worker<T>::each_group(Worker<T>::block_of(gradient, stride, layer.width, block), job_.batch,
                            chunk, [&](std::int64_t i, const Tile<T>& tile) { seen.add(i, tile); });
      seen.done();
    }
  });
  end(last);
  if (worker_.member.leaving()) return {gradient, stride, 0, 0};
  forward_.release(last);
  return look(last, gradient, by_activations.exponent(), 0, parity);
}

// From the gradient by the pre-activations of layer l to those by its weights, by its biases, and
// by the pre-activations of the layer below or the inputs.
template <class T>
Signal<T> Backward<T>::step(std::int64_t l, const Signal<T>& gradient) {
  Member& member = worker_.member;
  T* free[2];
  int count = 0;
  for (T* const buffer : shared_.work) {
    if (buffer != gradient.x) free[count++] = buffer;
  }
  const Signal<T> in = forward_.entering(l, free[0], free[1]);
  if (member.leaving()) return gradient;
  T* const out = in.x == free[0] ? free[1] : free[0];
  const Layer& layer = worker_.layer(l);
  const auto plan = make_backward_plan<T>(layer, gradient, in, worker_.matrix(l), job_.batch,
                                          worker_.trial_number());
  // Tasks are blocks of the gradient by what entered, all rows or some, then pieces of that by the
  // weights.
  const std::int64_t chunks = divide_up(job_.batch, kChunkRows);
  const std::int64_t blocks = divide_up(layer.fan_in, kBlockColumns);
  const std::int64_t parts =
      blocks < 2 * member.count() ? std::min<std::int64_t>(member.count(), chunks) : 1;
  const std::int64_t groups = divide_up(layer.fan_in, kProductRows);
  const std::int64_t pieces = groups * divide_up(layer.width, kBlockColumns);
  const std::size_t parity = member.parity();
  member.share(blocks * parts + pieces, [&](std::int64_t task) {
    if (task < blocks * parts) {
      const std::int64_t part = task % parts;
      back(plan, l, out, task / parts, chunks * part / parts, chunks * (part + 1) / parts);
    } else {
      multiply_parameters(plan, (task - blocks * parts) / groups, (task - blocks * parts) % groups);
    }
  });
  worker_.flush(worker_.results.weight_gradients, l, worker_.layers(), worker_.histograms[1]);
  worker_.flush(worker_.results.bias_gradients, l, worker_.layers(), worker_.histograms[2]);
  end(l - 1);
  if (member.leaving()) return gradient;
  if (member.first()) record_parameters(plan, l, pieces, parity);
  const Signal<T> below = look(l - 1, out, plan.exponent, plan.unit, parity);
  if (l > 0) forward_.release(l - 1);
  return below;
}

// Chunks [from, to) of rows of the gradient by what entered, in a block of columns.
template <class T>
void Backward<T>::back(const BackwardPlan<T>& plan, std::int64_t l, T* out, std::int64_t block,
                       std::int64_t from, std::int64_t to) {
  const std::int64_t stride = row_stride(plan.layer.fan_in), column = block * kBlockColumns;
  const Tile<T> tile = Worker<T>::block_of(out, stride, plan.layer.fan_in, block);
  const std::int64_t chunks = divide_up(job_.batch, kChunkRows);
  Chunks& taken = shared_.chunks[0][worker_.member.parity()];
  worker_.multiply(
      {plan.gradient.x, plan.gradient.stride, 1}, plan.layer.width, nullptr, tile, job_.batch, from,
      to,
      [&](std::int64_t k, std::int64_t rows) {
        return worker_.panel.transposed(plan, k, rows, column, tile.columns);
      },
      [&](std::int64_t chunk) {
        return Chunk{l > 0 ? &worker_.layer(l - 1) : nullptr,
                     l > 0 ? forward_.preactivations(l - 1) + column : nullptr,
                     stride,
                     {job_.wanted, plan.scale, worker_.histograms[0]},
                     taken,
                     block * chunks + chunk};
      });
}

// A group of rows of the gradient by the weights in a block of columns, and with the first group
// the gradient by the biases.
template <class T>
void Backward<T>::multiply_parameters(const BackwardPlan<T>& plan, std::int64_t block,
                                      std::int64_t group) {
  const Layer& layer = plan.layer;
  const std::int64_t row = group * kProductRows;
  const std::int64_t rows = std::min<std::int64_t>(kProductRows, layer.fan_in - row);
  Panel<T>& panel = worker_.panel;
  const std::int64_t column = block * kBlockColumns;
  const auto columns =
      static_cast<int>(std::min<std::int64_t>(kBlockColumns, layer.width - column));
  const Tile<T> product{panel.product(), kBlockColumns, 0, columns};
  alignas(64) T sums[kBlockColumns];
  const Tile<T> bias{sums, kBlockColumns, 1, columns};
  Taken taken;
  worker_.multiply(
      {plan.in.x + row, 1, plan.in.stride}, job_.batch, nullptr, product, rows, 0,
      divide_up(rows, kChunkRows),
      [&](std::int64_t k, std::int64_t count) {
        const T* const part = panel.gradient(plan, k, count, column, columns);
        if (group == 0) {
          worker_.kernel.multiply(ones<T>(), part, kBlockColumns, static_cast<int>(count), k == 0,
                                  nullptr, bias);
        }
        return part;
      },
      [&](std::int64_t) {
        return Rows{{job_.wanted, plan.weight_moment_scale, worker_.histograms[1]}, taken};
      });
  const std::size_t parity = worker_.member.parity();
  const std::int64_t groups = divide_up(layer.fan_in, kProductRows);
  shared_.chunks[1][parity].put(block * groups + group, taken);
  if (group > 0) return;
  Observer<T> observer(job_.wanted, plan.bias_moment_scale, worker_.histograms[2]);
  observer.add(bias);
  shared_.biases[parity].put(block, observer.taken());
}

template <class T>
void Backward<T>::record_parameters(const BackwardPlan<T>& plan, std::int64_t l,
                                    std::int64_t pieces, std::size_t parity) {
  const std::int64_t layers = worker_.layers();
  const std::int64_t blocks = divide_up(plan.layer.width, kBlockColumns);
  Taken weight = shared_.chunks[1][parity].merged(pieces);
  Taken bias = shared_.biases[parity].merged(blocks);
  for (Taken* taken : {&weight, &bias}) {
    if (taken->moments.finite()) continue;
    *taken = unknown();
    worker_.out_of_range(l);
  }
  worker_.record(worker_.results.weight_gradients, l, layers, weight,
                 plan.weight_exponent + plan.weight_unit);
  worker_.record(worker_.results.bias_gradients, l, layers, bias,
                 plan.bias_exponent + plan.bias_unit);
  worker_.control.step_done();
}

// Where the gradient by layer l's pre-activations, or by the inputs, is written down.
template <class T>
typename Backward<T>::Place Backward<T>::place(std::int64_t l) const {
  const Results& to = worker_.results;
  if (l < 0) return {to.input_gradients, 0, 1, worker_.layer(0).fan_in};
  return {to.gradients, l, worker_.layers(), worker_.layer(l).width};
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
  const std::int64_t count = divide_up(to.width, kBlockColumns) * divide_up(job_.batch, kChunkRows);
  Taken taken = shared_.chunks[0][parity].merged(count);
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
  if (!taken.moments.finite()) taken = unknown();
  if (member.first()) {
    if (!taken.moments.finite()) worker_.out_of_range(to.layer);
    worker_.record(to.observed, to.layer, to.layers, taken, exponent + unit);
  }
  const std::int64_t stride = row_stride(to.width);
  if (to.observed.correlation && taken.moments.finite()) {
    const double found = worker_.correlation(gradient, stride, to.width, std::ldexp(1.0, -unit));
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
  const std::int64_t chunks = divide_up(job_.batch, kChunkRows);
  Chunks& taken = shared_.chunks[0][member.parity()];
  member.share(divide_up(to.width, kBlockColumns), [&](std::int64_t block) {
    const Tile<T> tile = Worker<T>::block_of(gradient, row_stride(to.width), to.width, block);
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      Observer<T> observer(job_.wanted, std::ldexp(T{1}, -unit), worker_.histograms[0]);
      Worker<T>::each_group(tile, job_.batch, chunk, [&](std::int64_t, const Tile<T>& group) {
        multiply_by(std::ldexp(T{1}, shift), group);
        observer.add(group);
      });
      taken.put(block * chunks + chunk, observer.taken());
    }
  });
}

template class Backward<float>;
template class Backward<double>;

}  // namespace varprop
