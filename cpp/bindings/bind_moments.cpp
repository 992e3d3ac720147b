// Accumulators of moments for NumPy arrays.
#include <string>
#include <vector>

#include "accumulate.hpp"
#include "bindings/bindings.hpp"

namespace varprop {
namespace {

InputType input_type(const std::string& name) {
  if (name == "float16") return InputType::float16;
  if (name == "bfloat16") return InputType::bfloat16;
  if (name == "float32") return InputType::float32;
  if (name == "float64") return InputType::float64;
  throw py::type_error("dtype must be float16, bfloat16, float32 or float64, got " + name);
}

struct Accumulators {
  std::vector<Moments> sets;
};

void update(Accumulators& into, const py::array& array, std::size_t kept,
            const std::string& dtype) {
  StridedArray view{static_cast<const std::byte*>(array.data()), input_type(dtype), {}, {}};
  std::size_t sets = 1;
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    view.shape.push_back(array.shape(axis));
    view.strides.push_back(array.strides(axis));
    if (static_cast<std::size_t>(axis) < kept) sets *= static_cast<std::size_t>(array.shape(axis));
  }
  if (sets != into.sets.size()) throw py::value_error("array does not fit the accumulators");
  {
    const py::gil_scoped_release unlocked;
    accumulate(view, kept, into.sets);
  }
}

void merge(Accumulators& into, const Accumulators& other) {
  if (into.sets.size() != other.sets.size()) {
    throw py::value_error("accumulators differ in number");
  }
  for (std::size_t i = 0; i < into.sets.size(); ++i) into.sets[i].merge(other.sets[i]);
}

py::array_t<double> field(const Accumulators& accumulators, double Moments::* member) {
  py::array_t<double> values(static_cast<py::ssize_t>(accumulators.sets.size()));
  double* to = values.mutable_data();
  for (const Moments& moments : accumulators.sets) *to++ = moments.*member;
  return values;
}

}  // namespace

void bind_moments(py::module_& m) {
  py::class_<Accumulators>(m, "Accumulators")
      .def(py::init([](std::size_t count) { return Accumulators{std::vector<Moments>(count)}; }),
           py::arg("count"))
      .def("__len__", [](const Accumulators& a) { return a.sets.size(); })
      .def("update", &update, py::arg("array"), py::arg("kept"), py::arg("dtype"))
      .def("merge", &merge, py::arg("other"))
      .def_property_readonly("count",
                             [](const Accumulators& a) { return field(a, &Moments::count); })
      .def_property_readonly("mean", [](const Accumulators& a) { return field(a, &Moments::mean); })
      .def_property_readonly("m2", [](const Accumulators& a) { return field(a, &Moments::m2); })
      .def_property_readonly("m3", [](const Accumulators& a) { return field(a, &Moments::m3); })
      .def_property_readonly("m4", [](const Accumulators& a) { return field(a, &Moments::m4); })
      .def_property_readonly("minimum",
                             [](const Accumulators& a) { return field(a, &Moments::minimum); })
      .def_property_readonly("maximum",
                             [](const Accumulators& a) { return field(a, &Moments::maximum); });
}

}  // namespace varprop
