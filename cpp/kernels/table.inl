// The table of one instruction set; the including file has set VARPROP_TABLE and VARPROP_NAME.
#include "activations.inl"
#include "copy.inl"
#include "dot.inl"
#include "inner.inl"
#include "kernels.hpp"
#include "laws.inl"
#include "normalize.inl"
#include "observe.inl"
#include "product.inl"
#include "round.inl"
#include "softmax.inl"
#include "weigh.inl"

namespace {

template <class T>
constexpr varprop::Kernels<T> kKernels = {
    .draw = draw<T>,
    .draw_transposed = draw_transposed<T>,
    .multiply = multiply<T>,
    .copy = copy<T>,
    .transpose = transpose<T>,
    .dot = dot<T>,
    .weigh = weigh<T>,
    .widen = widen<T>,
    .activate = activate<T>,
    .backpropagate = backpropagate<T>,
    .softmax = softmax<T>,
    .normalizing = {kNormalizing<false, T>, kNormalizing<true, T>},
    .pivot = pivot<T>,
    .observe = observe<T>,
    .observe_powers = observe_powers<T>,
};

void threefry_words(const std::uint32_t key[4], const std::uint32_t counter[4],
                    std::uint32_t out[4]) {
  Vec<std::uint32_t> x[1][4];
  for (int i = 0; i < 4; ++i) x[0][i] = splat(counter[i]);
  threefry(KeySchedule(key), x);
  for (int i = 0; i < 4; ++i) out[i] = x[0][i][0];
}

}  // namespace

namespace varprop {
extern const KernelTable VARPROP_TABLE = {
    .name = VARPROP_NAME,
    .f32 = kKernels<float>,
    .f64 = kKernels<double>,
    .inner = inner,
    .threefry = threefry_words,
    .to_bfloat16 = to_bfloat16,
    .to_float16 = to_float16,
};
}  // namespace varprop
