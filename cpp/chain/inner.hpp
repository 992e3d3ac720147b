// Inner products of long rows, summed side by side in parts of their columns.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "chain/plan.hpp"
#include "chain/team.hpp"
#include "isa.hpp"

namespace varprop {

// Numbers between the rows of a small matrix: whole lanes.
inline std::int64_t padded(std::int64_t columns) { return divide_up(columns, kLanes) * kLanes; }

// c = c + a b, of so many rows, terms and columns; b and c are padded to whole lanes.
inline void add_product(const View<double>& a, const double* b, std::int64_t b_stride,
                        std::int64_t rows, std::int64_t depth, std::int64_t columns, double* c,
                        std::int64_t c_stride) {
  for (std::int64_t j = 0; j < columns; j += kBlockColumns) {
    kernels<double>().multiply(
        a, b + j, b_stride, static_cast<int>(depth), false, nullptr,
        {c + j, c_stride, static_cast<int>(rows),
         static_cast<int>(std::min<std::int64_t>(kBlockColumns, columns - j))});
  }
}

// Columns that a member reads at a time.
inline constexpr int kStripColumns = 256;

// Of rows [0, right) with rows [left, rows), of a pair among the right ones once: the later row
// with the earlier.
struct Pairs {
  std::int64_t rows, right, left;

  std::int64_t stride() const { return padded(right); }
  std::int64_t numbers() const { return (rows - left) * stride(); }
  // Parts of the columns: enough for many threads, as far as their sums need little memory. A
  // constant of the sizes, as it fixes the order of sums.
  std::int64_t parts(std::int64_t columns) const {
    return std::clamp(std::min(kNumbers / std::max<std::int64_t>(numbers(), 1),
                               divide_up(columns, 4 * kStripColumns)),
                      std::int64_t{1}, kParts);
  }
  // Of the parts of so many numbers, or of fewer.
  static std::int64_t in_parts(std::int64_t numbers) {
    return std::max(numbers, std::min(kNumbers, kParts * numbers));
  }

 private:
  static constexpr std::int64_t kParts = 64, kNumbers = std::int64_t{1} << 21;
};

// Where a team sums.
struct Products {
  std::vector<double> parts, taken;  // product (i, j) is at (i - left) * stride + j

  Products() = default;
  // Of so many rows with so many at the most.
  Products(std::int64_t left, std::int64_t right)
      : parts(static_cast<std::size_t>(Pairs::in_parts(left * padded(right)))),
        taken(static_cast<std::size_t>(left * padded(right))) {}
  static std::size_t bytes(std::int64_t left, std::int64_t right) {
    const std::int64_t numbers = left * padded(right);
    return static_cast<std::size_t>(numbers + Pairs::in_parts(numbers)) * sizeof(double);
  }
};

// Takes the products of rows that write(column, columns, to) makes, strip after strip: row i at to
// + i * kStripColumns, padded with zeros to whole lanes. The first member has them, until the next
// barrier they are its own. False where the team leaves.
template <class Write>
bool take_products(Member& member, Products& to, double* strip, const Pairs& pairs,
                   std::int64_t columns, Write write) {
  const std::int64_t parts = pairs.parts(columns), count = pairs.numbers();
  const std::int64_t strips = divide_up(columns, kStripColumns);
  const auto& kernels = kernel_table();
  member.share(parts, [&](std::int64_t part) {
    double* const part_sums = to.parts.data() + part * count;
    std::fill_n(part_sums, count, 0.0);
    for (std::int64_t s = strips * part / parts; s < strips * (part + 1) / parts; ++s) {
      const std::int64_t column = s * kStripColumns;
      const auto wide = static_cast<int>(std::min<std::int64_t>(kStripColumns, columns - column));
      write(column, wide, strip);
      constexpr std::int64_t kStep = 8;
      for (std::int64_t j = 0; j < pairs.right; j += kStep) {
        const std::int64_t i = std::max(pairs.left, j);
        kernels.inner({strip + i * kStripColumns, kStripColumns, static_cast<int>(pairs.rows - i)},
                      {strip + j * kStripColumns, kStripColumns,
                       static_cast<int>(std::min(kStep, pairs.right - j))},
                      static_cast<int>(divide_up(wide, kLanes) * kLanes),
                      part_sums + (i - pairs.left) * pairs.stride() + j, pairs.stride());
      }
      member.poll();
    }
  });
  member.end();
  if (member.leaving()) return false;
  if (member.first()) {
    std::copy_n(to.parts.begin(), count, to.taken.begin());
    for (std::int64_t part = 1; part < parts; ++part) {
      for (std::int64_t i = 0; i < count; ++i) {
        to.taken[static_cast<std::size_t>(i)] +=
            to.parts[static_cast<std::size_t>(part * count + i)];
      }
    }
  }
  return true;
}

}  // namespace varprop
