#include "chain/root.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "chain/worker.hpp"

namespace varprop {
namespace {

// How small what is left of a row's square may get before it is computed anew, as it is a
// difference of larger numbers.
constexpr double kCancelled = 0x1p-20;

// Squares of rows below it are of numbers that may be too small to be squared.
constexpr double kSmall = 0x1p-900;

// Times the rounding of a sum, in units of which what is left of a row is zero.
constexpr double kRounding = 16 * 0x1p-53;

// Pivots whose effect on the rest is counted in one product.
constexpr std::int64_t kTogether = 32;

class Elimination {
 public:
  Elimination(Root& root, Search& search, const Products& products)
      : root_(root),
        search_(search),
        products_(products.taken.data()),
        open_(static_cast<std::int64_t>(search.open.size())),
        stride_(padded(open_)),
        square_(search.left) {
    for (std::int64_t i = 0; i < open_; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) {
        search_.rest[at(j * stride_ + i)] = rest(i)[j] = products_[i * stride_ + j];
      }
      diagonal(i) = square_[at(i)] = rest(i)[i];
    }
  }

  // Brings rows near 1, by largest(i), where their squares are too small, and tells whether there
  // were any: then all products are to be taken once more.
  template <class Largest>
  bool rescale(Largest largest) {
    bool any = false;
    for (std::int64_t i = 0; i < open_; ++i) {
      if (square_[at(i)] >= kSmall) continue;
      const double size = largest(row(i));
      if (size > 0 && root_.rescale(row(i), exponent_of(size))) any = true;
    }
    return any;
  }

  // After the first products, of the rows of X themselves and of ones. Leaves out rows that are
  // equal to others; same(i, j) looks at the numbers.
  template <class Same>
  void begin(Same same) {
    for (std::int64_t i = 0; i < open_; ++i) {
      root_.sums[at(row(i))] = products_[open_ * stride_ + i];
      search_.squares[at(row(i))] = square_[at(i)];
    }
    for (std::int64_t i = 0; i < open_; ++i) {
      const double square = square_[at(i)];
      for (std::int64_t j = 0; j < i && !closed(i); ++j) {
        if (closed(j) || square_[at(j)] != square || rest(i)[j] != square) continue;
        if (!same(row(i), row(j))) continue;
        search_.equal[at(row(i))] = row(j);
        close(i);
      }
    }
  }

  // After later ones, of what is left of the rows, and of that with the pivots.
  void go_on() {
    late_ = true;
    const std::int64_t rank = root_.rank(), between = padded(rank);
    double* const parts = search_.factor.data();
    std::fill_n(parts, open_ * between, 0.0);
    for (std::int64_t i = 0; i < open_; ++i) {
      if (negligible(i)) continue;
      for (std::int64_t k = 0; k < rank; ++k) {
        parts[i * between + k] = products_[(open_ + k) * stride_ + i];
      }
    }
    root_.write_steps(search_.steps.data());
    root_.divide(search_.steps.data(), parts, open_, between);
    for (std::int64_t i = 0; i < open_; ++i) {
      double* const l = root_.row(row(i));
      for (std::int64_t k = 0; k < rank; ++k) {
        const double part = parts[i * between + k];
        l[k] += part;
        diagonal(i) -= part * part;
      }
    }
    subtract(rank);
  }

  // Takes pivots as long as what is left of a row is known well, and leaves the other rows open.
  template <class Stopped>
  void run(Stopped stopped) {
    std::vector<Search::Row>& open = search_.open;
    for (std::int64_t i = 0; i < open_; ++i) {
      if (negligible(i) || square_[at(i)] > open[at(i)].before / 4) close(i);
      open[at(i)].before = square_[at(i)];
    }
    counted_ = root_.rank();
    while (root_.rank() < root_.most() && !stopped()) {
      std::int64_t best = -1;
      for (std::int64_t i = 0; i < open_; ++i) {
        if (closed(i) || diagonal(i) <= kCancelled * square_[at(i)]) continue;
        if (best < 0 || diagonal(i) > diagonal(best)) best = i;
      }
      if (best < 0) break;
      take(best);
    }
    if (root_.rank() == root_.most()) open.clear();
    std::erase_if(open, [](const Search::Row& one) { return one.row < 0; });
    const std::int64_t rank = root_.rank();
    double* to = search_.coefficients.data();
    for (const Search::Row& one : open) {
      for (std::int64_t k = 0; k < rank; ++k) to[k] = -root_.row(one.row)[k];
      root_.combine(to);
      to += padded(rank);
    }
  }

