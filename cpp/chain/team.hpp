// Threads that run a trial together, and how the trials of a job meet the threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "control.hpp"

namespace varprop {

// What the members of a team share: how many tasks of each step are given out, whether to leave.
struct Team {
  std::vector<std::atomic<std::int64_t>> next_task;
  bool leave[2] = {false, false};  // by the step's parity: nobody is more than one step behind
};

// One member's view of its team. All that depends on several members' work comes after a barrier.
class Member {
 public:
  Member(Team& team, Control& control, int index, int count, bool calling_thread)
      : team_(team),
        control_(control),
        index_(index),
        count_(count),
        calling_thread_(calling_thread) {}

  int index() const { return index_; }
  int count() const { return count_; }
  bool first() const { return index_ == 0; }

  void barrier() const {
    if (count_ > 1) {
#pragma omp barrier
    }
  }

  // Begins a trial: no task of any step has been given out.
  void begin() const {
    if (first()) {
      for (auto& next : team_.next_task) next.store(0, std::memory_order_relaxed);
    }
    barrier();
  }

  // Gives out the tasks of a step to whoever asks first.
  template <class Action>
  void share(std::size_t step, std::int64_t tasks, Action action) const {
    while (!control_.stopped()) {
      const std::int64_t task = team_.next_task[step].fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks) return;
      action(task);
      poll();
    }
  }

  // Ends a step: every member has done its part, or all agree to leave.
  void end(std::size_t step) {
    if (first()) team_.leave[step % 2] = control_.stopped();
    barrier();
    leaving_ = team_.leave[step % 2];
  }
  bool leaving() const { return leaving_; }

  void poll() const { control_.poll(calling_thread_); }

 private:
  Team& team_;
  Control& control_;
  int index_, count_;
  bool calling_thread_, leaving_ = false;
};

// First whole rounds of one trial a thread, then the rest one by one, by all threads together.
struct Schedule {
  int threads;
  std::int64_t alone;  // this many trials, one thread each

  int teams() const { return alone > 0 ? threads : 1; }
};

// `work`: multiply-adds of one trial's largest layer, and of all its layers.
inline Schedule make_schedule(int threads, std::int64_t trials, bool by_trial, double largest,
                              double all) {
  constexpr double kWorthSharing = 4e5;  // less is not worth waking a thread
  if (threads == 1 || all * static_cast<double>(trials) < kWorthSharing) return {1, trials};
  if (!by_trial) return {threads, 0};
  if (largest < kWorthSharing) {
    return {static_cast<int>(std::min<std::int64_t>(threads, trials)), trials};
  }
  return {threads, trials / threads * threads};
}

}  // namespace varprop
