// Drawing a rectangle of a tensor into a NumPy array.
#include <map>
#include <string>
#include <tuple>
#include <utility>

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

class DrawWatcher : public Watcher {
 public:
  explicit DrawWatcher(py::object progress) : watcher_(std::move(progress)) {}
  bool poll(double fraction_done) override { return watcher_.poll(fraction_done); }

 private:
  PythonWatcher watcher_;
};

void draw_into(const DrawTuple& draw, const Key& key, std::uint64_t trial, const Axis& rows,
               const Axis& columns, py::array out, const std::string& dtype, int threads,
               py::object progress) {
  const OutputType type = output_type(dtype);
  const py::ssize_t size = type == OutputType::float64 ? 8 : type == OutputType::float32 ? 4 : 2;
  const auto [row, row_step, row_count] = rows;
  const auto [column, column_step, column_count] = columns;
  if (out.ndim() != 2 || out.itemsize() != size || out.shape(0) != row_count ||
      out.shape(1) != column_count) {
    throw py::value_error("out does not fit the region and dtype");
  }
  const Output output{out.mutable_data(), type, out.strides(0), out.strides(1)};
  DrawWatcher watcher(std::move(progress));
  {
    const py::gil_scoped_release unlocked;
    fill(make_draw(draw), key, trial, {row, row_step, row_count, column, column_step, column_count},
         output, threads, watcher);
  }
}

}  // namespace

Draw make_draw(const DrawTuple& fields) {
  using Distribution = Draw::Distribution;
  static const std::map<std::string, Distribution> distributions = {
      {"constant", Distribution::constant},
      {"uniform", Distribution::uniform},
      {"normal", Distribution::normal},
      {"truncated_normal", Distribution::truncated_normal}};
  const auto& [distribution, mean, std, low, high] = fields;
  return {distributions.at(distribution), mean, std, low, high};
}

void bind_weights(py::module_& m) {
  m.def("draw", &draw_into, py::arg("draw"), py::arg("key"), py::arg("trial"), py::arg("rows"),
        py::arg("columns"), py::arg("out"), py::arg("dtype"), py::arg("threads"),
        py::arg("progress"));
}

}  // namespace varprop