 private:
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
  std::int64_t row(std::int64_t i) const { return search_.open[at(i)].row; }
  bool closed(std::int64_t i) const { return row(i) < 0; }
  void close(std::int64_t i) { search_.open[at(i)].row = -1; }
  double* rest(std::int64_t i) { return search_.rest.data() + i * stride_; }
  double& diagonal(std::int64_t i) { return search_.diagonal[at(i)]; }

  // Is what is left of a row the rounding of its parts?
  bool negligible(std::int64_t i) const {
    if (closed(i) || square_[at(i)] == 0) return true;
    const std::int64_t rank = root_.rank();
    if (!late_) return false;
    double size = search_.squares[at(row(i))];
    const double* const c = search_.coefficients.data() + i * padded(rank);
    for (std::int64_t k = 0; k < rank; ++k) {
      size += c[k] * c[k] * search_.squares[at(root_.pivot(k))];
    }
    return square_[at(i)] <= kRounding * kRounding * static_cast<double>(rank + 1) * size;
  }

  void take(std::int64_t pivot) {
    const double size = std::sqrt(diagonal(pivot));
    const std::int64_t rank = root_.rank();
    const double* const own = root_.row(row(pivot));
    for (std::int64_t i = 0; i < open_; ++i) {
      if (closed(i)) continue;
      double* const l = root_.row(row(i));
      double left = i == pivot ? diagonal(i) : rest(pivot)[i];
      for (std::int64_t k = counted_; k < rank && i != pivot; ++k) left -= l[k] * own[k];
      l[rank] = left / size;
      diagonal(i) -= l[rank] * l[rank];
    }
    root_.take(row(pivot), late_);
    close(pivot);
    if (root_.rank() - counted_ < kTogether) return;
    for (std::int64_t i = 0; i < open_; ++i) {
      double* const to = search_.factor.data() + i * padded(kTogether);
      std::fill_n(to, kTogether, 0.0);
      if (!closed(i)) std::copy_n(root_.row(row(i)) + counted_, kTogether, to);
    }
    subtract(kTogether);
    counted_ = root_.rank();
  }

  // Takes the square of the factor, of so many columns, from the rest.
  void subtract(std::int64_t columns) {
    double *const factor = search_.factor.data(), *const turned = search_.turned.data();
    const std::int64_t between = padded(columns);
    for (std::int64_t k = 0; k < columns; ++k) {
      for (std::int64_t i = 0; i < open_; ++i) turned[k * stride_ + i] = -factor[i * between + k];
    }
    add_product({factor, between, 1}, turned, stride_, open_, columns, open_, search_.rest.data(),
                stride_);
  }

  Root& root_;
  Search& search_;
  const double* const products_;
  const std::int64_t open_, stride_;
  std::int64_t counted_ = 0;     // pivots whose effect on the rest is counted
  bool late_ = false;            // are these not the first products?
  std::vector<double>& square_;  // what is left of open rows, when it was last computed
};

}  // namespace

Root::Root(std::int64_t rows, std::int64_t width)
    : sums(static_cast<std::size_t>(rows)),
      exponents_(sums.size()),
      pivots_(static_cast<std::size_t>(std::min(rows, width))),
      l_(static_cast<std::size_t>(rows * padded(std::min(rows, width)))) {}

std::size_t Root::bytes(std::int64_t rows, std::int64_t width) {
  const std::int64_t most = std::min(rows, width);
  return static_cast<std::size_t>(rows * (padded(most) + 1) + most) * sizeof(double) +
         static_cast<std::size_t>(rows) * sizeof(int);
}

void Root::begin(std::int64_t rows, std::int64_t width, int exponent) {
  rows_ = rows;
  most_ = std::min(rows, width);
  rank_ = 0;
  late_ = false;
  std::fill_n(l_.begin(), rows * stride(), 0.0);
  for (std::int64_t i = 0; i < rows; ++i) rescale(i, exponent);
}

bool Root::rescale(std::int64_t i, int exponent) {
  constexpr int kLeast = std::numeric_limits<double>::min_exponent - 1;  // its scale is finite
  int& own = exponents_[static_cast<std::size_t>(i)];
  const int before = std::exchange(own, std::max(exponent, kLeast));
  return own != before;
}

void Root::write_steps(double* steps) const {
  for (std::int64_t k = 0; k < rank_; ++k, steps += padded(rank_)) {
    const double* const l = triangle(k);
    std::fill_n(steps, padded(rank_), 0.0);
    for (std::int64_t j = 0; j < k; ++j) steps[j] = -l[j] / l[k];
    steps[k] = 1 / l[k];
  }
}

