#include "chain/normalize.hpp"

#include <algorithm>
#include <cmath>

namespace varprop {
namespace {

std::size_t at(std::int64_t position) { return static_cast<std::size_t>(position); }

bool by_columns(const Layer& layer) { return layer.kind == Layer::Kind::batch_norm; }
bool centred(const Layer& layer) { return layer.kind != Layer::Kind::rms_norm; }

// The sum over a row of term(j), in a fixed order.
template <class Term>
double sum_row(std::int64_t width, Term term) {
  double lanes[kLanes] = {};
  std::int64_t j = 0;
  for (; j + kLanes <= width; j += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(j + lane);
  }
  for (int lane = 0; j < width; ++lane, ++j) lanes[lane] += term(j);
  return total(lanes);
}

// The sums down the columns of a block of term(i, j).
template <class Term>
void sum_columns(std::int64_t rows, int columns, double* sums, Term term) {
  std::fill_n(sums, columns, 0.0);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) sums[j] += term(i, j);
  }
}

// Calls action(row) for every row, or action(column, columns) for every block of columns.
template <class T, class ForRow, class ForBlock>
void each(Worker<T>& worker, const Layer& layer, ForRow for_row, ForBlock for_block) {
  const std::int64_t rows = worker.job.batch * layer.out.positions(), width = layer.width();
  if (by_columns(layer)) {
    worker.member.share(divide_up(width, kBlockColumns), [&](std::int64_t block) {
      const std::int64_t column = block * kBlockColumns;
      for_block(column, static_cast<int>(std::min<std::int64_t>(kBlockColumns, width - column)));
    });
  } else {
    worker.member.share(divide_up(rows, kChunkRows), [&](std::int64_t chunk) {
      const std::int64_t end = std::min(rows, (chunk + 1) * kChunkRows);
      for (std::int64_t row = chunk * kChunkRows; row < end; ++row) for_row(row);
    });
  }
  worker.member.end();
}

}  // namespace

template <class T>
void read_spread(Worker<T>& worker, const Layer& layer, const Signal<T>& x, int exponent) {
  Shared<T>& shared = worker.shared;
  const std::int64_t rows = worker.job.batch * layer.out.positions(), width = layer.width();
  const double eps = std::ldexp(layer.factor, 2 * (exponent - x.exponent));
  const auto write = [&](std::int64_t i, double mean, double variance) {
    shared.centre[at(i)] = mean;
    shared.factor[at(i)] = 1 / std::sqrt(std::ldexp(variance, 2 * exponent) + eps);
  };
  each(
      worker, layer,
      [&](std::int64_t i) {
        const T* const row = x.x + i * x.stride;
        const auto count = static_cast<double>(width);
        const auto number = [&](std::int64_t j) { return static_cast<double>(row[j]); };
        const double mean = centred(layer) ? sum_row(width, number) / count : 0;
        const auto square = [&](std::int64_t j) { return (number(j) - mean) * (number(j) - mean); };
        write(i, mean, sum_row(width, square) / count);
      },
      [&](std::int64_t column, int columns) {
        const auto count = static_cast<double>(rows);
        double means[kBlockColumns], squares[kBlockColumns];
        const auto number = [&](std::int64_t i, int j) {
          return static_cast<double>(x.x[i * x.stride + column + j]);
        };
        sum_columns(rows, columns, means, number);
        for (int j = 0; j < columns; ++j) means[j] /= count;
        sum_columns(rows, columns, squares, [&](std::int64_t i, int j) {
          return (number(i, j) - means[j]) * (number(i, j) - means[j]);
        });
        for (int j = 0; j < columns; ++j) write(column + j, means[j], squares[j] / count);
      });
}

