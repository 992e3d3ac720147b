// How a region of a tensor lies in memory: its axes as few as they can be, and cut into cells.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "kernels/kernels.hpp"
#include "weights.hpp"

namespace varprop {

// Matrices of a kernel, their rows and columns. Rows are numbered through all matrices.
struct Box {
  enum { kernel, rows, columns, kAxes };

  std::int64_t row, column;  // of the first number
  std::byte* data;           // where it goes
  Axis axes[kAxes];

  std::int64_t count(int axis) const { return axes[axis].count; }
  std::ptrdiff_t stride(int axis) const { return axes[axis].stride; }
  std::int64_t size() const { return count(kernel) * count(rows) * count(columns); }

  // Whether the rows of one matrix follow those of another, and how many follow each other.
  bool chained() const { return axes[kernel].step == count(rows); }
  std::int64_t run() const { return chained() ? count(kernel) * count(rows) : count(rows); }

  static constexpr int third(int axis, int other) { return kernel + rows + columns - axis - other; }

  // Another axis than `run` along which numbers of this size are neighbours in memory, worth a
  // transpose; -1 where there is none.
  int along_memory(std::ptrdiff_t size, int run) const {
    for (int axis = 0; axis < kAxes; ++axis) {
      if (axis != run && stride(axis) == size && count(axis) >= 4) return axis;
    }
    return -1;
  }

  void move(int axis, std::int64_t by) {
    (axis == columns ? column : row) += by * axes[axis].step;
    data += by * stride(axis);
  }
};

// Blocks of random words have lanes along rows, four numbers each, or along columns, four rows.
inline constexpr std::int64_t kRowsOfBlock = 4;
inline constexpr std::int64_t kRunOfBlock = kRowsOfBlock * kLanes;

inline std::int64_t pieces(std::int64_t count, std::int64_t size) {
  return (count + size - 1) / size;
}

// Which lanes fill a box: those that waste few words, and of two such those along memory.
inline bool lanes_along_rows(const Box& box) {
  const std::int64_t columns = box.count(Box::columns), run = box.run();
  const std::int64_t along_rows = columns * pieces(run, kRunOfBlock);
  const std::int64_t along_columns = pieces(columns, kLanes) * pieces(run, kRowsOfBlock);
  if (4 * along_rows > 5 * along_columns) return false;
  if (4 * along_columns > 5 * along_rows) return true;
  return std::abs(box.stride(Box::rows)) < std::abs(box.stride(Box::columns));
}

// A box cut into cells of `extent` positions along each axis.
class Grid {
 public:
  // Cells of at most about `limit` numbers, long where memory is near and never shorter than lanes.
  Grid(const Box& box, bool along_rows, std::int64_t limit) : box_(box) {
    const std::int64_t units[Box::kAxes] = {
        1, std::min(box.count(Box::rows), along_rows ? kRunOfBlock : 2 * kRowsOfBlock),
        along_rows ? 1 : kLanes};
    std::copy_n(units, Box::kAxes, extent_);
    if (box.chained()) {
      const std::int64_t matrices = pieces(along_rows ? kRunOfBlock : kRowsOfBlock, units[1]);
      extent_[Box::kernel] = std::min(box.count(Box::kernel), matrices);
    }
    std::stable_sort(order_, order_ + Box::kAxes, [&](int a, int b) {
      return std::abs(box.stride(a)) < std::abs(box.stride(b));
    });
    for (const int axis : order_) {
      std::int64_t room = limit;
      for (int other = 0; other < Box::kAxes; ++other) {
        if (other != axis) room /= extent_[other];
      }
      const std::int64_t unit = units[axis], all = pieces(box.count(axis), unit);
      const std::int64_t most = std::max(room, extent_[axis]) / unit;
      extent_[axis] = pieces(all, pieces(all, most)) * unit;
    }
    for (int axis = 0; axis < Box::kAxes; ++axis) {
      cells_[axis] = pieces(box.count(axis) + before(axis), extent_[axis]);
    }
  }

  std::int64_t size() const { return cells_[0] * cells_[1] * cells_[2]; }

  // Cells follow each other as memory does.
  Box cell(std::int64_t index) const {
    Box result = box_;
    for (const int axis : order_) {
      const std::int64_t end = (index % cells_[axis] + 1) * extent_[axis] - before(axis);
      const std::int64_t begin = std::max<std::int64_t>(0, end - extent_[axis]);
      result.move(axis, begin);
      result.axes[axis].count = std::min(end, box_.count(axis)) - begin;
      index /= cells_[axis];
    }
    return result;
  }

 private:
  // Rows that the first cell lacks, so that no block of numbers belongs to two.
  std::int64_t before(int axis) const {
    return axis == Box::rows && extent_[axis] < box_.count(axis) ? box_.row % kRowsOfBlock : 0;
  }

  Box box_;
  int order_[Box::kAxes] = {Box::kernel, Box::rows, Box::columns};  // nearest in memory first
  std::int64_t extent_[Box::kAxes], cells_[Box::kAxes];
};

// A region of any number of axes as boxes of one shape.
class Boxes {
 public:
  explicit Boxes(const Region& region)
      : box_{region.row, region.column, region.data, {{1, 1, 0}, {1, 1, 0}, region.columns}} {
    // Counted up in memory, the columns may be as they lie there; the rows are counted up in the
    // tensor, where it is blocks of consecutive ones that are drawn.
    if (region.columns.stride < 0) reverse(box_.axes[Box::columns], box_.column);
    for (Axis axis : region.rows) {
      if (axis.count == 1) continue;
      if (axis.step < 0) reverse(axis, box_.row);
      const std::int64_t n = axis.count;
      if (!outer_.empty() && outer_.back().step == n * axis.step &&
          outer_.back().stride == n * axis.stride) {
        axis.count *= outer_.back().count;
        outer_.back() = axis;
      } else {
        outer_.push_back(axis);
      }
    }
    if (!outer_.empty() && outer_.back().step == 1) {
      box_.axes[Box::rows] = outer_.back();
      outer_.pop_back();
    }
    const auto nearest = std::min_element(
        outer_.begin(), outer_.end(),
        [](const Axis& a, const Axis& b) { return std::abs(a.stride) < std::abs(b.stride); });
    if (nearest == outer_.end()) return;
    box_.axes[Box::kernel] = *nearest;
    outer_.erase(nearest);
  }

  const Box& first() const { return box_; }

  std::int64_t size() const {
    std::int64_t result = 1;
    for (const Axis& axis : outer_) result *= axis.count;
    return result;
  }

  // The box at an index, or a cell of the first one, moved there.
  Box at(std::int64_t index, Box box) const {
    for (const Axis& axis : outer_) {
      box.row += index % axis.count * axis.step;
      box.data += index % axis.count * axis.stride;
      index /= axis.count;
    }
    return box;
  }

 private:
  void reverse(Axis& axis, std::int64_t& start) {
    start += (axis.count - 1) * axis.step;
    box_.data += (axis.count - 1) * axis.stride;
    axis.step = -axis.step;
    axis.stride = -axis.stride;
  }

  Box box_;
  std::vector<Axis> outer_;
};

}  // namespace varprop
