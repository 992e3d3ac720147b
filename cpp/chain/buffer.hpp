// Memory left uninitialized; large memory in large pages where the system has them, which saves
// faults and translations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#ifdef __linux__
#  include <sys/mman.h>
#endif

namespace varprop {

template <class T>
class Buffer {
 public:
  Buffer() = default;

  // From malloc, which keeps what is freed for the next run; aligned_alloc returns it to the
  // system.
  explicit Buffer(std::size_t count) {
    constexpr std::size_t kLine = 64, kLargePage = std::size_t{1} << 21;
    const std::size_t bytes = count * sizeof(T);
    const std::size_t alignment = bytes >= kLargePage ? kLargePage : kLine;
    memory_.reset(std::malloc(bytes + alignment));
    if (!memory_) throw std::bad_alloc();
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.get());
    const std::size_t offset = (alignment - address % alignment) % alignment;
    auto* const first = static_cast<std::byte*>(memory_.get()) + offset;
#ifdef MADV_HUGEPAGE
    if (alignment == kLargePage) madvise(first, bytes, MADV_HUGEPAGE);  // a wish: it may fail
#endif
    first_ = reinterpret_cast<T*>(first);
  }

  T* get() const { return first_; }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  std::unique_ptr<void, Free> memory_;
  T* first_ = nullptr;
};

}  // namespace varprop