template <class T>
void normalize(const Shared<T>& shared, const Layer& layer, std::int64_t row, std::int64_t column,
               const Tile<T>& x, const Tile<T>& to) {
  for (int i = 0; i < x.rows; ++i) {
    const T* const from = x.data + i * x.stride;
    T* const into = to.data + i * to.stride;
    for (int j = 0; j < x.columns; ++j) {
      const std::size_t unit = at(by_columns(layer) ? column + j : row + i);
      into[j] = static_cast<T>((static_cast<double>(from[j]) - shared.centre[unit]) *
                               shared.factor[unit]);
    }
  }
}

template <class T>
void read_gradient(Worker<T>& worker, const Layer& layer, const Signal<T>& x,
                   const Signal<T>& gradient) {
  Shared<T>& shared = worker.shared;
  const std::int64_t rows = worker.job.batch * layer.out.positions(), width = layer.width();
  const auto write = [&](std::int64_t i, double sum, double along, std::int64_t count) {
    shared.mean[at(i)] = centred(layer) ? sum / static_cast<double>(count) : 0;
    shared.along[at(i)] = along / static_cast<double>(count);
  };
  const auto number = [&](std::int64_t i, std::int64_t j) {
    return static_cast<double>(gradient.x[i * gradient.stride + j]);
  };
  const auto normalized = [&](std::int64_t i, std::int64_t j) {
    const std::size_t unit = at(by_columns(layer) ? j : i);
    return (static_cast<double>(x.x[i * x.stride + j]) - shared.centre[unit]) * shared.factor[unit];
  };
  each(
      worker, layer,
      [&](std::int64_t i) {
        const double sum = sum_row(width, [&](std::int64_t j) { return number(i, j); });
        const double along =
            sum_row(width, [&](std::int64_t j) { return number(i, j) * normalized(i, j); });
        write(i, sum, along, width);
      },
      [&](std::int64_t column, int columns) {
        double sums[kBlockColumns], along[kBlockColumns];
        sum_columns(rows, columns, sums,
                    [&](std::int64_t i, int j) { return number(i, column + j); });
        sum_columns(rows, columns, along, [&](std::int64_t i, int j) {
          return number(i, column + j) * normalized(i, column + j);
        });
        for (int j = 0; j < columns; ++j) write(column + j, sums[j], along[j], rows);
      });
}

template <class T>
void normalize_back(const Shared<T>& shared, const Layer& layer, std::int64_t row,
                    std::int64_t column, const Tile<T>& x, const Tile<T>& gradient, double scale) {
  for (int i = 0; i < x.rows; ++i) {
    const T* const from = x.data + i * x.stride;
    T* const into = gradient.data + i * gradient.stride;
    for (int j = 0; j < x.columns; ++j) {
      const std::size_t unit = at(by_columns(layer) ? column + j : row + i);
      const double factor = shared.factor[unit];
      const double normalized = (static_cast<double>(from[j]) - shared.centre[unit]) * factor;
      const double left =
          static_cast<double>(into[j]) - shared.mean[unit] - normalized * shared.along[unit];
      into[j] = static_cast<T>(scale * factor * left);
    }
  }
}

template void read_spread(Worker<float>&, const Layer&, const Signal<float>&, int);
template void read_spread(Worker<double>&, const Layer&, const Signal<double>&, int);
template void normalize(const Shared<float>&, const Layer&, std::int64_t, std::int64_t,
                        const Tile<float>&, const Tile<float>&);
template void normalize(const Shared<double>&, const Layer&, std::int64_t, std::int64_t,
                        const Tile<double>&, const Tile<double>&);
template void read_gradient(Worker<float>&, const Layer&, const Signal<float>&,
                            const Signal<float>&);
template void read_gradient(Worker<double>&, const Layer&, const Signal<double>&,
                            const Signal<double>&);
template void normalize_back(const Shared<float>&, const Layer&, std::int64_t, std::int64_t,
                             const Tile<float>&, const Tile<float>&, double);
template void normalize_back(const Shared<double>&, const Layer&, std::int64_t, std::int64_t,
                             const Tile<double>&, const Tile<double>&, double);

}  // namespace varprop
