// Convolutions whose weights fit in a panel as a whole: all columns of a chunk of rows, and then
// the next rows.
#include <algorithm>

#include "chain/chunk.hpp"

namespace varprop {

template <class T>
bool Forward<T>::convolve(const Plan<T>& plan, T* y, T* x, bool seen) {
  const Layer& layer = plan.layer;
  if (layer.kind != Layer::Kind::conv || layer.groups > 1) return false;
  const Member& member = worker_.member;
  Panel<T>& panel = worker_.panel;
  const std::int64_t stride = row_stride(layer.width()), depth = layer.fan_in();
  // The chunks of this member; make(row, rows) returns what multiplies the rows into a block.
  const auto walk = [&](auto make) {
    const std::int64_t from = plan.row_chunks * member.index() / member.count();
    const std::int64_t to = plan.row_chunks * (member.index() + 1) / member.count();
    const auto run = [&](std::int64_t c, std::int64_t row, const Tile<T>& tile) {
      const auto multiply = make(row, tile.rows);
      for (std::int64_t block = 0; block < plan.blocks; ++block) {
        const Tile<T> out = Worker<T>::block_of(y, stride, layer.width(), block);
        multiply(block, Worker<T>::rows_of(out, row, tile.rows));
        Worker<T>::show(out, plan.rows, c, Chunk(*this, plan, x, seen, block, c));
      }
    };
    worker_.each_chunk({y, stride, 0, 0}, plan.rows, from, to, run);
  };
  if (narrow(layer) && Panel<T>::holds_columns(layer)) {
    const auto weights = panel.columns(plan);
    const T* const biases = panel.biases(plan, 0, layer.width());
    walk([&](std::int64_t row, int rows) {
      return [&, x_runs = locate(layer, false, row, plan.in, rows, weights.zeros, panel.seen())](
                 std::int64_t, const Tile<T>& tile) {
        worker_.kernel.dot(x_runs, weights.weights, weights.stride, biases, tile);
      };
    });
    return true;
  }
  if (plan.blocks == 1 || plan.row_chunks < member.count() || !Panel<T>::holds(layer)) return false;
  const auto weights = panel.whole(plan);
  const Groups groups(layer, false, 0, 1);
  walk([&](std::int64_t row, int rows) {
    return [&, patches = worker_.left(layer, groups, false, plan.in, row, rows, 0, depth)](
               std::int64_t block, const Tile<T>& tile) {
      const T* const biases = weights.biases ? weights.biases + block * kBlockColumns : nullptr;
      worker_.kernel.multiply(patches, weights.weights + block * depth * kBlockColumns,
                              kBlockColumns, static_cast<int>(depth), true, biases, tile);
    };
  });
  return true;
}

template bool Forward<float>::convolve(const Plan<float>&, float*, float*, bool);
template bool Forward<double>::convolve(const Plan<double>&, double*, double*, bool);

}  // namespace varprop
