// Drawing a rectangle of a tensor into a NumPy array.
#include <string>
#include <tuple>

#include "bindings/bindings.hpp"
#include "weights.hpp"

namespace varprop {
namespace {

using Axis = std::tuple<std::int64_t, std::int64_t, std::int64_t>;  // start, step, count

OutputType output_type(const std::string& name) {
  if (name == "float32") return OutputType::float32;
  if (name == "float64") return OutputType::float64;
  if (name == "float16") return OutputType::float16;
  if (name == "bfloat16") return OutputType::bfloat16;
  throw py::value_error("dtype must be float32, float64, float16 or bfloat16, got " + name);
}

Draw::Distribution distribution_of(const std::string& name) {
  using Distribution = Draw::Distribution;
  if (name == "constant") return Distribution::constant;
  if (name == "uniform") return Distribution::uniform;
  if (name == "normal") return Distribution::normal;
  if (name == "truncated_normal") return Distribution::truncated_normal;
  throw py::value_error("unknown distribution " + name);
}

void draw_into(const Draw& draw, const Key& key, std::uint64_t trial, const Axis& rows,
               const Axis& columns, py::array out, const std::string& dtype, int threads) {
  const OutputType type = output_type(dtype);
  const py::ssize_t size = type == OutputType::float64 ? 8 : type == OutputType::float32 ? 4 : 2;
  const auto [row, row_step, row_count] = rows;
  const auto [column, column_step, column_count] = columns;
  if (out.ndim() != 2 || out.itemsize() != size || out.shape(0) != row_count ||
      out.shape(1) != column_count) {
    throw py::value_error("out does not fit the region and dtype");
  }
  const Output output{out.mutable_data(), type, out.strides(0), out.strides(1)};
  {
    const py::gil_scoped_release unlocked;
    fill(draw, key, trial, {row, row_step, row_count, column, column_step, column_count}, output,
         threads);
  }
}

}  // namespace

void bind_weights(py::module_& m) {
  py::class_<Draw>(m, "Draw").def(
      py::init(
          [](const std::string& distribution, double mean, double std, double low, double high) {
            return Draw{distribution_of(distribution), mean, std, low, high};
          }),
      py::arg("distribution"), py::arg("mean"), py::arg("std"), py::arg("low"), py::arg("high"));
  m.def("draw", &draw_into, py::arg("draw"), py::arg("key"), py::arg("trial"), py::arg("rows"),
        py::arg("columns"), py::arg("out"), py::arg("dtype"), py::arg("threads"));
}

}  // namespace varprop
