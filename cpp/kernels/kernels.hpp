// The kernels' table: what each instruction set offers, as plain function pointers over plain
// memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace varprop {

// Constants of the reproducibility contract: they fix the order of every sum of moments.
inline constexpr int kBlockColumns = 64;  // columns of one panel of weights and of one chunk
inline constexpr int kGroupRows = 12;     // rows whose sums are kept in the chain's own dtype
inline constexpr int kChunkRows = 24;     // rows that share a pivot and one accumulator
inline constexpr int kProductRows = 240;  // rows of a weight gradient that are formed together
inline constexpr int kLanes = 16;  // partial sums per accumulator, whatever the vector's width

// Rows of a panel; any value gives the same bits, this one keeps a panel in L2, from where a tile
// reads it as fast as it multiplies: sums that come back to the tile cost more.
template <class T>
inline constexpr int kPanelRows = static_cast<int>(4096 / sizeof(T));

enum class Law : int { constant, uniform, normal, truncated_normal, quantile };

// One tensor's law, ready to draw in T: number = location + scale * (standard number of the law).
template <class T>
struct Recipe {
  std::uint32_t key[4];
  std::uint64_t trial;
  Law law;
  T location, scale;
  // Law::quantile alone: factor * clamp(mean + std * Phi^-1(p_middle + p_half * v)), v on (-1, 1).
  double mean, std, p_middle, p_half;
  T floor, ceiling, factor;
};

// Rows row, row + 1, ... and columns column, column + column_step, ... of a tensor.
struct Rectangle {
  std::int64_t row, rows;
  std::int64_t column, columns, column_step;
};

// One tile of a matrix in row-major memory, rows `stride` numbers apart.
template <class T>
struct Tile {
  T* data;
  std::ptrdiff_t stride;
  int rows, columns;
};

// A matrix to be read number by number: (i, k) is at data[i * row_stride + k * column_stride].
template <class T>
struct View {
  const T* data;
  std::ptrdiff_t row_stride, column_stride;
};

// Rows of numbers that are not next to each other: row i is the runs of `length` numbers at x[i],
// x[rows + i], x[2 rows + i], ...
template <class T>
struct Runs {
  const T* const* x;
  int rows, count, length;
};

// So many rows of doubles, `stride` apart.
struct Rows {
  const double* data;
  std::ptrdiff_t stride;
  int count;
};

// Sums over a tile of d = scale * x - pivot, in kLanes partial sums.
struct alignas(64) Lanes {
  double sum[kLanes], square[kLanes];
};

// The same to the fourth power, with the extremes of scale * x.
struct alignas(64) PowerLanes {
  double sum[4][kLanes], minimum[kLanes], maximum[kLanes];
};

// Of rows or columns that are normalized, x -> (x - centre) * factor; and what is taken off a
// gradient that comes back to them, mean + along * normalized number.
struct Spread {
  const double *centre, *factor, *mean, *along;
};

// What normalizations do with the rows of tiles, or with their columns. Pointers are to the values
// of a tile's rows, or of its columns up to a multiple of kLanes, as far as tiles are read too.
template <class T>
struct Normalizing {
  // Add to each sum: the numbers x, (x - centre)^2, and gradients times normalized numbers.
  void (*add)(const Tile<T>& x, double* sums);
  void (*add_squares)(const Tile<T>& x, const double* centre, double* sums);
  void (*add_products)(const Tile<T>& x, const Spread&, const Tile<T>& gradient, double* sums);

  // The normalized numbers, into a tile that may be x; and gradient = scale * factor * (gradient -
  // what is taken off).
  void (*normalize)(const Tile<T>& x, const Spread&, const Tile<T>& to);
  void (*backpropagate)(const Tile<T>& x, const Spread&, double scale, const Tile<T>& gradient);
};

template <class T>
struct Kernels {
  // Draws a rectangle; number (i, j) goes to out[i * stride + j] or, transposed, to out[j * stride
  // + i]. `padded` lets draw write up to the next multiple of kLanes columns.
  void (*draw)(const Recipe<T>&, const Rectangle&, T* out, std::ptrdiff_t stride, bool padded);
  void (*draw_transposed)(const Recipe<T>&, const Rectangle&, T* out, std::ptrdiff_t stride);

  // c = (first ? bias : c) + a b over `depth` values of k, summed in their order; bias may be null.
  // b's rows are b_stride numbers apart; c.columns <= kBlockColumns, and c is written up to a
  // multiple of kLanes columns.
  void (*multiply)(const View<T>& a, const T* b, std::ptrdiff_t b_stride, int depth, bool first,
                   const T* bias, const Tile<T>& c);

  // Rows of `count` numbers from wherever they are, zeros where from[i] is null, go to to[i *
  // stride]; nothing past their ends is read or written.
  void (*copy)(const T* const* from, int rows, int count, T* to, std::ptrdiff_t stride);

  // to[j * to_stride + i] = from[i * from_stride + j].
  void (*transpose)(const T* from, std::ptrdiff_t from_stride, std::int64_t rows,
                    std::int64_t columns, T* to, std::ptrdiff_t to_stride);

  // c = bias + runs w in few columns, at most kLanes, each summed in kLanes parts; c is written up
  // to kLanes columns. A column of w is w_stride numbers long, each run's padded with zeros to a
  // multiple of kLanes.
  void (*dot)(const Runs<T>& runs, const T* w, std::ptrdiff_t w_stride, const T* bias,
              const Tile<T>& c);

  // c(i, j) = bias(j) + sum over the runs r of x_r(i, column + j) w(r, j); runs at null are
  // skipped. c is written up to a multiple of kLanes columns.
  void (*weigh)(const Runs<T>& runs, std::ptrdiff_t column, const T* w, std::ptrdiff_t w_stride,
                const T* bias, const Tile<T>& c);

  // `count` numbers to doubles, times a scale; zeros up to the next multiple of kLanes.
  void (*widen)(const T* from, int count, double scale, double* to);

  // x = phi(x), and gradient = gradient * phi'(y).
  void (*activate)(int activation, T parameter, const Tile<T>& x);
  void (*backpropagate)(int activation, T parameter, const Tile<T>& y, const Tile<T>& gradient);

  // Rows to their softmax: exp(scale * x) over its sum; rows are padded to whole lanes.
  void (*softmax)(const Tile<T>& x, T scale);

  Normalizing<T> normalizing[2];  // of rows, of columns

  // Mean of the first row of the tile, times scale: a pivot near the chunk's mean.
  T (*pivot)(const Tile<T>&, T scale);
  void (*observe)(const Tile<T>&, T scale, T pivot, Lanes&);
  void (*observe_powers)(const Tile<T>&, double scale, double pivot, PowerLanes&);
};

struct KernelTable {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
  // c(i, j) += the inner product of rows i of a and j of b, each of `length` numbers, a multiple of
  // kLanes.
  void (*inner)(const Rows& a, const Rows& b, int length, double* c, std::ptrdiff_t c_stride);
  // Threefry4x32-20 itself, for known answers: one counter, four words.
  void (*threefry)(const std::uint32_t key[4], const std::uint32_t counter[4],
                   std::uint32_t out[4]);
  // Nearest even, numbers of float32 rounded to 16 bits.
  void (*to_bfloat16)(const float* in, std::size_t count, std::uint16_t* out);
  void (*to_float16)(const float* in, std::size_t count, std::uint16_t* out);
};

extern const KernelTable kBaseline;
#ifdef VARPROP_X86
extern const KernelTable kAvx2;
extern const KernelTable kAvx512;
#endif

}  // namespace varprop
