#include "chain/forward.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "chain/buffer.hpp"
#include "chain/observer.hpp"
#include "chain/panel.hpp"
#include "chain/plan.hpp"
#include "chain/team.hpp"
#include "isa.hpp"

#ifdef _OPENMP
#  include <omp.h>
#endif

namespace varprop {
namespace {

// What the members of a team share: two signals, and the moments of a layer's chunks.
template <class T>
struct Shared {
  Buffer<T> x[2];
  std::vector<Chunk> chunks[2];  // by the layer's parity: one barrier a layer is enough
  Formed formed;
  Team team;  // the inputs are step 0, the layers follow
};

template <class T>
struct Size {
  std::size_t numbers, chunks;  // of one signal

  explicit Size(const Job& job) {
    std::int64_t width = job.network.layers.front().fan_in;
    std::int64_t stride = row_stride(width);
    for (const Layer& layer : job.network.layers) {
      width = std::max(width, layer.width);
      stride = std::max(stride, row_stride(layer.width));
    }
    numbers = static_cast<std::size_t>(job.batch * stride);
    chunks = static_cast<std::size_t>(divide_up(job.batch, kChunkRows) *
                                      divide_up(width, kBlockColumns));
  }

  std::size_t bytes() const { return 2 * (numbers * sizeof(T) + chunks * sizeof(Chunk)); }
};

// One thread, on its own or as a member of a team, on one trial after the other.
template <class T>
class Walker {
 public:
  Walker(const Job& job, Host& host, const Results& results, Control& control, Shared<T>& shared,
         Panel<T>& panel, Member& member)
      : job_(job),
        host_(host),
        results_(results),
        control_(control),
        shared_(shared),
        panel_(panel),
        member_(member) {}

  // False where the team has left.
  bool run(std::int64_t trial) {
    trial_ = trial;
    if (member_.first()) results_.out_of_range[trial] = -1;
    member_.begin();
    Signal<T> signal = inputs();
    const std::size_t layers = job_.network.layers.size();
    std::size_t l = 0;
    // A number past the range of T spoils all that follows: nothing is known of the layers from
    // there.
    for (; l < layers && !member_.leaving() && std::isfinite(signal.rms); ++l) {
      signal = step(l, signal);
    }
    for (; l < layers && member_.first() && !member_.leaving(); ++l) {
      record(l, 0, 0, unknown());
      control_.step_done();
    }
    return !member_.leaving();
  }

 private:
  std::uint64_t trial_number() const {
    return static_cast<std::uint64_t>(job_.first_trial + trial_);
  }

  Signal<T> inputs() {
    const std::int64_t features = job_.network.layers.front().fan_in;
    if (job_.inputs) return {static_cast<const T*>(job_.inputs), features, job_.input_rms, 0};
    T* const x = shared_.x[1].get();
    const std::int64_t stride = row_stride(features);
    const Draw normal{.distribution = Draw::Distribution::normal, .std = 1};
    const auto recipe = make_recipe<T>(normal, job_.network.input_key, trial_number());
    member_.share(0, divide_up(job_.batch, kChunkRows), [&](std::int64_t chunk) {
      const std::int64_t row = chunk * kChunkRows;
      const std::int64_t rows = std::min<std::int64_t>(kChunkRows, job_.batch - row);
      kernels_.draw(recipe, Rectangle{row, rows, 0, features, 1}, x + row * stride, stride, true);
    });
    member_.end(0);
    return {x, stride, 1.0, 0};
  }

  Matrix<T> matrix(std::size_t l) {
    const Tensor& weight = job_.network.layers[l].weight;
    if (weight.source != Tensor::Source::formed) {
      return {static_cast<const T*>(weight.given), weight.rms};
    }
    member_.barrier();  // nobody reads the matrix before
    if (member_.first()) control_.guard([&] { shared_.formed = host_.form(l, trial_number()); });
    member_.barrier();
    return {static_cast<const T*>(shared_.formed.numbers.get()), shared_.formed.rms};
  }

