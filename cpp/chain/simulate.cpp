#include "chain/simulate.hpp"

#include <algorithm>
#include <memory>
#include <numeric>
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
struct Needs {
  std::size_t numbers = 0, blocks = 0, chunks = 0, units = 0;  // of the largest signal
  std::size_t signals, batch;
  std::vector<std::size_t> kept;  // numbers of each place
  bool powers, slopes, correlation;
  std::int64_t rows = 0, widest = 0;     // of products with implicit weights
  std::vector<std::int64_t> multiplied;  // what enters them

  Needs(const Job& job, const Program& program)
      : signals(static_cast<std::size_t>((job.cost ? 3 : 2) + program.aside)),
        batch(static_cast<std::size_t>(job.batch)),
        powers(job.wanted.powers),
        slopes(job.wanted.saturation.has_value()),
        correlation(job.wanted.correlation || job.wanted.gradient_correlation) {
    const auto grow = [](std::size_t& size, std::int64_t to) {
      size = std::max(size, static_cast<std::size_t>(to));
    };
    for (const Layer& layer : job.network.layers) {
      for (const Shape& shape : {layer.in, layer.out}) {
        const std::int64_t count = job.batch * shape.positions();
        const std::int64_t across = divide_up(shape.channels, kBlockColumns);
        grow(numbers, count * row_stride(shape.channels));
        grow(blocks, across);
        grow(chunks, divide_up(count, kChunkRows) * across);
        if (layer.normalizes()) {
          grow(units, divide_up(std::max(count, shape.channels), kLanes) * kLanes);
        }
      }
      if (job.implicit && layer.has_weight()) {
        rows = std::max(rows, job.batch * layer.out.positions());
        widest = std::max(widest, layer.width());
        multiplied.push_back(layer.fan_in());
      } else if (job.cost && layer.has_weight()) {
        grow(chunks,
             divide_up(layer.width(), kBlockColumns) * divide_up(layer.fan_in(), kProductRows));
      }
    }
    if (job.cost) keep(job);
    if (job.wanted.correlation) ++signals;  // pre-activations looked at
  }

  // Where all layers are kept each has a place of its own size, else any has room for any.
  void keep(const Job& job) {
    kept.resize(static_cast<std::size_t>(job.kept), numbers);
    const std::vector<Layer>& layers = job.network.layers;
    if (kept.size() < layers.size()) return;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const Shape& shape = layers[l].out;
      kept[l] =
          static_cast<std::size_t>(job.batch * shape.positions() * row_stride(shape.channels));
    }
  }

  std::size_t all_numbers() const {
    return std::accumulate(kept.begin(), kept.end(), signals * numbers);
  }
  template <class T>
  std::size_t bytes() const {
    const std::size_t implicit =
        rows > 0 ? Implicit<T>::bytes(rows, multiplied, widest, !kept.empty()) : 0;
    return all_numbers() * sizeof(T) + implicit +
           2 * (Chunks::bytes(2 * chunks + blocks, powers) + chunks * slopes * sizeof(Slopes)) +
           ((correlation ? batch + blocks : 0) + 4 * units) * sizeof(double);
  }
};

template <class T>
Shared<T> make_shared(const Job& job, const Needs& size) {
  Shared<T> shared;
  shared.memory = Buffer<T>(size.all_numbers());
  T* next = shared.memory.get();
  const auto take = [&](std::size_t numbers) { return std::exchange(next, next + numbers); };
  shared.aside = job.wanted.correlation ? take(size.numbers) : nullptr;
  while (shared.work.size() + job.wanted.correlation < size.signals) {
    shared.work.push_back(take(size.numbers));
  }
  for (const std::size_t numbers : size.kept) shared.kept.push_back(take(numbers));
  for (int parity = 0; parity < 2; ++parity) {
    for (auto& chunks : shared.chunks) chunks[parity] = Chunks(size.chunks, size.powers);
    shared.biases[parity] = Chunks(size.blocks, size.powers);
    if (size.slopes) shared.slopes[parity].resize(size.chunks);
  }
  if (size.correlation) {
    shared.norms.resize(size.batch);
    shared.parts.resize(size.blocks);
  }
  if (size.rows > 0) {
    shared.implicit = Implicit<T>(size.rows, size.multiplied, size.widest, job.cost.has_value());
  }
  for (auto* of_units : {&shared.centre, &shared.factor, &shared.mean, &shared.along}) {
    of_units->resize(size.units);
  }
  return shared;
}

