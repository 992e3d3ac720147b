// Patches of images as rows of a matrix that is never whole: what a convolution multiplies.
#pragma once

#include <algorithm>
#include <cstdint>

#include "chain/plan.hpp"

namespace varprop {

// The groups of channels that meet a block of columns. Their terms stand one after the other, each
// group's in the order (row of the window, column of the window, channel); weights outside of a
// column's own group are zeros.
struct Groups {
  std::int64_t first, count;
  std::int64_t columns;   // of each group
  std::int64_t channels;  // of each group, on the side that is multiplied
  std::int64_t positions;

  Groups(const Layer& layer, bool back, std::int64_t column, std::int64_t width)
      : columns((back ? layer.in : layer.out).channels / layer.groups),
        channels((back ? layer.out : layer.in).channels / layer.groups),
        positions(layer.window.positions()) {
    first = column / columns;
    count = (column + width - 1) / columns - first + 1;
  }
  std::int64_t terms() const { return positions * channels; }  // of each group
  std::int64_t depth() const { return count * terms(); }
};

// A part of the terms: the same position of the window, channels next to each other.
struct Stretch {
  std::int64_t group, position, channel, count;
};

template <class Action>
void each_stretch(const Groups& groups, std::int64_t k, std::int64_t count, Action action) {
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t term = (k + done) % groups.terms();
    const std::int64_t channel = term % groups.channels;
    const std::int64_t run = std::min(count - done, groups.channels - channel);
    action(done, Stretch{groups.first + (k + done) / groups.terms(), term / groups.channels,
                         channel, run});
    done += run;
  }
}

// The row of the input that output row `row` sees at a position of the window; going back, the
// output row that saw input row `row` there. -1 where there is none.
inline std::int64_t row_at(const Layer& layer, bool back, std::int64_t row, std::int64_t position) {
  const Window& window = layer.window;
  const Shape &here = back ? layer.in : layer.out, &there = back ? layer.out : layer.in;
  const std::int64_t example = row / here.positions(), place = row % here.positions();
  const std::int64_t down = position / window.width, across = position % window.width;
  std::int64_t i = place / here.width, j = place % here.width;
  if (back) {
    i += window.top - down;
    j += window.left - across;
    if (i < 0 || j < 0 || i % window.stride_height || j % window.stride_width) return -1;
    i /= window.stride_height;
    j /= window.stride_width;
  } else {
    i = i * window.stride_height - window.top + down;
    j = j * window.stride_width - window.left + across;
    if (i < 0 || j < 0) return -1;
  }
  if (i >= there.height || j >= there.width) return -1;
  return example * there.positions() + i * there.width + j;
}

// Terms [k, k + count) of rows [row, row + rows), `stride` numbers apart.
template <class T>
void gather(const Layer& layer, const Groups& groups, bool back, const Signal<T>& from,
            std::int64_t row, std::int64_t rows, std::int64_t k, std::int64_t count, T* to,
            std::int64_t stride) {
  for (std::int64_t i = 0; i < rows; ++i) {
    T* const into = to + i * stride;
    each_stretch(groups, k, count, [&](std::int64_t at, const Stretch& stretch) {
      const std::int64_t source = row_at(layer, back, row + i, stretch.position);
      if (source < 0) {
        std::fill_n(into + at, stretch.count, T{0});
      } else {
        std::copy_n(
            from.x + source * from.stride + stretch.group * groups.channels + stretch.channel,
            stretch.count, into + at);
      }
    });
  }
}

}  // namespace varprop
