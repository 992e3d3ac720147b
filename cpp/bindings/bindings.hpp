// One registration function per subject.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace varprop {

namespace py = pybind11;

void bind_config(py::module_&);
void bind_weights(py::module_&);
void bind_chain(py::module_&);
void bind_moments(py::module_&);

}  // namespace varprop
