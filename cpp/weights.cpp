#include "weights.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "isa.hpp"
#include "layout.hpp"

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

// Numbers that are drawn into L1 before they are rounded or spread.
template <class T>
constexpr std::int64_t kStaged = 24576 / sizeof(T);

// Numbers of a box as they are drawn, side by side along one axis.
template <class T>
struct Staging {
  int run;                          // that axis
  std::int64_t stride[Box::kAxes];  // in numbers
  std::int64_t size;
  alignas(64) T numbers[kStaged<T>];
};

// Draws a box of at most kStaged numbers, its columns counted in whole lanes where lanes go along
// them.
template <class T>
void stage(const Recipe<T>& recipe, const Box& box, bool along_rows, Staging<T>& staging) {
  const std::int64_t matrices = box.count(Box::kernel), rows = box.count(Box::rows);
  const std::int64_t columns = box.count(Box::columns), run = box.run();
  const std::int64_t draws = matrices * rows / run;
  const std::int64_t padded = pieces(columns, kLanes) * kLanes;
  staging.run = along_rows ? Box::rows : Box::columns;
  staging.size = matrices * rows * (along_rows ? columns : padded);
  staging.stride[Box::kernel] = !along_rows ? rows * padded : draws == 1 ? rows : rows * columns;
  staging.stride[Box::rows] = along_rows ? 1 : padded;
  staging.stride[Box::columns] = along_rows ? run : 1;
  for (std::int64_t k = 0; k < draws; ++k) {
    const Rectangle rectangle{box.row + k * box.axes[Box::kernel].step, run, box.column, columns,
                              box.axes[Box::columns].step};
    T* const to = staging.numbers + k * staging.stride[Box::kernel];
    if (along_rows) {
      kernels<T>().draw_transposed(recipe, rectangle, to, run);
    } else {
      kernels<T>().draw(recipe, rectangle, to, padded, true);
    }
  }
}

// Runs of numbers, to wherever the box has them: put(from, count, to) for each.
template <class T, class Put>
void each_run(const T* numbers, const std::int64_t (&stride)[Box::kAxes], int run, const Box& box,
              Put put) {
  const int other = Box::third(run, Box::kernel);
  for (std::int64_t i = 0; i < box.count(other); ++i) {
    for (std::int64_t k = 0; k < box.count(Box::kernel); ++k) {
      put(numbers + i * stride[other] + k * stride[Box::kernel], box.count(run),
          box.data + i * box.stride(other) + k * box.stride(Box::kernel));
    }
  }
}

template <class T>
void spread(const T* numbers, const std::int64_t (&stride)[Box::kAxes], int run, const Box& box) {
  each_run(numbers, stride, run, box,
           [apart = box.stride(run)](const T* from, std::int64_t count, std::byte* to) {
             for (std::int64_t i = 0; i < count; ++i, to += apart) {
               std::memcpy(to, from + i, sizeof(T));
             }
           });
}

// Numbers as they are, to a box of their own type.
template <class T>
void deliver(const Staging<T>& staging, const Box& box) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  const int run = staging.run, across = box.along_memory(size, run);
  if (across < 0 || box.stride(run) % size != 0) {
    return spread(staging.numbers, staging.stride, run, box);
  }
  const int third = Box::third(run, across);
  for (std::int64_t i = 0; i < box.count(third); ++i) {
    kernels<T>().transpose(staging.numbers + i * staging.stride[third], staging.stride[across],
                           box.count(across), box.count(run),
                           reinterpret_cast<T*>(box.data + i * box.stride(third)),
                           box.stride(run) / size);
  }
}

using Round = void (*)(const float* in, std::size_t count, std::uint16_t* out);

