#include "chain/implicit.hpp"

#include <cmath>

#include "chain/chunk.hpp"

namespace varprop {
namespace {

constexpr Draw kNormal{.distribution = Draw::Distribution::normal, .std = 1};

// Rows of normals as doubles, kStripColumns apart.
template <class T>
void draw_rows(const Kernels<T>& kernel, const Recipe<T>& recipe, std::int64_t row,
               std::int64_t rows, std::int64_t column, int columns, double* to) {
  constexpr std::int64_t kStep = 8;
  alignas(64) T drawn[kStep * kStripColumns];
  for (std::int64_t i = 0; i < rows; i += kStep) {
    const std::int64_t count = std::min(kStep, rows - i);
    kernel.draw(recipe, Rectangle{row + i, count, column, columns, 1}, drawn, kStripColumns, true);
    for (std::int64_t k = 0; k < count; ++k) {
      kernel.widen(drawn + k * kStripColumns, columns, 1.0, to + (i + k) * kStripColumns);
    }
  }
}

// Row k becomes what row k of a triangle makes of the rows up to it.
void multiply_in_place(const double* triangle, std::int64_t size, std::int64_t k, int columns,
                       double* to, std::ptrdiff_t stride) {
  const double* const factors = triangle + k * padded(size);
  double* const row = to + k * stride;
  kernels<double>().widen(row, columns, factors[k], row);
  if (k == 0) return;
  kernels<double>().multiply({factors, size, 1}, to, stride, static_cast<int>(k), false, nullptr,
                             {row, stride, 1, columns});
}

// Some columns of the rows of U, each what is left of a pivot by those before.
template <class T>
void write_basis(const Implicit<T>& shared, const Root& root, const Signal<T>& x,
                 std::int64_t column, int columns, double* to, std::ptrdiff_t stride) {
  const std::int64_t rank = root.rank();
  for (std::int64_t k = 0; k < rank; ++k) {
    const std::int64_t i = root.pivot(k);
    kernels<T>().widen(x.x + i * x.stride + column, columns, root.scale(i), to + k * stride);
    multiply_in_place(shared.steps.data(), rank, k, columns, to, stride);
  }
}

// Makes them orthonormal once more: by the inverse of the root of their own products.
template <class T>
void mend_basis(const Implicit<T>& shared, std::int64_t rank, int columns, double* to,
                std::ptrdiff_t stride) {
  for (std::int64_t k = rank; k-- > 0;) {
    multiply_in_place(shared.mends.data(), rank, k, columns, to, stride);
  }
}

// From products of the rows of U, padded, to their root, in place, and its inverse.
template <class Stopped>
void invert_root(double* products, std::int64_t rank, double* inverse, Stopped stopped) {
  const std::int64_t stride = padded(rank);
  std::fill_n(inverse, rank * stride, 0.0);
  for (std::int64_t i = 0; i < rank && !stopped(); ++i) {
    double *const l = products + i * stride, *const own = inverse + i * stride;
    own[i] = 1;
    for (std::int64_t j = 0; j < i; ++j) {
      const double* const before = products + j * stride;
      for (std::int64_t k = 0; k < j; ++k) l[j] -= l[k] * before[k];
      l[j] /= before[j];
      l[i] -= l[j] * l[j];
      for (std::int64_t k = 0; k <= j; ++k) own[k] -= l[j] * inverse[j * stride + k];
    }
    l[i] = std::sqrt(l[i]);
    for (std::int64_t k = 0; k <= i; ++k) own[k] /= l[i];
  }
}

}  // namespace

// The root takes the place of what enters, and as many rows of normals that of the weights.
template <class T>
void Forward<T>::imply(std::int64_t l, Plan<T>& plan, bool seen) {
  const Layer& layer = plan.layer;
  Implicit<T>& shared = shared_.implicit;
  Root& root = shared.roots[job_.cost ? at(program_.weight[at(l)]) : 0];
  if (seen && !take_root(worker_, plan.in, plan.rows, layer.fan_in(), root)) return;
  // Without the factor sqrt(fan_in) of sums its numbers are of the size of the signal's.
  const int spread = exponent_of(std::sqrt(static_cast<double>(layer.fan_in())));
  if (worker_.member.first()) {
    plan.depth = std::max<std::int64_t>(1, root.rank());
    for (std::int64_t i = 0; i < plan.rows; ++i) {
      T* const to = shared.left.data() + i * plan.depth;
      for (std::int64_t k = 0; k < plan.depth; ++k) {
        to[k] = static_cast<T>(std::ldexp(root.row(i)[k], root.exponent(i) - spread));
      }
    }
  }
  worker_.member.barrier();
  plan.depth = std::max<std::int64_t>(1, root.rank());
  plan.weight = make_recipe<T>(layer.weight.draw, layer.weight.key, worker_.trial_number(),
                               plan.in.exponent - plan.exponent + spread);
  plan.in.x = shared.left.data();
  plan.in.stride = plan.depth;
}

// What the way back through a layer multiplies: a row of the gradient by what entered is that of
// `left` times normals, then rows of U.
template <class T>
void Backward<T>::imply(const BackwardPlan<T>& plan, std::int64_t l) {
  const Layer& layer = plan.layer;
  Member& member = worker_.member;
  Implicit<T>& shared = shared_.implicit;
  const auto& kernel = worker_.kernel;
  Root& root = shared.roots[static_cast<std::size_t>(program_.weight[static_cast<std::size_t>(l)])];
  Root& gradient = shared.gradient;
  const std::int64_t rows = plan.rows, rank = root.rank();
  if (!take_root(worker_, plan.gradient, rows, layer.width(), gradient)) return;
  member.barrier();
  const std::int64_t fresh = gradient.rank();
  const auto normals = make_recipe<T>(kNormal, layer.weight.key, worker_.trial_number());

  if (member.first()) root.write_steps(shared.steps.data());
  member.barrier();
  const auto each_block = [&](int columns, auto action) {
    for (int j = 0; j < columns; j += kBlockColumns) {
      action(j, std::min(kBlockColumns, columns - j));
    }
  };
  if (root.late()) {
    const auto basis = [&](std::int64_t column, int columns, double* to) {
      each_block(columns, [&](int j, int count) {
        write_basis(shared, root, plan.in, column + j, count, to + j, kStripColumns);
      });
    };
    if (!take_products(member, shared.products, worker_.strip, {rank, rank, 0}, layer.fan_in(),
                       basis)) {
      return;
    }
    if (member.first()) {
      invert_root(shared.products.taken.data(), rank, shared.mends.data(),
                  [&] { return worker_.stopped(); });
    }
    member.barrier();
  }

  const auto beside_normals = [&](std::int64_t column, int columns, double* to) {
    draw_rows(kernel, normals, 0, rank, column, columns, to);
    for (std::int64_t i = 0; i < rows; ++i) {
      kernel.widen(plan.gradient.x + i * plan.gradient.stride + column, columns, gradient.scale(i),
                   to + (rank + i) * kStripColumns);
    }
  };
  if (!take_products(member, shared.products, worker_.strip, {rank + rows, rank, rank},
                     layer.width(), beside_normals)) {
    return;
  }
  const std::int64_t between = padded(rank);
  if (member.first()) {
    std::copy_n(shared.products.taken.begin(), rows * between, shared.along.begin());
  }
  member.barrier();

  // Of V with the rows of U; from those with the pivots they follow well, unless some are late.
  const auto beside_pivots = [&](std::int64_t column, int columns, double* to) {
    if (root.late()) {
      each_block(columns, [&](int j, int count) {
        write_basis(shared, root, plan.in, column + j, count, to + j, kStripColumns);
        mend_basis(shared, rank, count, to + j, kStripColumns);
      });
    }
    for (std::int64_t k = 0; k < rank && !root.late(); ++k) {
      const std::int64_t i = root.pivot(k);
      kernel.widen(plan.in.x + i * plan.in.stride + column, columns, root.scale(i),
                   to + k * kStripColumns);
    }
    draw_rows(kernel, normals, rows, fresh, column, columns, to + rank * kStripColumns);
  };
  if (!take_products(member, shared.products, worker_.strip, {rank + fresh, rank, rank},
                     layer.fan_in(), beside_pivots)) {
    return;
  }
  if (member.first()) {
    double* const of_normals = shared.products.taken.data();  // V U^T, (fresh, rank)
    if (!root.late()) root.divide(shared.steps.data(), of_normals, fresh, between);
    for (std::int64_t i = 0; i < fresh * between; ++i) of_normals[i] = -of_normals[i];
    add_product({gradient.row(0), gradient.stride(), 1}, of_normals, between, rows, fresh, rank,
                shared.along.data(), between);
    const int shift = plan.gradient.exponent - plan.exponent;
    const std::int64_t depth = std::max<std::int64_t>(1, fresh + rank);
    std::fill_n(shared.left.begin(), rows * depth, T{0});
    for (std::int64_t i = 0; i < rows; ++i) {
      T* const to = shared.left.data() + i * depth;
      const double* const along = shared.along.data() + i * between;
      const double scale = std::ldexp(layer.weight.draw.std, shift + gradient.exponent(i));
      for (std::int64_t k = 0; k < fresh; ++k) to[k] = static_cast<T>(gradient.row(i)[k] * scale);
      for (std::int64_t j = 0; j < rank; ++j) to[fresh + j] = static_cast<T>(along[j] * scale);
    }
  }
  member.barrier();
}

template <class T>
void Backward<T>::multiply_implied(const BackwardPlan<T>& plan, std::int64_t l, T* out) {
  const Layer& layer = plan.layer;
  const Implicit<T>& shared = shared_.implicit;
  const Root& root =
      shared.roots[static_cast<std::size_t>(program_.weight[static_cast<std::size_t>(l)])];
  const std::int64_t rank = root.rank(), fresh = shared.gradient.rank();
  const std::int64_t depth = std::max<std::int64_t>(1, fresh + rank);
  const auto normals = make_recipe<T>(kNormal, layer.weight.key, worker_.trial_number());
  const Place to = place(l - 1);
  const std::int64_t stride = row_stride(to.shape.channels);
  T* const panel = worker_.panel.numbers();
  double* const strip = worker_.strip;

  const auto factor = [&](std::int64_t k, std::int64_t count, std::int64_t column, int columns) {
    if (k == 0) {
      write_basis(shared, root, plan.in, column, columns, strip, kBlockColumns);
      if (root.late()) mend_basis(shared, rank, columns, strip, kBlockColumns);
    }
    const std::int64_t drawn = std::clamp<std::int64_t>(fresh - k, 0, count);
    if (drawn > 0) {
      worker_.kernel.draw(normals, Rectangle{plan.rows + k, drawn, column, columns, 1}, panel,
                          kBlockColumns, true);
    }
    for (std::int64_t i = drawn; i < count; ++i) {
      const double* const u = strip + (k + i - fresh) * kBlockColumns;
      T* const numbers = panel + i * kBlockColumns;
      for (int j = 0; j < kBlockColumns; ++j) numbers[j] = rank ? static_cast<T>(u[j]) : T{0};
    }
    return panel;
  };

  const std::int64_t blocks_of_biases =
      layer.has_bias ? divide_up(layer.width(), kBlockColumns) : 0;
  worker_.member.share(to.blocks + blocks_of_biases, [&](std::int64_t task) {
    if (task >= to.blocks) return sum_biases(plan, l, task - to.blocks);
    const std::int64_t column = task * kBlockColumns;
    const Tile<T> tile = Worker<T>::block_of(out, stride, to.shape.channels, task);
    worker_.multiply(
        [&](std::int64_t row, std::int64_t, std::int64_t k, std::int64_t) -> View<T> {
          return {shared.left.data() + row * depth + k, depth, 1};
        },
        depth, nullptr, tile, to.rows, 0, to.chunks,
        [&](std::int64_t k, std::int64_t count) { return factor(k, count, column, tile.columns); },
        [&](std::int64_t chunk) {
          return Chunk(*this, l - 1, plan.exponent, plan.scale, task, chunk);
        });
  });
}

// Of the gradient by the weights, X^T D, the sum is that over the rows' sums, and the sum of
// squares tr(X X^T D D^T) = |L^T R|^2.
template <class T>
void Backward<T>::record_implied(const BackwardPlan<T>& plan, std::int64_t l) {
  const std::int64_t weight = program_.weight[static_cast<std::size_t>(l)];
  const Root& x = shared_.implicit.roots[static_cast<std::size_t>(weight)];
  Root& gradient = shared_.implicit.gradient;
  const auto exponent = [&](std::int64_t i) { return x.exponent(i) + gradient.exponent(i); };
  int most = exponent(0);
  for (std::int64_t i = 1; i < plan.rows; ++i) most = std::max(most, exponent(i));
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < plan.rows; ++i) {  // in one scale, now that nothing else needs it
    const double factor = std::ldexp(1.0, exponent(i) - most);
    for (std::int64_t k = 0; k < gradient.rank(); ++k) gradient.row(i)[k] *= factor;
    const auto row = static_cast<std::size_t>(i);
    sum += factor * x.sums[row] * gradient.sums[row];
  }
  std::vector<double>& both = shared_.implicit.products.taken;  // L^T R
  const std::int64_t between = gradient.stride();
  std::fill_n(both.begin(), x.rank() * between, 0.0);
  add_product({x.row(0), 1, x.stride()}, gradient.row(0), between, x.rank(), plan.rows,
              gradient.rank(), both.data(), between);
  for (std::int64_t i = 0; i < x.rank() * between; ++i) {
    const double product = both[static_cast<std::size_t>(i)];
    squares += product * product;
  }
  const double count =
      static_cast<double>(plan.layer.fan_in()) * static_cast<double>(plan.layer.width());
  Taken taken;
  taken.moments = {count, sum / count, std::max(0.0, squares - sum * (sum / count))};
  worker_.record(worker_.results.weight_gradients, weight, program_.weights, taken,
                 plan.in.exponent + plan.gradient.exponent + most);
}

#define INSTANTIATE(T)                                                                   \
  template void Forward<T>::imply(std::int64_t, Plan<T>&, bool);                         \
  template void Backward<T>::imply(const BackwardPlan<T>&, std::int64_t);                \
  template void Backward<T>::multiply_implied(const BackwardPlan<T>&, std::int64_t, T*); \
  template void Backward<T>::record_implied(const BackwardPlan<T>&, std::int64_t);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace varprop