  Signal<T> step(std::size_t l, const Signal<T>& in) {
    const Layer& layer = job_.network.layers[l];
    const Plan<T> plan = make_plan<T>(layer, in, matrix(l), job_.batch, trial_number());
    T* const out = shared_.x[l % 2].get();
    const std::int64_t stride = row_stride(layer.width);
    std::vector<Chunk>& chunks = shared_.chunks[l % 2];
    const auto run = [&](std::int64_t block, std::int64_t from, std::int64_t to) {
      run_block(plan, out, stride, block, from, to, chunks.data() + block * plan.row_chunks);
    };
    // Owning rows keeps a member's part of X in its cache, but then every member draws all weights.
    const int members = member_.count();
    if (members > 1 && plan.row_chunks >= members &&
        (2 * layer.width < job_.batch || plan.blocks < members)) {
      const std::int64_t from = plan.row_chunks * member_.index() / members;
      const std::int64_t to = plan.row_chunks * (member_.index() + 1) / members;
      for (std::int64_t block = 0; block < plan.blocks; ++block) run(block, from, to);
    } else {
      member_.share(l + 1, plan.blocks,
                    [&](std::int64_t block) { run(block, 0, plan.row_chunks); });
    }
    member_.end(l + 1);
    Chunk whole;
    for (std::int64_t c = 0; c < plan.blocks * plan.row_chunks; ++c) {
      whole.merge(chunks[static_cast<std::size_t>(c)]);
    }
    if (plan.linear) {
      whole.act = whole.pre;
      whole.act_powers = whole.pre_powers;
    }
    // Activations such as relu would turn what is not a number into one.
    if (!whole.pre.finite()) whole.pre = whole.pre_powers = unknown().pre;
    if (!whole.pre.finite() || !whole.act.finite()) whole.act = whole.act_powers = unknown().act;
    if (member_.first()) {
      if ((!whole.act.finite() || plan.underflow) && results_.out_of_range[trial_] < 0) {
        results_.out_of_range[trial_] = static_cast<std::int64_t>(l);
      }
      record(l, plan.exponent + plan.pre_unit, plan.exponent + plan.act_unit, whole);
      control_.step_done();
    }
    const double second = whole.act.m2 / whole.act.count + whole.act.mean * whole.act.mean;
    return {out, stride, std::ldexp(std::sqrt(second), plan.act_unit), plan.exponent};
  }

  static Chunk unknown() {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    const Moments moments{1, nan, nan, nan, nan, nan, nan};
    return {moments, moments, moments, moments};
  }

  // One block of columns, chunks [from, to) of its rows.
  void run_block(const Plan<T>& plan, T* out, std::int64_t stride, std::int64_t block,
                 std::int64_t from, std::int64_t to, Chunk* chunks) {
    const std::int64_t fan_in = plan.layer.fan_in, column = block * kBlockColumns;
    const std::int64_t columns = std::min<std::int64_t>(kBlockColumns, plan.layer.width - column);
    const T* const bias = panel_.biases(plan, column, columns);
    // Panels of even height, in whole groups of the generator's rows.
    const std::int64_t panels = divide_up(fan_in, kPanelRows<T>);
    const std::int64_t height = divide_up(divide_up(fan_in, panels), 4) * 4;
    for (std::int64_t k = 0; k < fan_in; k += height) {
      const std::int64_t depth = std::min(height, fan_in - k);
      const T* const weights = panel_.weights(plan, k, depth, column, columns);
      for (std::int64_t c = from; c < to; ++c) {
        if (control_.stopped()) return;
        if (c % kPollChunks == 0) member_.poll();
        Observer<T> observer(plan, job_.powers);
        const std::int64_t end = std::min(job_.batch, (c + 1) * kChunkRows);
        for (std::int64_t i = c * kChunkRows; i < end; i += kGroupRows) {
          const auto rows = static_cast<int>(std::min<std::int64_t>(kGroupRows, end - i));
          const Tile<T> tile{out + i * stride + column, stride, rows, static_cast<int>(columns)};
          kernels_.multiply({plan.in.x + i * plan.in.stride + k, plan.in.stride, 1}, weights,
                            kBlockColumns, static_cast<int>(depth), k == 0, bias, tile);
          if (k + depth == fan_in) observer.finish(tile);
        }
        if (k + depth == fan_in) observer.write(chunks[c]);
      }
    }
  }

