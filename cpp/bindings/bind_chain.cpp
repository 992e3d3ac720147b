// Simulating a compiled network from Python.
#include <algorithm>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"
#include "bindings/compile.hpp"
#include "chain/program.hpp"
#include "chain/simulate.hpp"
#include "isa.hpp"

namespace varprop {
namespace {

// Python's side of a run: matrices that only NumPy can form.
class PythonHost : public Host {
 public:
  PythonHost(py::object progress, py::object form, py::object apply)
      : watcher_(std::move(progress)), form_(std::move(form)), apply_(std::move(apply)) {}

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

  void apply(std::int64_t layer, bool derivative, double* x, std::int64_t count) override {
    const py::gil_scoped_acquire locked;
    apply_(layer, derivative, py::array_t<double>(count, x, py::none()));
  }

 private:
  PythonWatcher watcher_;
  py::object form_, apply_;
};

// Python's Wanted: powers, histogram, correlation, gradient_correlation, saturation.
using WantedTuple = std::tuple<bool, bool, bool, bool, std::optional<double>>;

// A loss, the key of what is drawn for it, the targets or labels where given.
using CostTuple = std::tuple<std::string, Key, std::optional<py::array>>;

std::optional<Cost> make_cost(const std::optional<CostTuple>& cost) {
  static const std::map<std::string, Cost::Loss> losses = {
      {"gaussian", Cost::Loss::gaussian},
      {"mse", Cost::Loss::mse},
      {"softmax_cross_entropy", Cost::Loss::softmax_cross_entropy},
      {"bce", Cost::Loss::bce}};
  if (!cost) return std::nullopt;
  const auto& [loss, key, targets] = *cost;
  Cost made{.loss = losses.at(loss), .key = key};
  if (targets && targets->ndim() == 1) {
    made.labels = static_cast<const std::int64_t*>(targets->data());
  } else if (targets) {
    made.targets = targets->data();
  }
  return made;
}

Wanted make_wanted(const WantedTuple& wanted) { return std::make_from_tuple<Wanted>(wanted); }

// A job with everything that it points to.
class Simulation {
 public:
  Simulation(const Layers& layers, const py::bytes& keys, std::map<std::size_t, py::array> given,
             std::int64_t batch, std::optional<py::array> inputs, const Key& input_key,
             double input_rms, std::int64_t first_trial, std::int64_t trials,
             std::optional<CostTuple> cost, const WantedTuple& wanted, int threads,
             const std::string& dtype, bool implicit)
      : given_(std::move(given)),
        inputs_(std::move(inputs)),
        cost_(std::move(cost)),
        network_(compile(layers, keys, given_, input_key)),
        job_{.network = network_,
             .batch = batch,
             .inputs = inputs_ ? inputs_->data() : nullptr,
             .input_rms = input_rms,
             .first_trial = first_trial,
             .trials = trials,
             .cost = make_cost(cost_),
             .wanted = make_wanted(wanted),
             .threads = threads,
             .implicit = implicit},
        single_(dtype == "float32") {}

  // Layers that the way back cannot do without.
  std::int64_t fewest_kept() const { return Program(network_).inner + 1; }

  std::int64_t memory(bool by_trial, int kept) const {
    const Job job = planned(by_trial, kept);
    return single_ ? working_memory<float>(job) : working_memory<double>(job);
  }

  py::dict run(bool by_trial, int kept, py::object progress, py::object form, py::object apply,
               const std::vector<std::size_t>& whole_activations, bool whole_gradients,
               bool whole_parameters) const {
    const std::size_t layers = network_.layers.size();
    const Wanted& wanted = job_.wanted;
    py::dict result;
    const auto observe = [&](const char* name, std::size_t of, bool correlation, bool slopes,
                             const Wanted& taken) {
      const ObservedArrays arrays(job_.trials, of, taken, correlation, slopes);
      result[name] = arrays.dict();
      return arrays.view();
    };
    py::array_t<std::int64_t> out_of_range(static_cast<py::ssize_t>(job_.trials));
    Results results;
    results.out_of_range = out_of_range.mutable_data();
    results.preactivations = observe("preactivations", layers, wanted.correlation, false, wanted);
    results.activations =
        observe("activations", layers, wanted.correlation, wanted.saturation.has_value(), wanted);
    if (job_.cost) {
      results.gradients = observe("gradients", layers, wanted.gradient_correlation, false, wanted);
      const Program program(network_);
      const auto count = [](std::int64_t number) { return static_cast<std::size_t>(number); };
      results.weight_gradients = observe("weight_gradients", count(program.weights), false, false,
                                         job_.implicit ? Wanted{} : wanted);
      results.bias_gradients =
          observe("bias_gradients", count(program.biases), false, false, wanted);
      results.input_gradients = observe("input_gradients", 1, false, false, wanted);
    }
    result["out_of_range"] = out_of_range;
    if (whole_gradients || whole_parameters || !whole_activations.empty()) {
      if (job_.trials != 1) throw std::invalid_argument("whole signals are those of one trial");
      const WholeArrays whole(network_, job_.batch, whole_activations, whole_gradients,
                              whole_parameters);
      result["whole"] = whole.dict();
      results.whole = whole.view();
    }
    PythonHost host(std::move(progress), std::move(form), std::move(apply));
    {
      const py::gil_scoped_release unlocked;
      const Job job = planned(by_trial, kept);
      single_ ? simulate<float>(job, host, results) : simulate<double>(job, host, results);
    }
    return result;
  }

 private:
  Job planned(bool by_trial, int kept) const {
    Job job = job_;
    job.by_trial = by_trial;
    job.kept = kept;
    return job;
  }

  std::map<std::size_t, py::array> given_;
  std::optional<py::array> inputs_;
  std::optional<CostTuple> cost_;
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
  py::class_<Layers>(m, "Layers")
      .def(py::init<const std::vector<OperationTuple>&>(), py::arg("operations"));
  py::class_<Simulation>(m, "Simulation")
      .def(py::init<const Layers&, const py::bytes&, std::map<std::size_t, py::array>, std::int64_t,
                    std::optional<py::array>, const Key&, double, std::int64_t, std::int64_t,
                    std::optional<CostTuple>, const WantedTuple&, int, const std::string&, bool>(),
           py::arg("layers"), py::arg("keys"), py::arg("given"), py::arg("batch"),
           py::arg("inputs"), py::arg("input_key"), py::arg("input_rms"), py::arg("first_trial"),
           py::arg("trials"), py::arg("cost"), py::arg("wanted"), py::arg("threads"),
           py::arg("dtype"), py::arg("implicit"))
      .def_property_readonly("fewest_kept", &Simulation::fewest_kept)
      .def("memory", &Simulation::memory, py::arg("by_trial"), py::arg("kept"))
      .def("run", &Simulation::run, py::arg("by_trial"), py::arg("kept"), py::arg("progress"),
           py::arg("form"), py::arg("apply"), py::arg("whole_activations"),
           py::arg("whole_gradients"), py::arg("whole_parameters"));
}

}  // namespace varprop