void Root::divide(const double* steps, double* rows, std::int64_t count,
                  std::int64_t between) const {
  constexpr std::int64_t kRows = 16;  // in the first-level cache, mostly
  for (std::int64_t i = 0; i < count; i += kRows) {
    const auto few = static_cast<int>(std::min(kRows, count - i));
    double* const to = rows + i * between;
    for (std::int64_t k = 0; k < rank_; ++k) {
      double column[kRows] = {};
      kernel_table().inner({to, between, few}, {steps + k * padded(rank_), padded(rank_), 1},
                           static_cast<int>(padded(k + 1)), column, 1);
      for (int n = 0; n < few; ++n) to[n * between + k] = column[n];
    }
  }
}

void Root::combine(double* row) const {
  for (std::int64_t k = rank_; k-- > 0;) {
    const double* const l = triangle(k);
    row[k] /= l[k];
    for (std::int64_t j = 0; j < k; ++j) row[j] -= row[k] * l[j];
  }
}

Search::Search(std::int64_t rows) {
  const auto count = static_cast<std::size_t>(rows);
  open.reserve(count);
  equal.resize(count);
  for (auto* const of_rows : {&squares, &left, &diagonal}) of_rows->resize(count);
  const std::int64_t square = rows * std::max<std::int64_t>(padded(rows), kTogether);
  for (auto* const matrix : {&coefficients, &rest, &factor, &turned, &steps}) {
    matrix->resize(static_cast<std::size_t>(square));
  }
  turned.resize(static_cast<std::size_t>(std::max(rows, kTogether) * padded(rows)));
}

std::size_t Search::bytes(std::int64_t rows) {
  const auto count = static_cast<std::size_t>(rows);
  const std::int64_t square = rows * std::max<std::int64_t>(padded(rows), kTogether);
  return (5 * static_cast<std::size_t>(square) + 3 * count) * sizeof(double) +
         count * (sizeof(Row) + sizeof(std::int64_t));
}

template <class T>
bool take_root(Worker<T>& worker, const Signal<T>& x, std::int64_t rows, std::int64_t width,
               Root& root) {
  Member& member = worker.member;
  Implicit<T>& shared = worker.shared.implicit;
  Search& search = shared.search;
  double* const strip = worker.strip;
  if (member.first()) {
    root.begin(rows, width, exponent_of(x.rms));
    search.open.clear();
    for (std::int64_t i = 0; i < rows; ++i) {
      search.open.push_back({i, std::numeric_limits<double>::infinity()});
    }
    std::iota(search.equal.begin(), search.equal.end(), 0);
    search.first = true;
  }
  member.barrier();
  while (!search.open.empty()) {
    const bool first = search.first;
    const auto open = static_cast<std::int64_t>(search.open.size());
    const std::int64_t rank = first ? 0 : root.rank();
    const auto write = [&](std::int64_t column, int columns, double* to) {
      const auto put = [&](std::int64_t row, std::int64_t i) {
        worker.kernel.widen(x.x + row * x.stride + column, columns, root.scale(row),
                            to + i * kStripColumns);
      };
      for (std::int64_t i = 0; i < open; ++i) put(search.open[static_cast<std::size_t>(i)].row, i);
      for (std::int64_t k = 0; k < rank; ++k) put(root.pivot(k), open + k);
      if (first) {
        double* const ones = to + open * kStripColumns;
        std::fill_n(std::fill_n(ones, columns, 1.0), -columns & (kLanes - 1), 0.0);
      }
      if (rank == 0) return;
      add_product({search.coefficients.data(), padded(rank), 1}, to + open * kStripColumns,
                  kStripColumns, open, rank, columns, to, kStripColumns);
    };
    const Pairs pairs{open + rank + first, open, 0};
    if (!take_products(member, shared.products, strip, pairs, width, write)) return false;
    if (member.first()) {
      Elimination elimination(root, search, shared.products);
      const auto row = [&](std::int64_t i) { return x.x + i * x.stride; };
      const auto largest = [&](std::int64_t i) {
        double size = 0;
        for (std::int64_t j = 0; j < width; ++j) {
          size = std::max(size, static_cast<double>(std::abs(row(i)[j])));
        }
        return size;
      };
      const auto stopped = [&] { return worker.stopped(); };
      if (!first) {
        elimination.go_on();
        elimination.run(stopped);
      } else if (!elimination.rescale(largest)) {
        elimination.begin([&](std::int64_t i, std::int64_t j) {
          return std::equal(row(i), row(i) + width, row(j));
        });
        elimination.run(stopped);
        search.first = false;
      }
    }
    member.barrier();
  }
  if (member.first()) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t j = search.equal[static_cast<std::size_t>(i)];
      if (i == j) continue;
      std::copy_n(root.row(j), root.stride(), root.row(i));
    }
  }
  return true;
}

template bool take_root(Worker<float>&, const Signal<float>&, std::int64_t, std::int64_t, Root&);
template bool take_root(Worker<double>&, const Signal<double>&, std::int64_t, std::int64_t, Root&);

}  // namespace varprop