Schedule schedule(const Job& job) {
  constexpr double kPassTerms = 10;  // what a number costs without a product
  double largest = 0, all = 0;
  bool by_host = false;  // whose functions the calling thread alone may call
  for (const Layer& layer : job.network.layers) {
    double terms = layer.has_weight() ? static_cast<double>(layer.fan_in()) : kPassTerms;
    if (job.implicit) terms = std::min(terms, static_cast<double>(job.batch) + kPassTerms);
    const double work = terms * static_cast<double>(job.batch * layer.out.positions()) *
                        static_cast<double>(layer.width());
    largest = std::max(largest, work);
    by_host = by_host || layer.kind == Layer::Kind::elementwise;
    all += work;
  }
  return make_schedule(job.threads, job.trials, job.by_trial && !by_host, largest, all);
}

// One trial; false where the team has left.
template <class T>
bool run(Worker<T>& worker, const Program& program, std::int64_t trial) {
  worker.trial = trial;
  if (worker.member.first()) worker.results.out_of_range[trial] = -1;
  Forward<T> forward(worker, program);
  const bool whole = forward.run();
  if (worker.job.cost && !worker.member.leaving()) {
    if (whole) {
      Backward<T>(worker, program, forward).run();
    } else {
      Backward<T>::record_unknown(worker, program, worker.layers() - 1);
    }
  }
  return !worker.member.leaving();
}

}  // namespace

template <class T>
std::int64_t working_memory(const Job& job) {
  const Schedule plan = schedule(job);
  const Needs size(job, Program(job.network));
  return static_cast<std::int64_t>(
      static_cast<std::size_t>(plan.teams()) * size.bytes<T>() +
      static_cast<std::size_t>(plan.threads) *
          (sizeof(Panel<T>) + strip_numbers(size.rows) * sizeof(double)));
}

template <class T>
void simulate(const Job& job, Host& host, const Results& results) {
  kernel_table();  // an unusable VARPROP_ISA is reported here, outside the threads
  const Schedule plan = schedule(job);
  const auto layers = static_cast<std::int64_t>(job.network.layers.size());
  Control control(host, job.trials * layers * (job.cost ? 2 : 1));
  const Program program(job.network);
  const Needs size(job, program);
  std::vector<Shared<T>> shared;
  for (int team = 0; team < plan.teams(); ++team) shared.push_back(make_shared<T>(job, size));
  std::vector<Team> teams(static_cast<std::size_t>(plan.threads) + 1);
  const auto panels =
      std::make_unique_for_overwrite<Panel<T>[]>(static_cast<std::size_t>(plan.threads));
  const std::size_t strip = strip_numbers(size.rows);
  const Buffer<double> strips(static_cast<std::size_t>(plan.threads) * strip);
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
      Worker<T> worker{
          job,   host, results, control, shared[own], panels[own], strips.get() + own * strip,
          member};
#pragma omp for schedule(dynamic)
      for (std::int64_t trial = 0; trial < plan.alone; ++trial) {
        if (!control.stopped()) run(worker, program, trial);
      }
    }
    Member member(teams.back(), control, thread, threads, thread == 0);
    Worker<T> worker{
        job, host, results, control, shared[0], panels[own], strips.get() + own * strip, member};
    for (std::int64_t trial = plan.alone; trial < job.trials; ++trial) {
      if (!run(worker, program, trial)) break;
    }
  }
  control.rethrow();
}

template void simulate<float>(const Job&, Host&, const Results&);
template void simulate<double>(const Job&, Host&, const Results&);
template std::int64_t working_memory<float>(const Job&);
template std::int64_t working_memory<double>(const Job&);

}  // namespace varprop
