#include "chain/forward.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "chain/buffer.hpp"
#include "control.hpp"
#include "isa.hpp"
#include "moments.hpp"
#include "weights.hpp"

#ifdef _OPENMP
#  include <omp.h>
#endif

namespace varprop {
namespace {

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Numbers between two rows of X: whole vectors, and no power of two, which would crowd a cache set.
std::int64_t row_stride(std::int64_t width) {
  return divide_up(width, kLanes) * kLanes + (width % 512 == 0 ? kLanes : 0);
}

// The power of two nearest to a size; 0 where there is none to speak of.
int exponent_of(double size) {
  if (!(size > 0) || !std::isfinite(size)) return 0;
  int exponent;
  const double mantissa = std::frexp(size, &exponent);
  return mantissa < 0.70710678118654752 ? exponent - 1 : exponent;
}

// One chunk's moments, of pre-activations and of activations.
struct Chunk {
  Moments pre, act;
  Moments pre_powers, act_powers;
};

// Where a signal lives and how large it is: true values are x * 2^exponent.
template <class T>
struct Signal {
  const T* x;
  std::int64_t stride;
  double rms;
  int exponent;
};

// What one layer does in one trial, decided from the signal that enters it.
template <class T>
struct Plan {
  const Layer& layer;
  Signal<T> in;
  T* out;
  std::int64_t out_stride;
  const T* matrix;                 // given or formed weights; null for those drawn
  int exponent = 0;                // of the output
  int pre_unit = 0, act_unit = 0;  // moments are taken in units of 2^unit ...
  T pre_scale = 1, act_scale = 1;  // ... that is, of numbers times 2^-unit
  bool underflow = false;          // the numbers are too small for T, and may not be rescaled
  Recipe<T> weight{}, bias{};
  T weight_scale = 1, bias_scale = 1;  // on given numbers
  std::int64_t blocks = 1,
               row_chunks = 1;  // the layer's chunks: blocks of columns times chunks of rows
  bool by_rows = false;  // do members own rows, and draw all weights each, or share the columns?
};

// What the members of a team share while they run one trial together.
template <class T>
struct Shared {
  Buffer<T> x[2];
  std::vector<Chunk> chunks[2];  // by the layer's parity: one barrier a layer is enough
  std::vector<std::atomic<std::int64_t>> next_task;  // one counter a layer, one for the inputs
  Formed formed;
};

template <class T>
std::int64_t widest(const Job& job) {
  std::int64_t widest = job.network.layers.front().fan_in;
  for (const Layer& layer : job.network.layers) widest = std::max(widest, layer.width);
  return widest;
}

std::int64_t chunks_of(std::int64_t batch, std::int64_t width) {
  return divide_up(batch, kChunkRows) * divide_up(width, kBlockColumns);
}

template <class T>
Shared<T> make_shared_state(const Job& job) {
  const std::int64_t width = widest<T>(job);
  Shared<T> shared;
  for (int side = 0; side < 2; ++side) {
    shared.x[side] =
        make_buffer<T>(static_cast<std::size_t>(job.batch * (row_stride(width) + kLanes)));
    shared.chunks[side].resize(static_cast<std::size_t>(chunks_of(job.batch, width)));
  }
  shared.next_task = std::vector<std::atomic<std::int64_t>>(job.network.layers.size() + 1);
  return shared;
}

// One thread's memory: a panel of weights and a block of biases.
template <class T>
struct Scratch {
  alignas(64) T panel[kPanelRows<T> * kBlockColumns];
  alignas(64) T bias[kBlockColumns];
};

// One member of a team of `members` threads that runs one trial at a time.
template <class T>
class Walker {
 public:
  Walker(const Job& job, Control& control, const Results& results, Host& host, Shared<T>& shared,
         int member, int members, bool calling_thread)
      : job_(job),
        control_(control),
        results_(results),
        host_(host),
        shared_(shared),
        member_(member),
        members_(members),
        calling_thread_(calling_thread),
        scratch_(std::make_unique<Scratch<T>>()) {}

