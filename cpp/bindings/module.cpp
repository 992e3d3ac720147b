// The extension module: a table of contents.
#include "bindings/bindings.hpp"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled core of varprop.";
  varprop::bind_config(m);
  varprop::bind_weights(m);
  varprop::bind_chain(m);
  varprop::bind_moments(m);
}
