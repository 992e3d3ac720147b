#include "weights.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "isa.hpp"

#ifdef _OPENMP
#  include <omp.h>
#endif

namespace varprop {
namespace {

bool is_calling_thread() {
#ifdef _OPENMP
  return omp_get_thread_num() == 0;
#else
  return true;
#endif
}

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

// The largest number of T that is <= x (direction -1), or the smallest that is >= x (direction +1).
template <class T>
T toward(double x, int direction) {
  const T nearest = static_cast<T>(x);
  const bool outside = direction < 0 ? nearest > x : nearest < x;
  return outside ? std::nextafter(nearest, std::copysign(std::numeric_limits<T>::infinity(),
                                                         static_cast<T>(direction)))
                 : nearest;
}

// The largest scale <= half at which no location + scale * u, |u| < 1, rounds to an end of the
// interval.
template <class T>
T open_scale(T location, T half, T low, T high) {
  const T end = 1 - std::numeric_limits<T>::epsilon() / 2;
  const auto inside = [&](T scale) {
    return std::fma(end, scale, location) < high && std::fma(-end, scale, location) > low;
  };
  if (inside(half)) return half;
  T good = 0, bad = half;
  for (int i = 0; i < 64; ++i) {
    const T middle = good + (bad - good) / 2;
    (inside(middle) ? good : bad) = middle;
  }
  return good;
}

template <class T>
void set_quantile(Recipe<T>& recipe, const Draw& draw, int exponent) {
  // An upper tail is drawn as the lower one, reflected: only there is Phi precise.
  const bool reflect = draw.low + draw.high > 0;
  const double p0 = normal_cdf(reflect ? -draw.high : draw.low);
  const double p1 = normal_cdf(reflect ? -draw.low : draw.high);
  recipe.law = Law::quantile;
  recipe.mean = draw.mean;
  recipe.std = reflect ? -draw.std : draw.std;
  recipe.p_middle = p0 + (p1 - p0) / 2;
  recipe.p_half = (reflect ? -1 : 1) * (p1 - p0) / 2;
  recipe.floor = toward<T>(draw.mean + draw.std * draw.low, 1);
  recipe.ceiling = toward<T>(draw.mean + draw.std * draw.high, -1);
  recipe.factor = std::ldexp(T{1}, exponent);
}

}  // namespace

template <class T>
Recipe<T> make_recipe(const Draw& draw, const Key& key, std::uint64_t trial, int exponent) {
  Recipe<T> recipe{};
  std::copy(key.begin(), key.end(), recipe.key);
  recipe.trial = trial;
  T location = static_cast<T>(draw.mean), scale = static_cast<T>(draw.std);
  switch (draw.distribution) {
    case Draw::Distribution::constant:
      recipe.law = Law::constant;
      break;
    case Draw::Distribution::uniform: {
      recipe.law = Law::uniform;
      location = static_cast<T>(draw.low / 2 + draw.high / 2);
      scale = open_scale(location, static_cast<T>(draw.high / 2 - draw.low / 2),
                         static_cast<T>(draw.low), static_cast<T>(draw.high));
      break;
    }
    case Draw::Distribution::normal:
      recipe.law = Law::normal;
      break;
    case Draw::Distribution::truncated_normal:
      if (draw.low == -2 && draw.high == 2) {
        recipe.law = Law::truncated_normal;
      } else {
        set_quantile(recipe, draw, exponent);
      }
      break;
  }
  recipe.location = std::ldexp(location, exponent);
  recipe.scale = std::ldexp(scale, exponent);
  return recipe;
}

template Recipe<float> make_recipe(const Draw&, const Key&, std::uint64_t, int);
template Recipe<double> make_recipe(const Draw&, const Key&, std::uint64_t, int);

namespace {

// Numbers of a block that is drawn into L1 before it is rounded or spread.
constexpr std::int64_t kStaged = 4096;

template <class T>
void spread(const T* staged, std::int64_t row_stride, std::int64_t column_stride,
            const Rectangle& r, const Output& output, std::byte* corner) {
  for (std::int64_t i = 0; i < r.rows; ++i) {
    std::byte* to = corner + i * output.row_stride;
    const T* from = staged + i * row_stride;
    for (std::int64_t j = 0; j < r.columns; ++j, to += output.column_stride) {
      std::memcpy(to, from + j * column_stride, sizeof(T));
    }
  }
}

// A block of at most kStaged numbers.
template <class T>
void fill_staged(const Recipe<T>& recipe, const Rectangle& r, const Output& output,
                 std::byte* corner) {
  alignas(64) T staged[kStaged];
  const bool tall = r.columns < kLanes;
  const std::int64_t padded = (r.columns + kLanes - 1) / kLanes * kLanes;
  const std::int64_t row_stride = tall ? 1 : padded, column_stride = tall ? r.rows : 1;
  if (tall) {
    kernels<T>().draw_transposed(recipe, r, staged, column_stride);
  } else {
    kernels<T>().draw(recipe, r, staged, row_stride, true);
  }
  if constexpr (sizeof(T) == 4) {
    if (output.type != OutputType::float32) {
      alignas(64) std::uint16_t rounded[kStaged];
      const auto round = output.type == OutputType::float16 ? kernel_table().to_float16
                                                            : kernel_table().to_bfloat16;
      if (!tall && output.column_stride == sizeof(std::uint16_t)) {
        for (std::int64_t i = 0; i < r.rows; ++i) {
          round(staged + i * padded, static_cast<std::size_t>(r.columns),
                reinterpret_cast<std::uint16_t*>(corner + i * output.row_stride));
        }
        return;
      }
      const std::int64_t count = tall ? r.rows * r.columns : r.rows * padded;
      round(staged, static_cast<std::size_t>(count), rounded);
      return spread(rounded, row_stride, column_stride, r, output, corner);
    }
  }
  spread(staged, row_stride, column_stride, r, output, corner);
}

// Consecutive rows of the region, drawn on one thread.
template <class T>
void fill_rows(const Recipe<T>& recipe, const Rectangle& r, const Output& output,
               std::byte* corner) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  const bool direct = output.type == OutputType::float32 || output.type == OutputType::float64;
  if (direct && output.row_stride == size && output.column_stride % size == 0) {
    return kernels<T>().draw_transposed(recipe, r, reinterpret_cast<T*>(corner),
                                        output.column_stride / size);
  }
  if (direct && output.column_stride == size && output.row_stride % size == 0 &&
      r.columns >= kLanes) {
    return kernels<T>().draw(recipe, r, reinterpret_cast<T*>(corner), output.row_stride / size,
                             false);
  }
  // Blocks end at multiples of kGroup rows, so that no group of numbers is drawn twice.
  constexpr std::int64_t kGroup = 32;
  const std::int64_t block_columns = std::min(r.columns, kStaged / kGroup);
  const std::int64_t padded = (block_columns + kLanes - 1) / kLanes * kLanes;
  const std::int64_t width = block_columns < kLanes ? block_columns : padded;
  const std::int64_t block_rows = kStaged / width / kGroup * kGroup;
  for (std::int64_t i = 0, next; i < r.rows; i = next) {
    next = std::min(r.rows, i + block_rows - (r.row + i) % kGroup);
    for (std::int64_t j = 0; j < r.columns; j += block_columns) {
      fill_staged(recipe,
                  Rectangle{r.row + i, next - i, r.column + j * r.column_step,
                            std::min(block_columns, r.columns - j), r.column_step},
                  output, corner + i * output.row_stride + j * output.column_stride);
    }
  }
}

template <class T>
void fill_region(const Recipe<T>& recipe, const Region& region, const Output& output, int threads,
                 Watcher& watcher) {
  // Shares of about 2^16 numbers: bands of rows where there are enough, else pieces of columns.
  constexpr std::int64_t kShare = 1 << 16, kBand = 64;
  const std::int64_t band_columns = std::min(region.columns, kShare / kBand);
  const std::int64_t band_rows =
      region.row_step == 1 ? std::max(kBand, kShare / band_columns / kBand * kBand) : kBand;
  const std::int64_t down = (region.rows + band_rows - 1) / band_rows;
  const std::int64_t across = (region.columns + band_columns - 1) / band_columns;
  auto* const data = static_cast<std::byte*>(output.data);
  [[maybe_unused]] const int team =
      static_cast<int>(std::min<std::int64_t>(threads, down * across));
  Control control(watcher, down * across);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(team)
  for (std::int64_t p = 0; p < down; ++p) {
    for (std::int64_t q = 0; q < across; ++q) {
      if (control.stopped()) continue;
      const std::int64_t i0 = p * band_rows, i1 = std::min(region.rows, i0 + band_rows);
      const std::int64_t j0 = q * band_columns, j1 = std::min(region.columns, j0 + band_columns);
      const std::int64_t run = region.row_step == 1 ? i1 - i0 : 1;
      for (std::int64_t i = i0; i < i1; i += run) {
        fill_rows(recipe,
                  Rectangle{region.row + i * region.row_step, run,
                            region.column + j0 * region.column_step, j1 - j0, region.column_step},
                  output, data + i * output.row_stride + j0 * output.column_stride);
      }
      control.step_done();
      control.poll(is_calling_thread());
    }
  }
  control.rethrow();
}

}  // namespace

void fill(const Draw& draw, const Key& key, std::uint64_t trial, const Region& region,
          const Output& output, int threads, Watcher& watcher) {
  if (region.rows == 0 || region.columns == 0) return;
  kernel_table();  // an unusable VARPROP_ISA is reported here, outside the threads
  if (output.type == OutputType::float64) {
    fill_region(make_recipe<double>(draw, key, trial), region, output, threads, watcher);
  } else {
    fill_region(make_recipe<float>(draw, key, trial), region, output, threads, watcher);
  }
}

}  // namespace varprop