  void run(std::int64_t trial) {
    trial_ = trial;
    if (member_ == 0) {
      for (auto& counter : shared_.next_task) counter.store(0, std::memory_order_relaxed);
      results_.out_of_range[trial] = -1;
    }
    barrier();
    Signal<T> signal = inputs();
    for (std::size_t l = 0; l < job_.network.layers.size(); ++l) {
      if (members_ == 1 && control_.stopped()) return;  // a larger team walks on to its barriers
      signal = step(l, signal);
    }
  }

 private:
  // All arithmetic that depends on more than one member's work comes after a barrier.
  void barrier() const {
    if (members_ > 1) {
#pragma omp barrier
    }
  }

  std::uint64_t trial_number() const {
    return static_cast<std::uint64_t>(job_.first_trial + trial_);
  }

  // Gives out the tasks of a layer (or of the inputs), whoever asks first.
  template <class Action>
  void share(std::size_t counter, std::int64_t tasks, Action action) {
    auto& next = shared_.next_task[counter];
    for (;;) {
      const std::int64_t task = next.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks || control_.stopped()) return;
      action(task);
      control_.poll(calling_thread_);
    }
  }

  Signal<T> inputs() {
    const Layer& first = job_.network.layers.front();
    if (job_.inputs) {
      return {static_cast<const T*>(job_.inputs), first.fan_in, job_.input_rms, 0};
    }
    const std::int64_t stride = row_stride(first.fan_in);
    T* const x = shared_.x[1].get();
    Draw normal;
    normal.distribution = Draw::Distribution::normal;
    normal.std = 1;
    const auto recipe = make_recipe<T>(normal, job_.network.input_key, trial_number());
    share(0, divide_up(job_.batch, kChunkRows), [&](std::int64_t task) {
      const std::int64_t row = task * kChunkRows;
      const std::int64_t rows = std::min<std::int64_t>(kChunkRows, job_.batch - row);
      kernels_.draw(recipe, Rectangle{row, rows, 0, first.fan_in, 1}, x + row * stride, stride,
                    true);
    });
    barrier();
    return {x, stride, 1.0, 0};
  }

  Plan<T> make_plan(std::size_t l, const Signal<T>& in) {
    const Layer& layer = job_.network.layers[l];
    const T* matrix = static_cast<const T*>(layer.weight.given);
    double weight_rms = layer.weight.rms;
    if (layer.weight.source == Tensor::Source::formed) {
      barrier();
      if (member_ == 0) control_.guard([&] { shared_.formed = host_.form(l, trial_number()); });
      barrier();
      matrix = static_cast<const T*>(shared_.formed.numbers.get());
      weight_rms = shared_.formed.rms;
    }
    const double weight_part = weight_rms * std::sqrt(static_cast<double>(layer.fan_in)) * in.rms;
    const double predicted = std::hypot(weight_part, std::ldexp(layer.bias.rms, -in.exponent));
    const double predicted_true = std::ldexp(predicted, in.exponent);
    Plan<T> plan{.layer = layer,
                 .in = in,
                 .out = shared_.x[l % 2].get(),
                 .out_stride = row_stride(layer.width),
                 .matrix = matrix};
    if (layer.homogeneous) {
      plan.exponent = in.exponent + exponent_of(predicted);
    } else {
      constexpr int kRange = std::numeric_limits<T>::max_exponent - 8;
      plan.pre_unit = std::clamp(exponent_of(predicted_true), -kRange, kRange);
      plan.act_unit = std::clamp(activation_exponent(layer, plan.pre_unit), -kRange, kRange);
      plan.underflow = predicted > 0 && predicted_true < std::numeric_limits<T>::min();
    }
    plan.pre_scale = std::ldexp(T{1}, -plan.pre_unit);
    plan.act_scale = std::ldexp(T{1}, -plan.act_unit);
    const int shift = in.exponent - plan.exponent;
    plan.weight = make_recipe<T>(layer.weight.draw, layer.weight.key, trial_number(), shift);
    plan.bias = make_recipe<T>(layer.bias.draw, layer.bias.key, trial_number(), -plan.exponent);
    plan.weight_scale = std::ldexp(T{1}, shift);
    plan.bias_scale = std::ldexp(T{1}, -plan.exponent);
    plan.blocks = divide_up(layer.width, kBlockColumns);
    plan.row_chunks = divide_up(job_.batch, kChunkRows);
    // Owning rows keeps a member's part of X in its cache, but every member draws all weights.
    plan.by_rows = members_ > 1 && plan.row_chunks >= members_ &&
                   (2 * layer.width < job_.batch || plan.blocks < members_);
    return plan;
  }

