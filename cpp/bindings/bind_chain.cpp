// Simulating a compiled network from Python.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/bindings.hpp"
#include "chain/forward.hpp"
#include "isa.hpp"

namespace varprop {
namespace {

// Python's side of a run: matrices that only NumPy can form.
class PythonHost : public Host {
 public:
  PythonHost(py::object progress, py::object form)
      : watcher_(std::move(progress)), form_(std::move(form)) {}

  bool poll(double fraction_done) override { return watcher_.poll(fraction_done); }

  Formed form(std::size_t layer, std::uint64_t trial) override {
    const py::gil_scoped_acquire locked;
    auto [numbers, rms] = py::cast<std::pair<py::array, double>>(form_(layer, trial));
    auto* const kept = new py::array(std::move(numbers));
    const auto release = [kept](const void*) {
      const py::gil_scoped_acquire relocked;
      delete kept;
    };
    return {{kept->data(), release}, rms};
  }

 private:
  PythonWatcher watcher_;
  py::object form_;
};

py::array_t<double> matrix(std::int64_t trials, std::size_t layers) {
  return py::array_t<double>({static_cast<py::ssize_t>(trials), static_cast<py::ssize_t>(layers)});
}

// The arrays of one Observed, as a dict of the names that Run reads.
class ObservedArrays {
 public:
  ObservedArrays(std::int64_t trials, std::size_t layers, bool powers)
      : exponent_({static_cast<py::ssize_t>(trials), static_cast<py::ssize_t>(layers)}) {
    for (const char* name : {"mean", "variance"}) add(name, trials, layers);
    if (powers) {
      for (const char* name : {"m3", "m4", "minimum", "maximum"}) add(name, trials, layers);
    }
    dict_["exponent"] = exponent_;
  }

  Observed view() {
    return {at("mean"),    at("variance"), exponent_.mutable_data(), at("m3"), at("m4"),
            at("minimum"), at("maximum")};
  }
  const py::dict& dict() const { return dict_; }

 private:
  void add(const char* name, std::int64_t trials, std::size_t layers) {
    dict_[name] = matrix(trials, layers);
  }
  double* at(const char* name) {
    if (!dict_.contains(name)) return nullptr;
    return py::cast<py::array_t<double>>(dict_[name]).mutable_data();
  }

  py::array_t<std::int64_t> exponent_;
  py::dict dict_;
};

Tensor::Source source_of(const std::string& name) {
  static const std::map<std::string, Tensor::Source> sources = {{"absent", Tensor::Source::absent},
                                                                {"drawn", Tensor::Source::drawn},
                                                                {"given", Tensor::Source::given},
                                                                {"formed", Tensor::Source::formed}};
  return sources.at(name);
}

// The tuples of network.py: a Parameter, an Operation.
using ParameterTuple = std::tuple<std::string, DrawTuple, double>;
using OperationTuple =
    std::tuple<std::int64_t, std::int64_t, ParameterTuple, ParameterTuple, int, double, bool>;

Tensor compile(const ParameterTuple& parameter, const Key& key, const void* given) {
  const auto& [source, draw, rms] = parameter;
  return {source_of(source), make_draw(draw), key, given, rms};
}

// Two keys an operation: of its weight and of its bias; given arrays by the same positions.
Network compile(const std::vector<OperationTuple>& operations, const std::vector<Key>& keys,
                const std::map<std::size_t, py::array>& given, const Key& input_key) {
  Network network{{}, input_key};
  const auto array = [&](std::size_t position) {
    const auto found = given.find(position);
    return found == given.end() ? nullptr : found->second.data();
  };
  for (std::size_t l = 0; l < operations.size(); ++l) {
    const auto& [fan_in, width, weight, bias, activation, parameter, homogeneous] = operations[l];
    network.layers.push_back({fan_in, width, compile(weight, keys.at(2 * l), array(2 * l)),
                              compile(bias, keys.at(2 * l + 1), array(2 * l + 1)), activation,
                              parameter, homogeneous});
  }
  return network;
}

// A job with everything that it points to.
class Simulation {
 public:
  Simulation(const std::vector<OperationTuple>& operations, const std::vector<Key>& keys,
             std::map<std::size_t, py::array> given, std::int64_t batch,
             std::optional<py::array> inputs, const Key& input_key, double input_rms,
             std::int64_t first_trial, std::int64_t trials, int threads, bool by_trial, bool powers,
             const std::string& dtype)
      : given_(std::move(given)),
        inputs_(std::move(inputs)),
        network_(compile(operations, keys, given_, input_key)),
        job_{network_,  batch,       inputs_ ? inputs_->data() : nullptr,
             input_rms, first_trial, trials,
             threads,   by_trial,    powers},
        single_(dtype == "float32") {}

