// LayerNorm, RMSNorm and BatchNorm at initialization: x -> (x - mean) / sqrt(variance + eps), of
// rows or of columns, and the gradient back through them.
#pragma once

#include <cstdint>

#include "chain/worker.hpp"

namespace varprop {

// Reads mean and spread of every row or column, so that normalize() gives numbers times
// 2^-exponent. Ends a step.
template <class T>
void read_spread(Worker<T>&, const Layer&, const Signal<T>& x, int exponent);

// to = the normalized numbers of a tile whose first is at (row, column); they may be the same.
template <class T>
void normalize(const Shared<T>&, const Layer&, std::int64_t row, std::int64_t column,
               const Tile<T>& x, const Tile<T>& to);

// After read_spread of the same x and exponent: reads what of the gradient by the normalized
// numbers a normalization takes away. Ends a step.
template <class T>
void read_gradient(Worker<T>&, const Layer&, const Signal<T>& x, int exponent,
                   const Signal<T>& gradient);

// The gradient by x, times `scale` * 2^-exponent, in place of that by the normalized numbers.
template <class T>
void normalize_back(const Shared<T>&, const Layer&, std::int64_t row, std::int64_t column,
                    const Tile<T>& x, const Tile<T>& gradient, double scale);

}  // namespace varprop
