// How the core was built, which instruction set is active, and the generator itself for known
// answers.
#include <algorithm>
#include <string>

#include "bindings/bindings.hpp"
#include "isa.hpp"
#include "network.hpp"

#ifdef _OPENMP
#  include <omp.h>
#endif

namespace varprop {
namespace {

std::string compiler() {
#if defined(__clang__)
  return std::string("clang ") + __clang_version__;
#else
  return std::string("g++ ") + __VERSION__;
#endif
}

int available_threads() {
#ifdef _OPENMP
  return std::max(1, std::min(omp_get_max_threads(), omp_get_num_procs()));
#else
  return 1;
#endif
}

}  // namespace

void bind_config(py::module_& m) {
  m.attr("__version__") = VARPROP_VERSION;
  m.attr("compiler") = compiler();
#ifdef _OPENMP
  m.attr("openmp") = _OPENMP;
#else
  m.attr("openmp") = 0;
#endif
  m.def("built_isas", &built_isas);
  m.def("supported_isas", &supported_isas);
  m.def("active_isa", [] { return std::string(kernel_table().name); });
  m.def("available_threads", &available_threads);
  m.def(
      "threefry",
      [](const Key& key, const Key& counter) {
        Key words;
        kernel_table().threefry(key.data(), counter.data(), words.data());
        return words;
      },
      py::arg("key"), py::arg("counter"));
}

}  // namespace varprop
