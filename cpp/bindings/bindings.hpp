// One registration function per subject.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>

#include "network.hpp"

namespace varprop {

namespace py = pybind11;

// The fields of Python's Draw: distribution, mean, std, low, high.
using DrawTuple = std::tuple<std::string, double, double, double, double>;
Draw make_draw(const DrawTuple&);

void bind_config(py::module_&);
void bind_weights(py::module_&);
void bind_chain(py::module_&);
void bind_moments(py::module_&);

}  // namespace varprop
