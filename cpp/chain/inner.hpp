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

// Columns that a member reads at a time.
inline constexpr int kStripColumns = 256;

// Of rows [0, right) with rows [left, rows), of a pair among the right ones once: the later row
// with the earlier.
struct Pairs {
  std::int64_t rows, right, left;

  std::int64_t products() const { return (rows - left) * right; }
  // Parts of the columns: enough for many threads, as far as their sums need little memory. A
  // constant of the sizes, as it fixes the order of sums.
  std::int64_t parts(std::int64_t columns) const {
    return std::clamp(std::min(kNumbers / std::max<std::int64_t>(products(), 1),
                               divide_up(columns, 4 * kStripColumns)),
                      std::int64_t{1}, kParts);
  }
  // Of the parts of so many products, or of fewer.
  static std::int64_t most_numbers(std::int64_t products) {
    return std::max(products, std::min(kNumbers, kParts * products));
  }

 private:
  static constexpr std::int64_t kParts = 64, kNumbers = std::int64_t{1} << 21;
};

// Where a team sums.
struct Products {
  std::vector<double> parts, taken;  // product (i, j) is at (i - left) * right + j

  // For so many products at the most.
  void reserve(std::int64_t count) {
    parts.resize(static_cast<std::size_t>(Pairs::most_numbers(count)));
    taken.resize(static_cast<std::size_t>(count));
  }
  static std::size_t bytes(std::int64_t count) {
    return static_cast<std::size_t>(count + Pairs::most_numbers(count)) * sizeof(double);
  }
};

// Takes the products of rows that write(column, columns, to) makes, strip after strip: row i at to
// + i * kStripColumns, padded with zeros to whole lanes. The first member has them, until the next
// barrier they are its own. False where the team leaves.
template <class Write>
bool take_products(Member& member, Products& to, double* strip, const Pairs& pairs,
                   std::int64_t columns, Write write) {
  const std::int64_t parts = pairs.parts(columns), count = pairs.products();
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
                      part_sums + (i - pairs.left) * pairs.right + j, pairs.right);
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
