// Drawing a region of a tensor into a NumPy array.
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bindings.hpp"
#include "weights.hpp"

namespace varprop {
namespace {

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

// `first` is a row and a column; `steps` has one number for each axis of `out`, rows apart but for
// the last.
void draw_into(const DrawTuple& draw, const Key& key, std::uint64_t trial,
               const std::pair<std::int64_t, std::int64_t>& first,
               const std::vector<std::int64_t>& steps, py::array out, const std::string& dtype,
               int threads, py::object progress) {
  const OutputType type = output_type(dtype);
  const py::ssize_t size = type == OutputType::float64 ? 8 : type == OutputType::float32 ? 4 : 2;
  if (out.ndim() < 2 || out.itemsize() != size ||
      steps.size() != static_cast<std::size_t>(out.ndim())) {
    throw py::value_error("out does not fit the region and dtype");
  }
  std::vector<Axis> axes;
  for (const std::int64_t step : steps) {
    const auto axis = static_cast<py::ssize_t>(axes.size());
    axes.push_back({step, out.shape(axis), out.strides(axis)});
  }
  const Axis columns = axes.back();
  axes.pop_back();
  const Region region{first.first, first.second, static_cast<std::byte*>(out.mutable_data()),
                      std::move(axes), columns};
  DrawWatcher watcher(std::move(progress));
  {
    const py::gil_scoped_release unlocked;
    fill(make_draw(draw), key, trial, region, type, threads, watcher);
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
  m.def("draw", &draw_into, py::arg("draw"), py::arg("key"), py::arg("trial"), py::arg("first"),
        py::arg("steps"), py::arg("out"), py::arg("dtype"), py::arg("threads"),
        py::arg("progress"));
}

}  // namespace varprop
