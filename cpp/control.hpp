// Stopping a parallel job: progress, interrupts and exceptions, from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <mutex>

namespace varprop {

// Whoever waits for a job. Called now and then on the calling thread; true asks the job to stop.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual bool poll(double fraction_done) = 0;
};

// Reports progress, and remembers whether to stop and why.
class Control {
 public:
  Control(Watcher& watcher, std::int64_t total)
      : watcher_(watcher), total_(static_cast<double>(total)) {}

  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }
  void step_done() { done_.fetch_add(1, std::memory_order_relaxed); }

  // Cheap enough to call between panels; only the calling thread asks the watcher.
  void poll(bool calling_thread) {
    if (!calling_thread) return;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(50)) return;
    last_ = now;
    guard([&] {
      if (watcher_.poll(static_cast<double>(done_.load(std::memory_order_relaxed)) / total_))
        stop();
    });
  }

  // Runs what may throw; an exception stops the run and is thrown again by rethrow().
  template <class Action>
  void guard(Action action) {
    try {
      action();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      stop();
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void stop() { stopped_.store(true, std::memory_order_relaxed); }

  Watcher& watcher_;
  double total_;
  std::atomic<std::int64_t> done_{0};
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace varprop
