// Threads that run a trial together, and how the trials of a job meet the threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "control.hpp"

namespace varprop {

// What the members of a team share: how many tasks of a step are given out, whether to leave.
// Nobody is more than one step behind, so that few places serve all steps in turn.
struct Team {
  std::atomic<std::int64_t> next_task[3] = {};
  bool leave[2] = {false, false};
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
  // The number of the step, by its parity: what two steps in a row may not share.
  std::size_t parity() const { return step_ % 2; }

  void barrier() const {
    if (count_ > 1) {
#pragma omp barrier
    }
  }

  // Gives out the tasks of the step to whoever asks first.
  template <class Action>
  void share(std::int64_t tasks, Action action) const {
    while (!control_.stopped()) {
      const std::int64_t task = team_.next_task[step_ % 3].fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks) return;
      action(task);
      poll();
    }
  }

  // Ends the step: every member has done its part, or all agree to leave.
  void end() {
    if (first()) {
      team_.next_task[(step_ + 1) % 3].store(0, std::memory_order_relaxed);
      team_.leave[parity()] = control_.stopped();
    }
    barrier();
    leaving_ = team_.leave[parity()];
    ++step_;
  }
  bool leaving() const { return leaving_; }

  void poll() const { control_.poll(calling_thread_); }

 private:
  Team& team_;
  Control& control_;
  int index_, count_;
  bool calling_thread_, leaving_ = false;
  std::size_t step_ = 0;
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