// Numbers rounded to 16 bits, in runs as long as memory has them.
void deliver(const Staging<float>& staging, const Box& box, Round round) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(std::uint16_t));
  const int run = staging.run, across = box.along_memory(size, run);
  const auto put = [&](const float* from, std::int64_t count, std::byte* to) {
    const auto numbers = static_cast<std::size_t>(count);
    if (reinterpret_cast<std::uintptr_t>(to) % sizeof(std::uint16_t) == 0) {
      return round(from, numbers, reinterpret_cast<std::uint16_t*>(to));
    }
    alignas(64) std::uint16_t aside[kStaged<float>];
    round(from, numbers, aside);
    std::memcpy(to, aside, numbers * sizeof(std::uint16_t));
  };
  if (box.stride(run) == size) {
    return each_run(staging.numbers, staging.stride, run, box, put);
  }
  if (across < 0) {
    alignas(64) std::uint16_t rounded[kStaged<float>];
    round(staging.numbers, static_cast<std::size_t>(staging.size), rounded);
    return spread(rounded, staging.stride, run, box);
  }
  alignas(64) float turned[kStaged<float>];
  const std::int64_t width = box.count(across), length = box.count(run);
  const bool whole = box.stride(run) == width * size;
  const int third = Box::third(run, across);
  for (std::int64_t i = 0; i < box.count(third); ++i) {
    kernels<float>().transpose(staging.numbers + i * staging.stride[third], staging.stride[across],
                               width, length, turned, width);
    std::byte* const to = box.data + i * box.stride(third);
    if (whole) {
      put(turned, width * length, to);
      continue;
    }
    for (std::int64_t j = 0; j < length; ++j) {
      put(turned + j * width, width, to + j * box.stride(run));
    }
  }
}

template <class T>
void fill_staged(const Recipe<T>& recipe, const Box& box, OutputType type, bool along_rows) {
  Staging<T> staging;
  stage(recipe, box, along_rows, staging);
  if constexpr (sizeof(T) == 4) {
    if (type == OutputType::float16) return deliver(staging, box, kernel_table().to_float16);
    if (type == OutputType::bfloat16) return deliver(staging, box, kernel_table().to_bfloat16);
  }
  deliver(staging, box);
}

// A box, drawn on one thread: into its memory where lanes follow each other there.
template <class T>
void fill_box(const Recipe<T>& recipe, const Box& box, OutputType type, bool along_rows) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  const int along = along_rows ? Box::rows : Box::columns;
  const std::ptrdiff_t stride = box.stride(along_rows ? Box::columns : Box::rows);
  const bool rounded = type == OutputType::float16 || type == OutputType::bfloat16;
  if (rounded || (box.count(along) > 1 && box.stride(along) != size) || stride % size != 0) {
    const Grid tiles(box, along_rows, kStaged<T>);
    for (std::int64_t i = 0; i < tiles.size(); ++i) {
      fill_staged(recipe, tiles.cell(i), type, along_rows);
    }
    return;
  }
  for (std::int64_t k = 0; k < box.count(Box::kernel); ++k) {
    Box matrix = box;
    matrix.move(Box::kernel, k);
    const Rectangle rectangle{matrix.row, box.count(Box::rows), matrix.column,
                              box.count(Box::columns), box.axes[Box::columns].step};
    auto* const to = reinterpret_cast<T*>(matrix.data);
    if (along_rows) {
      kernels<T>().draw_transposed(recipe, rectangle, to, stride / size);
    } else {
      kernels<T>().draw(recipe, rectangle, to, stride / size, false);
    }
  }
}

template <class T>
void fill_boxes(const Recipe<T>& recipe, const Boxes& boxes, OutputType type, int threads,
                Watcher& watcher) {
  constexpr std::int64_t kShare = 1 << 16;
  const bool along_rows = lanes_along_rows(boxes.first());
  const Grid grid(boxes.first(), along_rows, kShare);
  const std::int64_t shares = boxes.size() * grid.size();
  [[maybe_unused]] const int team = static_cast<int>(std::min<std::int64_t>(
      {threads, shares, pieces(boxes.size() * boxes.first().size(), kShare)}));
  Control control(watcher, shares);
#pragma omp parallel for schedule(dynamic) num_threads(team)
  for (std::int64_t i = 0; i < shares; ++i) {
    if (control.stopped()) continue;
    fill_box(recipe, boxes.at(i / grid.size(), grid.cell(i % grid.size())), type, along_rows);
    control.step_done();
    control.poll(is_calling_thread());
  }
  control.rethrow();
}

}  // namespace

void fill(const Draw& draw, const Key& key, std::uint64_t trial, const Region& region,
          OutputType type, int threads, Watcher& watcher) {
  kernel_table();  // an unusable VARPROP_ISA is reported here, outside the threads
  if (region.columns.count == 0) return;
  for (const Axis& axis : region.rows) {
    if (axis.count == 0) return;
  }
  const Boxes boxes(region);
  if (type == OutputType::float64) {
    fill_boxes(make_recipe<double>(draw, key, trial), boxes, type, threads, watcher);
  } else {
    fill_boxes(make_recipe<float>(draw, key, trial), boxes, type, threads, watcher);
  }
}

}  // namespace varprop
