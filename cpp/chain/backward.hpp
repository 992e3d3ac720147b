// The way back through a trial: the gradient of the cost by every pre-activation, weight and bias.
#pragma once

#include <cstdint>
#include <vector>

#include "chain/forward.hpp"
#include "chain/worker.hpp"

namespace varprop {

template <class T>
class Backward {
 public:
  // After forward has run.
  Backward(Worker<T>& worker, const Program& program, Forward<T>& forward)
      : worker_(worker),
        program_(program),
        forward_(forward),
        job_(worker.job),
        shared_(worker.shared) {}

  // All layers, from the last to the first.
  void run();

  // A trial whose way forward left the range of T has none.
  static void record_unknown(const Worker<T>&, const Program&, std::int64_t last);

 private:
  struct Chunk;
  struct Rows;
  // Where a layer's gradient is written down; -1 are the inputs.
  struct Place {
    const Observed& observed;
    std::int64_t layer, layers;
    const Shape& shape;
    std::int64_t rows, blocks, chunks;  // chunks of rows
  };
  // The gradient by a join's output, which goes to layer `to`, too.
  struct Skip {
    std::int64_t to;
    Signal<T> gradient;
    double scale;
  };

  Signal<T> cost();
  Signal<T> step(std::int64_t l, const Signal<T>& gradient);
  void multiply(const BackwardPlan<T>&, std::int64_t l, T* out);
  void imply(const BackwardPlan<T>&, std::int64_t l);
  void multiply_implied(const BackwardPlan<T>&, std::int64_t l, T* out);
  void record_implied(const BackwardPlan<T>&, std::int64_t l);
  void back(const BackwardPlan<T>&, std::int64_t l, T* out, std::int64_t block, std::int64_t from,
            std::int64_t to);
  void multiply_parameters(const BackwardPlan<T>&, std::int64_t l, std::int64_t block,
                           std::int64_t group);
  void multiply_narrow_parameters(const BackwardPlan<T>&, std::int64_t l, std::int64_t group);
  void pass(const BackwardPlan<T>&, std::int64_t l, T* out);
  void make(const BackwardPlan<T>&, std::int64_t row, std::int64_t column, const Tile<T>&) const;
  void sum_biases(const BackwardPlan<T>&, std::int64_t l, std::int64_t block);
  void look_at_biases(const BackwardPlan<T>&, std::int64_t l, std::int64_t block,
                      const Tile<T>& bias);
  void record_parameters(const BackwardPlan<T>&, std::int64_t l, std::size_t parity);
  Size beside(std::int64_t l) const;
  void add_skips(std::int64_t l, int exponent, std::int64_t row, std::int64_t column,
                 const Tile<T>& gradient) const;
  void give_skips(std::int64_t l);
  Place place(std::int64_t l) const;
  void end(std::int64_t l);
  Signal<T> through(std::int64_t l, T* gradient, int exponent, int unit);
  Signal<T> look(std::int64_t l, T* gradient, int exponent, int unit, std::size_t parity);
  void lift(const Place&, T* gradient, int shift, int unit);

  Worker<T>& worker_;
  const Program& program_;
  Forward<T>& forward_;
  const Job& job_;
  Shared<T>& shared_;
  std::vector<Skip> skips_;
};

}  // namespace varprop
