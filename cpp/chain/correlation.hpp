// Mean correlation between the examples of a batch.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "chain/worker.hpp"

namespace varprop {

// Mean cosine of the angle between two examples of the batch, those of zeros left out. An example
// is as many rows of x as it has positions.
template <class T>
double correlation(Worker<T>& worker, const T* x, std::int64_t stride, const Shape& shape,
                   double scale) {
  const Job& job = worker.job;
  Member& member = worker.member;
  Shared<T>& shared = worker.shared;
  const std::int64_t positions = shape.positions(), width = shape.channels;
  member.share(divide_up(job.batch, kChunkRows), [&](std::int64_t chunk) {
    const std::int64_t end = std::min(job.batch, (chunk + 1) * kChunkRows);
    for (std::int64_t i = chunk * kChunkRows; i < end; ++i) {
      double squares[kLanes] = {};
      for (std::int64_t row = i * positions; row < (i + 1) * positions; ++row) {
        for (std::int64_t j = 0; j < width; ++j) {
          const double number = static_cast<double>(x[row * stride + j]) * scale;
          squares[j % kLanes] += number * number;
        }
      }
      const double norm = std::sqrt(total(squares));
      shared.norms[static_cast<std::size_t>(i)] = norm > 0 ? scale / norm : 0;
    }
  });
  member.end();
  const auto positive = [](double norm) { return norm > 0; };
  const std::int64_t blocks = divide_up(width, kBlockColumns);
  member.share(blocks, [&](std::int64_t block) {
    const std::int64_t column = block * kBlockColumns;
    const std::int64_t columns = std::min<std::int64_t>(kBlockColumns, width - column);
    double squares = 0;
    for (std::int64_t position = 0; position < positions; ++position) {
      double sums[kBlockColumns] = {};
      for (std::int64_t i = 0; i < job.batch; ++i) {
        const double factor = shared.norms[static_cast<std::size_t>(i)];
        const T* const row = x + (i * positions + position) * stride + column;
        for (std::int64_t j = 0; j < columns; ++j) {
          sums[j] += static_cast<double>(row[j]) * factor;
        }
      }
      for (std::int64_t j = 0; j < columns; ++j) squares += sums[j] * sums[j];
    }
    shared.parts[static_cast<std::size_t>(block)] = squares;
    if (block == 0)
      shared.alive = std::count_if(shared.norms.begin(), shared.norms.end(), positive);
  });
  member.end();
  // Norms may be written anew from here on; the rest only after the next step.
  double squares = 0;
  for (std::int64_t block = 0; block < blocks; ++block) {
    squares += shared.parts[static_cast<std::size_t>(block)];
  }
  const auto alive = static_cast<double>(shared.alive);
  return alive < 2 ? std::numeric_limits<double>::quiet_NaN()
                   : (squares - alive) / (alive * (alive - 1));
}

}  // namespace varprop