  // The power of two of the activation's size where the pre-activations have size 2^exponent.
  int activation_exponent(const Layer& layer, int exponent) const {
    alignas(64) T probes[kLanes] = {};
    for (int i = 0; i < 4; ++i) {
      probes[2 * i] = std::ldexp(T{1}, exponent + i - 2);
      probes[2 * i + 1] = -probes[2 * i];
    }
    kernels_.activate(layer.activation, static_cast<T>(layer.parameter),
                      {probes, kLanes, 1, kLanes});
    double size = 0;
    for (T probe : probes) size = std::max(size, static_cast<double>(std::abs(probe)));
    return exponent_of(size);
  }

  Signal<T> step(std::size_t l, const Signal<T>& in) {
    const Plan<T> plan = make_plan(l, in);
    std::vector<Chunk>& chunks = shared_.chunks[l % 2];
    const auto run = [&](std::int64_t block, std::int64_t from, std::int64_t to) {
      run_block(plan, block, from, to, chunks.data() + block * plan.row_chunks);
    };
    if (plan.by_rows) {
      const std::int64_t from = plan.row_chunks * member_ / members_;
      const std::int64_t to = plan.row_chunks * (member_ + 1) / members_;
      for (std::int64_t block = 0; block < plan.blocks; ++block) run(block, from, to);
    } else {
      share(l + 1, plan.blocks, [&](std::int64_t block) { run(block, 0, plan.row_chunks); });
    }
    barrier();
    Chunk whole;
    for (std::int64_t c = 0; c < plan.blocks * plan.row_chunks; ++c) {
      const Chunk& chunk = chunks[static_cast<std::size_t>(c)];
      whole.pre.merge(chunk.pre);
      whole.act.merge(chunk.act);
      if (job_.powers) {
        whole.pre_powers.merge(chunk.pre_powers);
        whole.act_powers.merge(chunk.act_powers);
      }
    }
    if (member_ == 0) {
      const auto layers = static_cast<std::int64_t>(job_.network.layers.size());
      const std::int64_t at = trial_ * layers + static_cast<std::int64_t>(l);
      write(results_.preactivations, at, whole.pre, whole.pre_powers,
            plan.exponent + plan.pre_unit);
      write(results_.activations, at, whole.act, whole.act_powers, plan.exponent + plan.act_unit);
      const bool finite = std::isfinite(whole.pre.m2) && std::isfinite(whole.act.m2) &&
                          std::isfinite(whole.pre.mean) && std::isfinite(whole.act.mean);
      if ((!finite || plan.underflow) && results_.out_of_range[trial_] < 0) {
        results_.out_of_range[trial_] = static_cast<std::int64_t>(l);
      }
      control_.step_done();
    }
    const double second = whole.act.m2 / whole.act.count + whole.act.mean * whole.act.mean;
    return {plan.out, plan.out_stride, std::ldexp(std::sqrt(second), plan.act_unit), plan.exponent};
  }

  void write(const Observed& to, std::int64_t at, const Moments& moments, const Moments& powers,
             int exponent) const {
    to.mean[at] = moments.mean;
    to.variance[at] = moments.m2 / moments.count;
    to.exponent[at] = exponent;
    if (job_.powers) {
      to.m3[at] = powers.m3 / powers.count;
      to.m4[at] = powers.m4 / powers.count;
      to.minimum[at] = powers.minimum;
      to.maximum[at] = powers.maximum;
    }
  }

  // Draws or copies rows k, k + 1, ... of the block's weights.
  void fill_panel(const Plan<T>& plan, std::int64_t k, std::int64_t rows, std::int64_t column,
                  std::int64_t columns) {
    T* const panel = scratch_->panel;
    if (!plan.matrix) {
      kernels_.draw(plan.weight, Rectangle{k, rows, column, columns, 1}, panel, kBlockColumns,
                    true);
      return;
    }
    for (std::int64_t i = 0; i < rows; ++i) {
      const T* const from = plan.matrix + (k + i) * plan.layer.width + column;
      T* const to = panel + i * kBlockColumns;
      for (std::int64_t j = 0; j < columns; ++j) to[j] = from[j] * plan.weight_scale;
      std::fill(to + columns, to + kBlockColumns, T{0});
    }
  }

