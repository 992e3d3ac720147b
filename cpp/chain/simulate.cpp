#include "chain/simulate.hpp"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "chain/backward.hpp"
#include "chain/forward.hpp"
#include "chain/worker.hpp"
#include "isa.hpp"

#ifdef _OPENMP
#  include <omp.h>
#endif

namespace varprop {
namespace {

// How much of everything one team needs.
struct Size {
  std::size_t numbers = 0, blocks = 0, chunks = 0, rows;
  std::size_t signals = 2, kept = 0;
  bool powers, slopes, correlation;

  explicit Size(const Job& job)
      : rows(static_cast<std::size_t>(job.batch)),
        powers(job.wanted.powers),
        slopes(job.wanted.saturation.has_value()),
        correlation(job.wanted.correlation || job.wanted.gradient_correlation) {
    const std::int64_t row_chunks = divide_up(job.batch, kChunkRows);
    const auto grow = [](std::size_t& size, std::int64_t to) {
      size = std::max(size, static_cast<std::size_t>(to));
    };
    for (const Layer& layer : job.network.layers) {
      for (const std::int64_t width : {layer.fan_in, layer.width}) {
        grow(numbers, job.batch * row_stride(width));
        grow(blocks, divide_up(width, kBlockColumns));
      }
      if (job.cost) {
        grow(chunks, divide_up(layer.width, kBlockColumns) * divide_up(layer.fan_in, kProductRows));
      }
    }
    grow(chunks, row_chunks * static_cast<std::int64_t>(blocks));
    if (job.cost) {
      signals = 3;
      kept = static_cast<std::size_t>(job.kept);
    }
    if (job.wanted.correlation) ++signals;  // pre-activations looked at
  }

  std::size_t bytes(std::size_t of_number) const {
    return (signals + kept) * numbers * of_number +
           2 * (Chunks::bytes(2 * chunks + blocks, powers) + chunks * slopes * sizeof(Slopes)) +
           (correlation ? (rows + blocks) * sizeof(double) : 0);
  }
};

template <class T>
Shared<T> make_shared(const Job& job, const Size& size) {
  Shared<T> shared;
  shared.memory = Buffer<T>((size.signals + size.kept) * size.numbers);
  T* next = shared.memory.get();
  const auto take = [&] { return std::exchange(next, next + size.numbers); };
  shared.work[0] = take();
  shared.work[1] = take();
  shared.work[2] = job.cost ? take() : nullptr;
  shared.aside = job.wanted.correlation ? take() : nullptr;
  for (std::size_t i = 0; i < size.kept; ++i) shared.kept.push_back(take());
  for (int parity = 0; parity < 2; ++parity) {
    for (auto& chunks : shared.chunks) chunks[parity] = Chunks(size.chunks, size.powers);
    shared.biases[parity] = Chunks(size.blocks, size.powers);
    if (size.slopes) shared.slopes[parity].resize(size.chunks);
  }
  if (size.correlation) {
    shared.norms.resize(size.rows);
    shared.parts.resize(size.blocks);
  }
  return shared;
}

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

// One trial; false where the team has left.
template <class T>
bool run(Worker<T>& worker, std::int64_t trial) {
  worker.trial = trial;
  if (worker.member.first()) worker.results.out_of_range[trial] = -1;
  Forward<T> forward(worker);
  const bool whole = forward.run();
  if (worker.job.cost && !worker.member.leaving()) {
    if (whole) {
      Backward<T>(worker, forward).run();
    } else {
      Backward<T>::record_unknown(worker, worker.layers() - 1);
    }
  }
  return !worker.member.leaving();
}

}  // namespace

template <class T>
std::int64_t working_memory(const Job& job) {
  const Schedule plan = schedule(job);
  return static_cast<std::int64_t>(static_cast<std::size_t>(plan.teams()) *
                                       Size(job).bytes(sizeof(T)) +
                                   static_cast<std::size_t>(plan.threads) * sizeof(Panel<T>));
}

template <class T>
void simulate(const Job& job, Host& host, const Results& results) {
  kernel_table();  // an unusable VARPROP_ISA is reported here, outside the threads
  const Schedule plan = schedule(job);
  const auto layers = static_cast<std::int64_t>(job.network.layers.size());
  Control control(host, job.trials * layers * (job.cost ? 2 : 1));
  const Size size(job);
  std::vector<Shared<T>> shared;
  for (int team = 0; team < plan.teams(); ++team) shared.push_back(make_shared<T>(job, size));
  std::vector<Team> teams(static_cast<std::size_t>(plan.threads) + 1);
  const auto panels =
      std::make_unique_for_overwrite<Panel<T>[]>(static_cast<std::size_t>(plan.threads));
#pragma omp parallel num_threads(plan.threads) if (plan.threads > 1)
  {
#ifdef _OPENMP
    const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#else
    const int thread = 0, threads = 1;
#endif
    const auto own = static_cast<std::size_t>(thread);
    if (plan.alone > 0) {
      Member member(teams[own], control, 0, 1, thread == 0);
      Worker<T> worker{job, host, results, control, shared[own], panels[own], member};
#pragma omp for schedule(dynamic)
      for (std::int64_t trial = 0; trial < plan.alone; ++trial) {
        if (!control.stopped()) run(worker, trial);
      }
    }
    Member member(teams.back(), control, thread, threads, thread == 0);
    Worker<T> worker{job, host, results, control, shared[0], panels[own], member};
    for (std::int64_t trial = plan.alone; trial < job.trials; ++trial) {
      if (!run(worker, trial)) break;
    }
  }
  control.rethrow();
}

template void simulate<float>(const Job&, Host&, const Results&);
template void simulate<double>(const Job&, Host&, const Results&);
template std::int64_t working_memory<float>(const Job&);
template std::int64_t working_memory<double>(const Job&);

}  // namespace varprop
