// The kernels alone, on memory that stays in the first-level cache: ns a number, and products as
// GF/s and as a share of the peak rate of fused multiply-adds measured beside them.
//   VARPROP_ISA=avx2 build/kernels_bench --benchmark_filter=product
#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "isa.hpp"

namespace {

using namespace varprop;

constexpr int kRows = kPanelRows<double>, kColumns = kBlockColumns;

template <class T>
struct Numbers {
  alignas(64) T numbers[kPanelRows<float> * kBlockColumns];
  explicit Numbers(T value) { std::fill(std::begin(numbers), std::end(numbers), value); }
};

// Independent chains of multiply-adds, as many as hide the latency; returns their number of flops.
__attribute__((target("avx512f"))) double multiply_add_512(float* out) {
  __m512 sums[16];
  const __m512 factor = _mm512_set1_ps(0.999f), term = _mm512_set1_ps(1e-3f);
  for (auto& sum : sums) sum = _mm512_set1_ps(*out);
  for (int i = 0; i < 1000; ++i) {
    for (auto& sum : sums) sum = _mm512_fmadd_ps(sum, factor, term);
  }
  __m512 all = _mm512_setzero_ps();
  for (const auto& sum : sums) all = _mm512_add_ps(all, sum);
  *out = _mm512_reduce_add_ps(all);
  return 2.0 * 16 * 16 * 1000;
}

__attribute__((target("avx2,fma"))) double multiply_add_256(float* out) {
  __m256 sums[12];
  const __m256 factor = _mm256_set1_ps(0.999f), term = _mm256_set1_ps(1e-3f);
  for (auto& sum : sums) sum = _mm256_set1_ps(*out);
  for (int i = 0; i < 1000; ++i) {
    for (auto& sum : sums) sum = _mm256_fmadd_ps(sum, factor, term);
  }
  __m256 all = _mm256_setzero_ps();
  for (const auto& sum : sums) all = _mm256_add_ps(all, sum);
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, all);
  *out = lanes[0];
  return 2.0 * 12 * 8 * 1000;
}

bool wide() { return std::string(kernel_table().name) == "avx512"; }

// Seconds a flop at the peak rate in float32, just now; double has half the rate.
double peak_seconds() {
  static float number = 1;
  double best = 1;
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    double flops = 0;
    for (int j = 0; j < 20; ++j) {
      flops += wide() ? multiply_add_512(&number) : multiply_add_256(&number);
    }
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = std::min(best, spent.count() / flops);
  }
  benchmark::DoNotOptimize(number);
  return best;
}

void peak(benchmark::State& state) {
  double seconds = 0;
  for (auto _ : state) seconds = peak_seconds();
  state.counters["GF/s"] = 1e-9 / seconds;
}