  std::int64_t memory() const {
    return single_ ? forward_memory<float>(job_) : forward_memory<double>(job_);
  }

  py::dict run(py::object progress, py::object form) const {
    const std::size_t layers = network_.layers.size();
    ObservedArrays pre(job_.trials, layers, job_.powers), act(job_.trials, layers, job_.powers);
    py::array_t<std::int64_t> out_of_range(static_cast<py::ssize_t>(job_.trials));
    const Results results{pre.view(), act.view(), out_of_range.mutable_data()};
    PythonHost host(std::move(progress), std::move(form));
    {
      const py::gil_scoped_release unlocked;
      if (single_) {
        forward<float>(job_, host, results);
      } else {
        forward<double>(job_, host, results);
      }
    }
    py::dict result;
    result["preactivations"] = pre.dict();
    result["activations"] = act.dict();
    result["out_of_range"] = out_of_range;
    return result;
  }

 private:
  std::map<std::size_t, py::array> given_;
  std::optional<py::array> inputs_;
  Network network_;
  Job job_;
  bool single_;
};

// One activation, or its derivative, in place on a C-contiguous array.
template <class T>
void activate(py::array_t<T, py::array::c_style> values, int activation, double parameter,
              bool derivative) {
  T* const data = values.mutable_data();
  const auto& kernel = kernels<T>();
  alignas(64) T part[kBlockColumns], ones[kBlockColumns];
  for (py::ssize_t i = 0; i < values.size(); i += kBlockColumns) {
    const auto count = std::min<py::ssize_t>(kBlockColumns, values.size() - i);
    std::fill(std::copy_n(data + i, count, part), part + kBlockColumns, T{0});
    const Tile<T> x{part, kBlockColumns, 1, kBlockColumns},
        g{ones, kBlockColumns, 1, kBlockColumns};
    if (derivative) {
      std::fill_n(ones, kBlockColumns, T{1});
      kernel.backpropagate(activation, static_cast<T>(parameter), x, g);
    } else {
      kernel.activate(activation, static_cast<T>(parameter), x);
    }
    std::copy_n(derivative ? ones : part, count, data + i);
  }
}

}  // namespace

void bind_chain(py::module_& m) {
  m.def("activate", &activate<float>, py::arg("values").noconvert(), py::arg("activation"),
        py::arg("parameter"), py::arg("derivative"));
  m.def("activate", &activate<double>, py::arg("values").noconvert(), py::arg("activation"),
        py::arg("parameter"), py::arg("derivative"));
  py::class_<Simulation>(m, "Simulation")
      .def(py::init<const std::vector<OperationTuple>&, const std::vector<Key>&,
                    std::map<std::size_t, py::array>, std::int64_t, std::optional<py::array>,
                    const Key&, double, std::int64_t, std::int64_t, int, bool, bool,
                    const std::string&>(),
           py::arg("operations"), py::arg("keys"), py::arg("given"), py::arg("batch"),
           py::arg("inputs"), py::arg("input_key"), py::arg("input_rms"), py::arg("first_trial"),
           py::arg("trials"), py::arg("threads"), py::arg("by_trial"), py::arg("powers"),
           py::arg("dtype"))
      .def("memory", &Simulation::memory)
      .def("run", &Simulation::run, py::arg("progress"), py::arg("form"));
}

}  // namespace varprop
