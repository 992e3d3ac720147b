#include "chain/normalize.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace varprop {
namespace {

bool by_columns(const Layer& layer) { return layer.kind == Layer::Kind::batch_norm; }
bool centred(const Layer& layer) { return layer.kind != Layer::Kind::rms_norm; }

template <class T>
const Normalizing<T>& normalizing(const Layer& layer) {
  return kernels<T>().normalizing[by_columns(layer)];
}

// Only read.
template <class T>
Tile<T> tile_at(const Signal<T>& x, std::int64_t row, std::int64_t column, std::int64_t rows,
                std::int64_t columns) {
  return {const_cast<T*>(x.x) + row * x.stride + column, x.stride, static_cast<int>(rows),
          static_cast<int>(columns)};
}

// Sums over the rows or down the columns that one member reads at a time.
using Sums = double[std::max(kChunkRows, kBlockColumns)];

// Calls action(first, units, count, sum) for whole rows or columns [first, first + units) of
// `count` numbers each, shared out among the members. sum(sums, add) makes new sums of them: calls
// add(row, column, rows, columns) for one part after the other.
template <class T, class Action>
void each_share(Worker<T>& worker, const Layer& layer, Action action) {
  const std::int64_t rows = worker.job.batch * layer.out.positions(), width = layer.width();
  const bool columns = by_columns(layer), few = width < kBlockColumns * worker.member.count();
  const std::int64_t step = !columns ? kChunkRows : few ? kLanes : kBlockColumns;
  const std::int64_t all = columns ? width : rows;
  worker.member.share(divide_up(all, step), [&](std::int64_t part) {
    const std::int64_t first = part * step, units = std::min(step, all - first);
    action(first, units, static_cast<double>(columns ? rows : width), [&](Sums& sums, auto add) {
      std::fill(std::begin(sums), std::end(sums), 0.0);
      if (!columns) return add(first, 0, units, width);
      for (std::int64_t row = 0; row < rows; row += kChunkRows) {
        add(row, first, std::min<std::int64_t>(kChunkRows, rows - row), units);
      }
    });
  });
  worker.member.end();
}

// Of the rows or columns of a tile whose first number is at (row, column).
template <class T>
Spread spread_at(const Shared<T>& shared, const Layer& layer, std::int64_t row,
                 std::int64_t column) {
  const std::int64_t first = by_columns(layer) ? column : row;
  return {shared.centre.data() + first, shared.factor.data() + first, shared.mean.data() + first,
          shared.along.data() + first};
}

}  // namespace

template <class T>
void read_spread(Worker<T>& worker, const Layer& layer, const Signal<T>& x, int exponent) {
  const double eps = std::ldexp(layer.factor, 2 * (exponent - x.exponent));
  const double scale = std::ldexp(1.0, 2 * exponent);
  const Normalizing<T>& kernel = normalizing<T>(layer);
  each_share(worker, layer, [&](std::int64_t first, std::int64_t units, double count, auto sum) {
    double* const centre = worker.shared.centre.data() + first;
    double* const factor = worker.shared.factor.data() + first;
    Sums sums{};
    if (centred(layer)) sum(sums, [&](auto... place) { kernel.add(tile_at(x, place...), sums); });
    for (std::int64_t i = 0; i < units; ++i) centre[i] = sums[i] / count;
    sum(sums, [&](auto... place) { kernel.add_squares(tile_at(x, place...), centre, sums); });
    for (std::int64_t i = 0; i < units; ++i) {
      factor[i] = 1 / std::sqrt(sums[i] / count * scale + eps);
    }
  });
}

template <class T>
void normalize(const Shared<T>& shared, const Layer& layer, std::int64_t row, std::int64_t column,
               const Tile<T>& x, const Tile<T>& to) {
  normalizing<T>(layer).normalize(x, spread_at(shared, layer, row, column), to);
}

template <class T>
void read_gradient(Worker<T>& worker, const Layer& layer, const Signal<T>& x, int exponent,
                   const Signal<T>& gradient) {
  const double scale = std::ldexp(1.0, 2 * exponent);
  const Normalizing<T>& kernel = normalizing<T>(layer);
  each_share(worker, layer, [&](std::int64_t first, std::int64_t units, double count, auto sum) {
    double* const mean = worker.shared.mean.data() + first;
    double* const along = worker.shared.along.data() + first;
    const Spread spread = spread_at(worker.shared, layer, first, first);
    Sums sums{};
    if (centred(layer)) {
      sum(sums, [&](auto... place) { kernel.add(tile_at(gradient, place...), sums); });
    }
    for (std::int64_t i = 0; i < units; ++i) mean[i] = sums[i] / count;
    sum(sums, [&](auto... place) {
      kernel.add_products(tile_at(x, place...), spread, tile_at(gradient, place...), sums);
    });
    for (std::int64_t i = 0; i < units; ++i) along[i] = sums[i] / count * scale;
  });
}

template <class T>
void normalize_back(const Shared<T>& shared, const Layer& layer, std::int64_t row,
                    std::int64_t column, const Tile<T>& x, const Tile<T>& gradient, double scale) {
  normalizing<T>(layer).backpropagate(x, spread_at(shared, layer, row, column), scale, gradient);
}

#define INSTANTIATE(T)                                                                            \
  template void read_spread(Worker<T>&, const Layer&, const Signal<T>&, int);                     \
  template void normalize(const Shared<T>&, const Layer&, std::int64_t, std::int64_t,             \
                          const Tile<T>&, const Tile<T>&);                                        \
  template void read_gradient(Worker<T>&, const Layer&, const Signal<T>&, int, const Signal<T>&); \
  template void normalize_back(const Shared<T>&, const Layer&, std::int64_t, std::int64_t,        \
                               const Tile<T>&, const Tile<T>&, double);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace varprop
