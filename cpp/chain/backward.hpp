// The way back through a trial: the gradient of the cost by every pre-activation, weight and bias.
#pragma once

#include <cstdint>

#include "chain/forward.hpp"
#include "chain/worker.hpp"

namespace varprop {

template <class T>
class Backward {
 public:
  // After forward has run.
  Backward(Worker<T>& worker, Forward<T>& forward)
      : worker_(worker), forward_(forward), job_(worker.job), shared_(worker.shared) {}

  // All layers, from the last to the first.
  void run();

  // A trial whose way forward left the range of T has none.
  static void record_unknown(const Worker<T>&, std::int64_t last);

 private:
  struct Chunk;
  struct Rows;
  struct Place {
    const Observed& observed;
    std::int64_t layer, layers, width;
  };

  Signal<T> cost();
  Signal<T> step(std::int64_t l, const Signal<T>& gradient);
  void back(const BackwardPlan<T>&, std::int64_t l, T* out, std::int64_t block, std::int64_t from,
            std::int64_t to);
  void multiply_parameters(const BackwardPlan<T>&, std::int64_t block, std::int64_t group);
  void record_parameters(const BackwardPlan<T>&, std::int64_t l, std::int64_t pieces,
                         std::size_t parity);
  Place place(std::int64_t l) const;
  void end(std::int64_t l);
  Signal<T> look(std::int64_t l, T* gradient, int exponent, int unit, std::size_t parity);
  void lift(const Place&, T* gradient, int shift, int unit);

  Worker<T>& worker_;
  Forward<T>& forward_;
  const Job& job_;
  Shared<T>& shared_;
};

}  // namespace varprop
