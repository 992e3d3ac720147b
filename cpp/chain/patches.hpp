// Patches of images as rows of a matrix that is never whole: what a convolution multiplies.
#pragma once

#include <algorithm>
#include <cstdint>

#include "chain/plan.hpp"
#include "isa.hpp"

namespace varprop {

// Few columns would fill a vector in part: lanes go along the terms instead, channels that are next
// to each other at every position of the window. The order of sums is another one, so that it is
// the layer's shape alone that decides.
inline bool narrow(const Layer& layer) {
  constexpr std::int64_t kMostColumns = 8;
  return layer.kind == Layer::Kind::conv && layer.groups == 1 && layer.width() <= kMostColumns &&
         layer.in.channels >= kLanes;
}

// A group for each channel has few terms, which are read where they are.
inline constexpr std::int64_t kMostRuns = 128;  // of a row
inline bool by_channels(const Layer& layer) {
  return layer.kind == Layer::Kind::conv && layer.groups == layer.in.channels &&
         layer.groups == layer.out.channels && layer.window.positions() <= kMostRuns;
}

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

// Where in its image a row of a signal is.
struct Pixel {
  std::int64_t example, i, j;
  Pixel(const Shape& shape, std::int64_t row)
      : example(row / shape.positions()),
        i(row % shape.positions() / shape.width),
        j(row % shape.width) {}
};

// What the rows of the output, one after the other, see of the input at one position of the window;
// going back, what rows of the output saw those of the input there.
class Sight {
 public:
  Sight(const Layer& layer, bool back, const Pixel& pixel, std::int64_t position)
      : here_(back ? layer.in : layer.out), there_(back ? layer.out : layer.in), pixel_(pixel) {
    const Window& window = layer.window;
    const std::int64_t down = position / window.width - window.top;
    const std::int64_t across = position % window.width - window.left;
    if (back) {
      down_ = {-down, 1, window.stride_height};
      across_ = {-across, 1, window.stride_width};
    } else {
      down_ = {down, window.stride_height, 1};
      across_ = {across, window.stride_width, 1};
    }
    line_ = line();
    j_ = across_.first + pixel.j * across_.step;
  }

  // -1 where there is none.
  std::int64_t row() const {
    const std::int64_t j = across_.whole(j_);
    return line_ < 0 || j < 0 || j >= there_.width ? -1 : line_ + j;
  }

  void next() {
    j_ += across_.step;
    if (++pixel_.j < here_.width) return;
    pixel_.j = 0;
    if (++pixel_.i == here_.height) {
      pixel_.i = 0;
      ++pixel_.example;
    }
    line_ = line();
    j_ = across_.first;
  }

 private:
  // From numbers i here to (first + i step) / divisor there, where that is whole.
  struct Axis {
    std::int64_t first, step, divisor;
    std::int64_t whole(std::int64_t i) const {
      if (divisor == 1) return i;  // said apart, as a division is slow
      return i % divisor ? -1 : i / divisor;
    }
  };

  // The first row of the image's line that is seen; -1 where there is none.
  std::int64_t line() const {
    const std::int64_t i = down_.whole(down_.first + pixel_.i * down_.step);
    return i < 0 || i >= there_.height ? -1 : (pixel_.example * there_.height + i) * there_.width;
  }

  Shape here_, there_;
  Pixel pixel_;
  Axis down_, across_;
  std::int64_t line_, j_;  // j_ before it is divided
};

// What some rows see at a position of the window: addresses in a signal, `none` where it is
// nothing.
template <class T>
void locate(const Layer& layer, bool back, const Pixel& first, std::int64_t position,
            const Signal<T>& from, std::int64_t rows, const T* none, const T** to) {
  Sight sight(layer, back, first, position);
  for (std::int64_t i = 0; i < rows; ++i, sight.next()) {
    const std::int64_t row = sight.row();
    to[i] = row < 0 ? none : from.x + row * from.stride;
  }
}

// The same at all positions: runs of all channels.
template <class T>
Runs<T> locate(const Layer& layer, bool back, std::int64_t row, const Signal<T>& from, int rows,
               const T* none, const T** to) {
  const Pixel first(back ? layer.in : layer.out, row);
  const auto count = static_cast<int>(layer.window.positions());
  for (int position = 0; position < count; ++position) {
    locate(layer, back, first, position, from, rows, none, to + position * rows);
  }
  return {to, rows, count, static_cast<int>((back ? layer.out : layer.in).channels)};
}

// Terms [k, k + count) of rows [row, row + rows), `stride` numbers apart; `seen` has room for an
// address of each row.
template <class T>
void gather(const Layer& layer, const Groups& groups, bool back, const Signal<T>& from,
            std::int64_t row, std::int64_t rows, std::int64_t k, std::int64_t count, T* to,
            std::int64_t stride, const T** seen) {
  const Pixel first(back ? layer.in : layer.out, row);
  each_stretch(groups, k, count, [&](std::int64_t at, const Stretch& stretch) {
    Signal<T> channels = from;
    channels.x += stretch.group * groups.channels + stretch.channel;
    locate<T>(layer, back, first, stretch.position, channels, rows, nullptr, seen);
    kernels<T>().copy(seen, static_cast<int>(rows), static_cast<int>(stretch.count), to + at,
                      stride);
  });
}

}  // namespace varprop
