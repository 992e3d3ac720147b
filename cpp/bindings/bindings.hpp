// One registration function per subject.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <utility>

#include "network.hpp"

namespace varprop {

namespace py = pybind11;

// The fields of Python's Draw: distribution, mean, std, low, high.
using DrawTuple = std::tuple<std::string, double, double, double, double>;
Draw make_draw(const DrawTuple&);

// Signals and progress: what Python wants to hear of a long job.
class PythonWatcher {
 public:
  explicit PythonWatcher(py::object progress) : progress_(std::move(progress)) {}

  // Throws KeyboardInterrupt, and what the progress function throws.
  bool poll(double fraction_done) const {
    const py::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (!progress_.is_none()) progress_(fraction_done);
    return false;
  }

 private:
  py::object progress_;
};

void bind_config(py::module_&);
void bind_weights(py::module_&);
void bind_chain(py::module_&);
void bind_moments(py::module_&);

}  // namespace varprop
