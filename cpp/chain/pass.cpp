// Layers without a product, forward and back: they pass on numbers, rows or columns.
#include <algorithm>
#include <cmath>

#include "chain/chunk.hpp"
#include "chain/normalize.hpp"
#include "chain/pool.hpp"

namespace varprop {
namespace {

template <class T>
void multiply_by(const double* factors, std::int64_t stride, const Tile<T>& tile) {
  for (int i = 0; i < tile.rows; ++i) {
    T* const to = tile.data + i * tile.stride;
    for (int j = 0; j < tile.columns; ++j) {
      to[j] = static_cast<T>(static_cast<double>(to[j]) * factors[i * stride + j]);
    }
  }
}

}  // namespace

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
    return pool(plan.layer, false, plan.in, plan.factor, row, column, y);
  if (plan.layer.kind == Layer::Kind::flatten)
    return flatten(plan.layer, plan.in, plan.factor, row, column, y);
  for (int i = 0; i < y.rows; ++i) {
    const T* const in = plan.in.x + (row + i) * plan.in.stride + column;
    T* const out = y.data + i * y.stride;
    for (int j = 0; j < y.columns; ++j) out[j] = in[j] * plan.factor;
    if (plan.layer.kind == Layer::Kind::join) {
      const T* const skip = plan.skip.x + (row + i) * plan.skip.stride + column;
      for (int j = 0; j < y.columns; ++j) out[j] += skip[j] * plan.skip_factor;
    }
    if (biases) {
      for (int j = 0; j < y.columns; ++j) out[j] += biases[j];
    }
  }
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

// Back through a layer whose rows come from the same rows of what entered.
template <class T>
void Backward<T>::pass(const BackwardPlan<T>& plan, std::int64_t l, T* out) {
  const Layer& layer = plan.layer;
  const Place to = place(l - 1);
  const std::int64_t stride = row_stride(to.shape.channels);
  const std::int64_t sums = layer.has_bias ? to.blocks : 0;  // a bias leaves the shape as it is
  worker_.member.share(to.chunks + sums, [&](std::int64_t task) {
    if (task >= to.chunks) return sum_biases(plan, l, task - to.chunks);
    for (std::int64_t block = 0; block < to.blocks; ++block) {
      Chunk seen(*this, l - 1, plan.exponent, plan.scale, block, task);
      const std::int64_t column = block * kBlockColumns;
      Worker<T>::each_group(Worker<T>::block_of(out, stride, to.shape.channels, block), to.rows,
                            task, [&](std::int64_t row, const Tile<T>& tile) {
                              make(plan, row, column, tile);
                              seen.add(row, tile);
                            });
      seen.done();
    }
  });
}

// A tile of the gradient by what entered.
template <class T>
void Backward<T>::make(const BackwardPlan<T>& plan, std::int64_t row, std::int64_t column,
                       const Tile<T>& out) const {
  const Layer& layer = plan.layer;
  const Signal<T>& gradient = plan.gradient;
  if (layer.kind == Layer::Kind::pool) {
    return pool(layer, true, gradient, plan.factor, row, column, out);
  }
  if (layer.kind == Layer::Kind::flatten) {
    return flatten_back(layer, gradient, plan.factor, row, column, out);
  }
  for (int i = 0; i < out.rows; ++i) {
    const T* const from = gradient.x + (row + i) * gradient.stride + column;
    T* const to = out.data + i * out.stride;
    for (int j = 0; j < out.columns; ++j) to[j] = from[j] * plan.factor;
  }
}

// From the gradient by the activations of a layer that takes whole rows to that by what entered it.
template <class T>
Signal<T> Backward<T>::through(std::int64_t l, T* gradient, int exponent, int unit) {
  const Layer& layer = worker_.layer(l);
  const Place to = place(l);
  const std::int64_t width = to.shape.channels, stride = row_stride(width);
  const Signal<T> y = forward_.preactivations(l);
  int shift = 0;
  if (layer.normalizes()) {
    const Signal<T>& x = forward_.activations(l);
    read_spread(worker_, layer, y, x.exponent);
    read_gradient(worker_, layer, y, x.exponent, {gradient, stride, 0, exponent});
    // As much as the numbers y grew when they were normalized.
    shift = exponent_of(y.rms) - exponent_of(x.rms);
    exponent += x.exponent - y.exponent - shift;
  }
  const std::size_t parity = worker_.member.parity();
  const auto run = [&](std::int64_t chunk) {
    const double* slopes = nullptr;
    if (!layer.normalizes()) {
      const std::int64_t row = chunk * kChunkRows;
      slopes = worker_.applied(l, true, y.x + row * y.stride, y.stride,
                               std::min<std::int64_t>(kChunkRows, to.rows - row));
    }
    for (std::int64_t block = 0; block < to.blocks; ++block) {
      const std::int64_t column = block * kBlockColumns;
      Observer<T> observer(job_.wanted, std::ldexp(T{1}, -unit), worker_.histograms[0]);
      Worker<T>::each_group(
          Worker<T>::block_of(gradient, stride, width, block), to.rows, chunk,
          [&](std::int64_t row, const Tile<T>& tile) {
            if (slopes) {
              multiply_by(slopes + row % kChunkRows * width + column, width, tile);
            } else {
              const Tile<T> at_row{const_cast<T*>(y.x) + row * y.stride + column, y.stride,
                                   tile.rows, tile.columns};  // only read
              normalize_back(shared_, layer, row, column, at_row, tile, std::ldexp(1.0, shift));
            }
            observer.add(tile);
          });
      shared_.chunks[0][parity].put(block * to.chunks + chunk, observer.taken());
    }
  };
  if (layer.normalizes()) {
    worker_.member.share(to.chunks, run);
  } else {
    for (std::int64_t c = 0; c < to.chunks && worker_.member.first(); ++c) {
      if (worker_.control.stopped()) break;
      run(c);
    }
  }
  end(l);
  if (worker_.member.leaving()) return {gradient, stride, 0, exponent};
  return look(l, gradient, exponent, unit, parity);
}

#define INSTANTIATE(T)                                                                           \
  template void Forward<T>::pass(std::int64_t, const Plan<T>&, T*, T*, bool);                    \
  template void Forward<T>::apply_again(std::int64_t, const T*, T*, std::int64_t, std::int64_t); \
  template void Backward<T>::pass(const BackwardPlan<T>&, std::int64_t, T*);                     \
  template Signal<T> Backward<T>::through(std::int64_t, T*, int, int);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace varprop
