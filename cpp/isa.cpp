#include "isa.hpp"

#include <cstdlib>
#include <stdexcept>

namespace varprop {
namespace {

struct Isa {
  const KernelTable& table;
  bool (*supported)();
};

// In order of preference.
const Isa kIsas[] = {
#ifdef VARPROP_X86
    {kAvx512,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("fma");
     }},
    {kAvx2, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
    {kBaseline, [] { return true; }},
};

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const KernelTable& choose() {
  const char* const forced = std::getenv("VARPROP_ISA");
  const std::string name = forced ? forced : "";
  for (const Isa& isa : kIsas) {
    if (isa.supported() && (name.empty() || name == isa.table.name)) return isa.table;
  }
  for (const Isa& isa : kIsas) {
    if (name == isa.table.name) {
      throw std::invalid_argument("VARPROP_ISA=" + name +
                                  " cannot run on this machine; it can be " +
                                  join(supported_isas()));
    }
  }
  throw std::invalid_argument("VARPROP_ISA must be one of " + join(built_isas()) + ", got '" +
                              name + "'");
}

}  // namespace

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas) names.emplace_back(isa.table.name);
  return names;
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas) {
    if (isa.supported()) names.emplace_back(isa.table.name);
  }
  return names;
}

const KernelTable& kernel_table() {
  static const KernelTable& table = choose();
  return table;
}

}  // namespace varprop
