// The room for signals that come and go. Every member of a team keeps the same account of it.
#pragma once

#include <algorithm>
#include <vector>

namespace varprop {

template <class T>
class Room {
 public:
  explicit Room(const std::vector<T*>& work) : work_(work), free_(work.rbegin(), work.rend()) {}

  T* take() {
    T* const taken = free_.back();
    free_.pop_back();
    return taken;
  }

  // What is not from here (kept, or given by the caller) is nobody's to give back.
  void give(const T* taken) {
    const auto found = std::find(work_.begin(), work_.end(), taken);
    if (found != work_.end()) free_.push_back(*found);
  }

 private:
  const std::vector<T*>& work_;
  std::vector<T*> free_;
};

}  // namespace varprop
