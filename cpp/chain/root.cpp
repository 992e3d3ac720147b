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

class Elimination {
 public:
  Elimination(Root& root, Search& search, const Products& products)
      : root_(root),
        search_(search),
        products_(products.taken.data()),
        open_(static_cast<std::int64_t>(search.open.size())),
        square_(search.left),
        column_(search.column) {}

  // Brings rows near 1, by largest(i), where their squares are too small, and tells whether there
  // were any: then all products are to be taken once more.
  template <class Largest>
  bool rescale(Largest largest) {
    bool any = false;
    for (std::int64_t i = 0; i < open_; ++i) {
      if (products_[i * open_ + i] >= kSmall) continue;
      const double size = largest(row(i));
      if (size > 0 && root_.rescale(row(i), exponent_of(size))) any = true;
    }
    return any;
  }

  // The first products, of the rows of X themselves and of ones.
  void begin() {
    read();
    for (std::int64_t i = 0; i < open_; ++i) {
      root_.sums[at(row(i))] = products_[open_ * open_ + i];
      search_.squares[at(row(i))] = square_[at(i)];
    }
  }

  // Leaves out rows that are equal to others; same(i, j) looks at the numbers.
  template <class Same>
  void leave_equal(Same same) {
    for (std::int64_t i = 0; i < open_; ++i) {
      for (std::int64_t j = 0; j < i && !closed(i); ++j) {
        const double square = square_[at(i)];
        if (closed(j) || square_[at(j)] != square || rest(i, j) != square) continue;
        if (!same(row(i), row(j))) continue;
        search_.equal[at(row(i))] = row(j);
        close(i);
      }
    }
  }

  // Later ones, of what is left of the rows, and of that with the pivots.
  template <class Stopped>
  void go_on(Stopped stopped) {
    read();
    late_ = true;
    const std::int64_t rank = root_.rank();
    for (std::int64_t i = 0; i < open_ && !stopped(); ++i) {
      double* const part = search_.part.data() + i * rank;
      double* const l = root_.row(row(i));
      for (std::int64_t k = 0; k < rank; ++k) part[k] = products_[(open_ + k) * open_ + i];
      if (negligible(i)) continue;
      root_.divide(part);
      for (std::int64_t k = 0; k < rank; ++k) l[k] += part[k];
      for (std::int64_t j = 0; j <= i; ++j) {
        const double* const other = search_.part.data() + j * rank;
        double& rest = this->rest(i, j);
        for (std::int64_t k = 0; k < rank; ++k) rest -= part[k] * other[k];
      }
    }
  }

  // Takes pivots as long as what is left of a row is known well, and leaves the other rows open.
  template <class Stopped>
  void run(Stopped stopped) {
    std::vector<Search::Row>& open = search_.open;
    for (std::int64_t i = 0; i < open_; ++i) {
      if (negligible(i) || square_[at(i)] > open[at(i)].before / 4) close(i);
      open[at(i)].before = square_[at(i)];
    }
    while (root_.rank() < root_.most() && !stopped()) {
      std::int64_t best = -1;
      for (std::int64_t i = 0; i < open_; ++i) {
        if (closed(i) || rest(i, i) <= kCancelled * square_[at(i)]) continue;
        if (best < 0 || rest(i, i) > rest(best, best)) best = i;
      }
      if (best < 0) break;
      take(best);
    }
    if (root_.rank() == root_.most()) open.clear();
    std::erase_if(open, [](const Search::Row& one) { return one.row < 0; });
    const std::int64_t rank = root_.rank();
    double* to = search_.coefficients.data();
    for (const Search::Row& one : open) {
      if (stopped()) break;
      for (std::int64_t k = 0; k < rank; ++k) to[k] = -root_.row(one.row)[k];
      root_.combine(to);
      to += rank;
    }
  }

 private:
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
  std::int64_t row(std::int64_t i) const { return search_.open[at(i)].row; }
  bool closed(std::int64_t i) const { return row(i) < 0; }
  void close(std::int64_t i) { search_.open[at(i)].row = -1; }
  double& rest(std::int64_t i, std::int64_t j) {
    return search_.rest[at(std::max(i, j) * open_ + std::min(i, j))];
  }

