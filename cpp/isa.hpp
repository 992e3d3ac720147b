// Which instruction set runs: the best supported one, or the one that VARPROP_ISA names.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.hpp"

namespace varprop {

// Names of the instruction sets in this build, best first; and those this machine can run.
std::vector<std::string> built_isas();
std::vector<std::string> supported_isas();

// The table in use. Throws std::invalid_argument where VARPROP_ISA names none that can run here.
const KernelTable& kernel_table();

template <class T>
const Kernels<T>& kernels();
template <>
inline const Kernels<float>& kernels<float>() {
  return kernel_table().f32;
}
template <>
inline const Kernels<double>& kernels<double>() {
  return kernel_table().f64;
}

}  // namespace varprop
