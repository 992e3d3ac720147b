// What is seen of a chunk of a signal while it is hot, on the way forward and on the way back.
#pragma once

#include <cstdint>

#include "chain/backward.hpp"
#include "chain/forward.hpp"
#include "chain/mask.hpp"

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

// What is seen of a chunk of the gradient by the activations of a layer, which becomes that by its
// pre-activations; not so where it is normalized, which takes a second look.
template <class T>
struct Backward<T>::Chunk {
  const Backward& backward;
  std::int64_t l;  // -1: by the inputs
  int exponent;
  std::int64_t column, position;
  bool by_preactivations;  // are they that already?
  Observer<T> observer;
  Signal<T> y;

  Chunk(const Backward& of, std::int64_t layer, int with_exponent, T scale, std::int64_t block,
        std::int64_t chunk, bool done_already = false)
      : backward(of),
        l(layer),
        exponent(with_exponent),
        column(block * kBlockColumns),
        position(block * of.place(layer).chunks + chunk),
        by_preactivations(done_already || layer < 0),
        observer(of.job_.wanted, scale, of.worker_.histograms[0]),
        y(layer < 0 ? Signal<T>{} : of.forward_.preactivations(layer)) {}

  bool later() const { return l >= 0 && backward.worker_.layer(l).takes_rows(); }

  void add(std::int64_t row, const Tile<T>& gradient) {
    backward.add_skips(l, exponent, row, column, gradient);
    if (later()) return;
    if (!by_preactivations) {
      const Layer& layer = backward.worker_.layer(l);
      if (layer.kind == Layer::Kind::dropout) {
        mask(backward.worker_, layer, row, column, gradient);
      } else if (layer.activation != 0) {
        // The kernel only reads y.
        const Tile<T> at_row{const_cast<T*>(y.x) + row * y.stride + column, y.stride, gradient.rows,
                             gradient.columns};
        kernels<T>().backpropagate(layer.activation, static_cast<T>(layer.parameter), at_row,
                                   gradient);
      }
    }
    observer.add(gradient);
  }

  void done() const {
    if (later()) return;
    backward.shared_.chunks[0][backward.worker_.member.parity()].put(position, observer.taken());
  }
};

}  // namespace varprop