  void read() {
    for (std::int64_t i = 0; i < open_; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) rest(i, j) = products_[i * open_ + j];
      square_[at(i)] = rest(i, i);
    }
  }

  // Is what is left of a row the rounding of its parts?
  bool negligible(std::int64_t i) const {
    if (closed(i) || square_[at(i)] == 0) return true;
    const std::int64_t rank = root_.rank();
    if (rank == 0) return false;
    double size = search_.squares[at(row(i))];
    const double* const c = search_.coefficients.data() + i * rank;
    for (std::int64_t k = 0; k < rank; ++k) {
      size += c[k] * c[k] * search_.squares[at(root_.pivot(k))];
    }
    return square_[at(i)] <= kRounding * kRounding * static_cast<double>(rank + 1) * size;
  }

  void take(std::int64_t pivot) {
    const double size = std::sqrt(rest(pivot, pivot));
    const std::int64_t rank = root_.rank();
    for (std::int64_t i = 0; i < open_; ++i) {
      if (closed(i)) continue;
      column_[at(i)] = rest(i, pivot) / size;
      root_.row(row(i))[rank] = column_[at(i)];
    }
    root_.take(row(pivot), late_);
    close(pivot);
    for (std::int64_t i = 0; i < open_; ++i) {
      if (closed(i)) continue;
      for (std::int64_t j = 0; j <= i; ++j) rest(i, j) -= column_[at(i)] * column_[at(j)];
    }
  }

  Root& root_;
  Search& search_;
  const double* const products_;
  const std::int64_t open_;
  bool late_ = false;            // are these not the first products?
  std::vector<double>& square_;  // what is left of open rows, when it was last computed
  std::vector<double>& column_;
};

}  // namespace

Root::Root(std::int64_t rows, std::int64_t width)
    : sums(static_cast<std::size_t>(rows)),
      exponents_(sums.size()),
      pivots_(static_cast<std::size_t>(std::min(rows, width))),
      l_(sums.size() * pivots_.size()) {}

std::size_t Root::bytes(std::int64_t rows, std::int64_t width) {
  const auto count = static_cast<std::size_t>(rows);
  const auto columns = static_cast<std::size_t>(std::min(rows, width));
  return (count * (columns + 1) + columns) * sizeof(double) + count * sizeof(int);
}

void Root::begin(std::int64_t rows, std::int64_t width, int exponent) {
  rows_ = rows;
  most_ = std::min(rows, width);
  rank_ = 0;
  late_ = false;
  std::fill_n(l_.begin(), rows * most_, 0.0);
  for (std::int64_t i = 0; i < rows; ++i) rescale(i, exponent);
}

bool Root::rescale(std::int64_t i, int exponent) {
  constexpr int kLeast = std::numeric_limits<double>::min_exponent - 1;  // its scale is finite
  int& own = exponents_[static_cast<std::size_t>(i)];
  const int before = std::exchange(own, std::max(exponent, kLeast));
  return own != before;
}

void Root::divide(double* row) const {
  for (std::int64_t k = 0; k < rank_; ++k) {
    const double* const l = triangle(k);
    for (std::int64_t j = 0; j < k; ++j) row[k] -= row[j] * l[j];
    row[k] /= l[k];
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
  for (auto* const of_rows : {&squares, &left, &column}) of_rows->resize(count);
  for (auto* const square : {&coefficients, &rest, &part}) square->resize(count * count);
}

std::size_t Search::bytes(std::int64_t rows) {
  const auto count = static_cast<std::size_t>(rows);
  return count * (3 * count + 3) * sizeof(double) + count * (sizeof(Row) + sizeof(std::int64_t));
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
      for (int j = 0; j < columns; j += kBlockColumns) {
        const Tile<double> rest{to + j, kStripColumns, static_cast<int>(open),
                                std::min(kBlockColumns, columns - j)};
        kernels<double>().multiply({search.coefficients.data(), rank, 1},
                                   to + open * kStripColumns + j, kStripColumns,
                                   static_cast<int>(rank), false, nullptr, rest);
      }
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
        elimination.go_on(stopped);
        elimination.run(stopped);
      } else if (!elimination.rescale(largest)) {
        elimination.begin();
        elimination.leave_equal([&](std::int64_t i, std::int64_t j) {
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
      std::copy_n(root.row(j), root.most(), root.row(i));
    }
  }
  return true;
}

template bool take_root(Worker<float>&, const Signal<float>&, std::int64_t, std::int64_t, Root&);
template bool take_root(Worker<double>&, const Signal<double>&, std::int64_t, std::int64_t, Root&);

}  // namespace varprop