  const T* fill_bias(const Plan<T>& plan, std::int64_t column, std::int64_t columns) {
    const Tensor& bias = plan.layer.bias;
    if (bias.source == Tensor::Source::absent) return nullptr;
    std::fill_n(scratch_->bias, kBlockColumns, T{0});
    if (bias.source == Tensor::Source::given) {
      const T* const from = static_cast<const T*>(bias.given) + column;
      for (std::int64_t j = 0; j < columns; ++j) scratch_->bias[j] = from[j] * plan.bias_scale;
    } else {
      kernels_.draw_transposed(plan.bias, Rectangle{column, columns, 0, 1, 1}, scratch_->bias,
                               kBlockColumns);
    }
    return scratch_->bias;
  }

  // Looking at the clock costs: once in so many chunks is often enough.
  static constexpr std::int64_t kPollChunks = 64;

  // One block of columns, chunks [from, to) of rows.
  void run_block(const Plan<T>& plan, std::int64_t block, std::int64_t from, std::int64_t to,
                 Chunk* chunks) {
    const Layer& layer = plan.layer;
    const std::int64_t column = block * kBlockColumns;
    const std::int64_t columns = std::min<std::int64_t>(kBlockColumns, layer.width - column);
    const T* const bias = fill_bias(plan, column, columns);
    // Panels of even height, whole groups of rows.
    const std::int64_t panels = divide_up(layer.fan_in, kPanelRows<T>);
    const std::int64_t height = divide_up(divide_up(layer.fan_in, panels), 4) * 4;
    for (std::int64_t k = 0; k < layer.fan_in; k += height) {
      const std::int64_t depth = std::min(height, layer.fan_in - k);
      fill_panel(plan, k, depth, column, columns);
      const bool last = k + depth == layer.fan_in;
      for (std::int64_t c = from; c < to; ++c) {
        if (control_.stopped()) return;
        if (c % kPollChunks == 0) control_.poll(calling_thread_);
        const std::int64_t row = c * kChunkRows;
        const std::int64_t rows = std::min<std::int64_t>(kChunkRows, job_.batch - row);
        Observer observer(*this, plan);
        for (std::int64_t i = row; i < row + rows; i += kGroupRows) {
          const Tile<T> tile{plan.out + i * plan.out_stride + column, plan.out_stride,
                             static_cast<int>(std::min<std::int64_t>(kGroupRows, row + rows - i)),
                             static_cast<int>(columns)};
          kernels_.multiply(plan.in.x + i * plan.in.stride + k, plan.in.stride, scratch_->panel,
                            static_cast<int>(depth), k == 0, bias, tile);
          if (last) observer.finish(tile, i == row);
        }
        if (last) observer.write(static_cast<double>(rows * columns), chunks[c]);
      }
    }
  }

  // Takes the moments of one chunk, tile by tile, and applies the activation in between.
  class Observer {
   public:
    Observer(const Walker& walker, const Plan<T>& plan)
        : walker_(walker), plan_(plan), linear_(plan.layer.activation == 0) {}

    void finish(const Tile<T>& tile, bool first) {
      observe(tile, first, plan_.pre_scale, pre_);
      if (linear_) return;
      walker_.kernels_.activate(plan_.layer.activation, static_cast<T>(plan_.layer.parameter),
                                tile);
      observe(tile, first, plan_.act_scale, act_);
    }

    void write(double count, Chunk& chunk) const {
      const Side& act = linear_ ? pre_ : act_;
      chunk.pre = from_sums(count, static_cast<double>(pre_.pivot), pre_.lanes);
      chunk.act = linear_ ? chunk.pre : from_sums(count, static_cast<double>(act.pivot), act.lanes);
      if (walker_.job_.powers) {
        chunk.pre_powers = from_sums(count, static_cast<double>(pre_.pivot), *pre_.powers);
        chunk.act_powers = from_sums(count, static_cast<double>(act.pivot), *act.powers);
      }
    }

   private:
    struct Side {
      T pivot = 0;
      Lanes lanes{};
      std::optional<PowerLanes> powers;
    };