  void record(std::size_t l, int pre_exponent, int act_exponent, const Chunk& whole) const {
    const auto layers = static_cast<std::int64_t>(job_.network.layers.size());
    const std::int64_t at = trial_ * layers + static_cast<std::int64_t>(l);
    write(results_.preactivations, at, whole.pre, whole.pre_powers, pre_exponent);
    write(results_.activations, at, whole.act, whole.act_powers, act_exponent);
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

  // Looking at the clock costs: once in so many chunks is often enough.
  static constexpr std::int64_t kPollChunks = 64;

  const Job& job_;
  Host& host_;
  const Results& results_;
  Control& control_;
  Shared<T>& shared_;
  Panel<T>& panel_;
  Member& member_;
  const Kernels<T>& kernels_ = kernels<T>();
  std::int64_t trial_ = 0;
};

Schedule schedule(const Job& job) {
  double largest = 0, all = 0;
  for (const Layer& layer : job.network.layers) {
    const double work = static_cast<double>(job.batch) * static_cast<double>(layer.fan_in) *
                        static_cast<double>(layer.width);
    largest = std::max(largest, work);
    all += work;
  }
  return make_schedule(job.threads, job.trials, job.by_trial, largest, all);
}

}  // namespace

template <class T>
std::int64_t forward_memory(const Job& job) {
  const Schedule plan = schedule(job);
  return static_cast<std::int64_t>(static_cast<std::size_t>(plan.teams()) * Size<T>(job).bytes() +
                                   static_cast<std::size_t>(plan.threads) * sizeof(Panel<T>));
}

template <class T>
bool forward(const Job& job, Host& host, const Results& results) {
  kernel_table();  // an unusable VARPROP_ISA is reported here, outside the threads
  const Schedule plan = schedule(job);
  Control control(host, job.trials * static_cast<std::int64_t>(job.network.layers.size()));
  const Size<T> size(job);
  std::vector<Shared<T>> shared(static_cast<std::size_t>(plan.teams()));
  for (Shared<T>& own : shared) {
    for (int side = 0; side < 2; ++side) {
      own.x[side] = make_buffer<T>(size.numbers);
      own.chunks[side].resize(size.chunks);
    }
    own.team.next_task = std::vector<std::atomic<std::int64_t>>(job.network.layers.size() + 1);
  }
  const auto panels = std::make_unique<Panel<T>[]>(static_cast<std::size_t>(plan.threads));
#pragma omp parallel num_threads(plan.threads) if (plan.threads > 1)
  {
#ifdef _OPENMP
    const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#else
    const int thread = 0, threads = 1;
#endif
    Panel<T>& panel = panels[static_cast<std::size_t>(thread)];
    if (plan.alone > 0) {
      Shared<T>& own = shared[static_cast<std::size_t>(thread)];
      Member member(own.team, control, 0, 1, thread == 0);
      Walker<T> walker(job, host, results, control, own, panel, member);
#pragma omp for schedule(dynamic)
      for (std::int64_t trial = 0; trial < plan.alone; ++trial) {
        if (!control.stopped()) walker.run(trial);
      }
    }
    Member member(shared[0].team, control, thread, threads, thread == 0);
    Walker<T> walker(job, host, results, control, shared[0], panel, member);
    for (std::int64_t trial = plan.alone; trial < job.trials; ++trial) {
      if (!walker.run(trial)) break;
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