// `columns` columns of 24 rows, summed over a panel.
template <class T>
void product(benchmark::State& state) {
  const auto columns = static_cast<int>(state.range(0));
  constexpr int depth = kPanelRows<T>;
  const Numbers<T> x(T{1}), weights(static_cast<T>(0.01));
  Numbers<T> y(T{0});
  const double limit = peak_seconds() * sizeof(T) / 4;
  for (auto _ : state) {
    kernels<T>().multiply({x.numbers, kColumns, 1}, weights.numbers, kColumns, depth, true, nullptr,
                          {y.numbers, kColumns, kChunkRows, columns});
    benchmark::ClobberMemory();
  }
  const double flops = 2.0 * kChunkRows * columns * depth;
  state.counters["GF/s"] =
      benchmark::Counter(1e-9 * flops, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of peak"] =
      benchmark::Counter(flops * limit, benchmark::Counter::kIsIterationInvariantRate);
}

// A block of columns of a layer: 512 rows, X and the product in the second-level cache.
template <class T>
void block(benchmark::State& state) {
  constexpr int rows = 512, depth = kPanelRows<T>;
  const std::int64_t width = state.range(0), stride = width + kLanes;
  const std::vector<T> x(static_cast<std::size_t>(rows * stride), T{1});
  std::vector<T> y(static_cast<std::size_t>(rows * stride));
  const Numbers<T> weights(static_cast<T>(0.01));
  const double limit = peak_seconds() * sizeof(T) / 4;
  std::int64_t column = 0;
  for (auto _ : state) {
    column = (column + kColumns) % (width - kColumns + 1) / kColumns * kColumns;
    for (std::int64_t k = 0; k + depth <= width; k += depth) {
      for (std::int64_t i = 0; i + kChunkRows <= rows; i += kChunkRows) {
        kernels<T>().multiply({x.data() + i * stride + k, stride, 1}, weights.numbers, kColumns,
                              depth, k == 0, nullptr,
                              {y.data() + i * stride + column, stride, kChunkRows, kColumns});
      }
    }
    benchmark::ClobberMemory();
  }
  const double panels = static_cast<double>(width / depth);
  const double flops = 2.0 * (rows / kChunkRows * kChunkRows) * kColumns * depth * panels;
  state.counters["GF/s"] =
      benchmark::Counter(1e-9 * flops, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of peak"] =
      benchmark::Counter(flops * limit, benchmark::Counter::kIsIterationInvariantRate);
}

void per_number(benchmark::State& state, double numbers) {
  state.counters["ns/number"] = benchmark::Counter(
      1e-9 * numbers, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

template <class T>
void draw(benchmark::State& state, Law law, bool transposed) {
  Recipe<T> recipe{.key = {1, 2, 3, 4},
                   .trial = 0,
                   .law = law,
                   .location = 0,
                   .scale = 1,
                   .mean = 0,
                   .std = 1,
                   .p_middle = 0.5,
                   .p_half = 0.5,
                   .floor = -8,
                   .ceiling = 8,
                   .factor = 1};
  Numbers<T> out(T{0});
  std::int64_t row = 0;
  for (auto _ : state) {
    row += kRows;
    if (transposed) {
      kernels<T>().draw_transposed(recipe, {row, kColumns, 0, kRows, 1}, out.numbers, kColumns);
    } else {
      kernels<T>().draw(recipe, {row, kRows, 0, kColumns, 1}, out.numbers, kColumns, true);
    }
    benchmark::ClobberMemory();
  }
  per_number(state, kRows * kColumns);
}

template <class T>
void activation(benchmark::State& state) {
  const Numbers<T> source(static_cast<T>(0.3));
  Numbers<T> x(T{0});
  for (auto _ : state) {  // from the same numbers each time: again and again they would fade
    std::copy_n(source.numbers, kChunkRows * kColumns, x.numbers);
    kernels<T>().activate(static_cast<int>(state.range(0)), static_cast<T>(0.1),
                          {x.numbers, kColumns, kChunkRows, kColumns});
    benchmark::ClobberMemory();
  }
  per_number(state, kChunkRows * kColumns);
}

template <class T>
void moments(benchmark::State& state) {
  const Numbers<T> x(static_cast<T>(0.3));
  Lanes lanes{};
  for (auto _ : state) {
    kernels<T>().observe({const_cast<T*>(x.numbers), kColumns, kGroupRows, kColumns}, T{1},
                         static_cast<T>(0.1), lanes);
    benchmark::ClobberMemory();
  }
  per_number(state, kGroupRows * kColumns);
}

template <class T>
void register_all(const std::string& dtype) {
  const auto name = [&](const char* of) { return std::string(of) + "/" + dtype; };
  benchmark::RegisterBenchmark(name("product").c_str(), product<T>)
      ->ArgName("columns")
      ->Arg(64)
      ->Arg(48)
      ->Arg(36)
      ->Arg(32)
      ->Arg(16)
      ->Arg(10);
  benchmark::RegisterBenchmark(name("block").c_str(), block<T>)
      ->ArgName("width")
      ->Arg(128)
      ->Arg(512)
      ->Arg(1024)
      ->Arg(2048)
      ->Arg(4096);
  struct {
    const char* name;
    Law law;
  } const laws[] = {{"uniform", Law::uniform},
                    {"normal", Law::normal},
                    {"truncated_normal", Law::truncated_normal},
                    {"quantile", Law::quantile}};
  for (const auto& [label, law] : laws) {
    for (const bool transposed : {false, true}) {
      benchmark::RegisterBenchmark(
          (name(transposed ? "draw_transposed" : "draw") + "/" + label).c_str(),
          [law = law, transposed](benchmark::State& state) { draw<T>(state, law, transposed); });
    }
  }
  benchmark::RegisterBenchmark(name("activation").c_str(), activation<T>)->DenseRange(1, 19);
  benchmark::RegisterBenchmark(name("moments").c_str(), moments<T>);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("peak/float32", peak);
  register_all<float>("float32");
  register_all<double>("float64");
  benchmark::AddCustomContext("instruction set", kernel_table().name);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