    void observe(const Tile<T>& tile, bool first, T scale, Side& side) const {
      if (first) {
        side.pivot = walker_.kernels_.pivot(tile, scale);
        if (walker_.job_.powers) side.powers = empty_power_lanes();
      }
      walker_.kernels_.observe(tile, scale, side.pivot, side.lanes);
      if (walker_.job_.powers) {
        walker_.kernels_.observe_powers(tile, static_cast<double>(scale),
                                        static_cast<double>(side.pivot), *side.powers);
      }
    }

    const Walker& walker_;
    const Plan<T>& plan_;
    bool linear_;
    Side pre_, act_;
  };

  const Job& job_;
  Control& control_;
  const Results& results_;
  Host& host_;
  Shared<T>& shared_;
  int member_, members_;
  bool calling_thread_;
  std::unique_ptr<Scratch<T>> scratch_;
  const Kernels<T>& kernels_ = kernels<T>();
  std::int64_t trial_ = 0;
};

// How trials meet threads: first whole rounds of one trial a thread, then the rest one by one by
// all.
struct Schedule {
  int threads;
  std::int64_t by_trial;  // this many trials, one thread each
  int teams;              // trials that run at the same time
};

Schedule schedule(const Job& job) {
  // Below this many multiply-adds in its largest layer a trial is not worth several threads.
  constexpr double kWorthSharing = 4e5;
  double largest = 0;
  for (const Layer& layer : job.network.layers) {
    const double size = static_cast<double>(layer.fan_in) * static_cast<double>(layer.width);
    largest = std::max(largest, size * static_cast<double>(job.batch));
  }
  const auto layers = static_cast<double>(job.network.layers.size());
  const bool small = largest < kWorthSharing;
  if (job.threads == 1 ||
      (small && largest * layers * static_cast<double>(job.trials) < kWorthSharing)) {
    return {1, job.trials, 1};
  }
  if (!job.by_trial) return {job.threads, 0, 1};
  const std::int64_t rounds = job.trials / job.threads * job.threads;
  const std::int64_t alone = small ? job.trials : rounds;
  return {job.threads, alone, static_cast<int>(std::clamp<std::int64_t>(alone, 1, job.threads))};
}

}  // namespace

template <class T>
std::int64_t forward_memory(const Job& job) {
  const Schedule plan = schedule(job);
  const std::int64_t width = widest<T>(job);
  const auto shared = static_cast<std::int64_t>(
      2 * static_cast<std::size_t>(job.batch * (row_stride(width) + kLanes)) * sizeof(T) +
      2 * static_cast<std::size_t>(chunks_of(job.batch, width)) * sizeof(Chunk));
  return shared * plan.teams + static_cast<std::int64_t>(sizeof(Scratch<T>)) * plan.threads;
}

template <class T>
bool forward(const Job& job, Host& host, const Results& results) {
  kernel_table();  // an unusable VARPROP_ISA is reported here, outside the threads
  const Schedule plan = schedule(job);
  Control control(host, job.trials * static_cast<std::int64_t>(job.network.layers.size()));
  std::vector<Shared<T>> shared;
  for (int team = 0; team < plan.teams; ++team) shared.push_back(make_shared_state<T>(job));
#pragma omp parallel num_threads(plan.threads) if (plan.threads > 1)
  {
#ifdef _OPENMP
    const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#else
    const int thread = 0, threads = 1;
#endif
    if (plan.by_trial > 0) {
      Walker<T> alone(job, control, results, host,
                      shared[static_cast<std::size_t>(std::min(thread, plan.teams - 1))], 0, 1,
                      thread == 0);
#pragma omp for schedule(dynamic)
      for (std::int64_t trial = 0; trial < plan.by_trial; ++trial) {
        if (!control.stopped()) alone.run(trial);
      }
    }
    if (plan.by_trial < job.trials) {
      Walker<T> member(job, control, results, host, shared[0], thread, threads, thread == 0);
      for (std::int64_t trial = plan.by_trial; trial < job.trials; ++trial) member.run(trial);
    }
  }
  control.rethrow();
  return !control.stopped();
}

template bool forward<float>(const Job&, Host&, const Results&);
template bool forward<double>(const Job&, Host&, const Results&);
template std::int64_t forward_memory<float>(const Job&);
template std::int64_t forward_memory<double>(const Job&);

}  // namespace varprop
