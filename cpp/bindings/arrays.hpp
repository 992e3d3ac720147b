// The arrays that a run writes to, which Python gets.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "bindings/bindings.hpp"
#include "chain/histogram.hpp"
#include "chain/job.hpp"

namespace varprop {

// The arrays of one Observed, as a dict of the names that Run reads.
class ObservedArrays {
 public:
  ObservedArrays(std::int64_t trials, std::size_t layers, const Wanted& wanted, bool correlation,
                 bool slopes)
      : shape_{static_cast<py::ssize_t>(trials), static_cast<py::ssize_t>(layers)} {
    add(view_.mean, "mean");
    add(view_.variance, "variance");
    add(view_.exponent, "exponent");
    if (wanted.powers) {
      add(view_.m3, "m3");
      add(view_.m4, "m4");
      add(view_.minimum, "minimum");
      add(view_.maximum, "maximum");
    }
    if (correlation) add(view_.correlation, "correlation");
    if (slopes) {
      add(view_.saturation, "saturation");
      add(view_.zero_slope, "zero_slope");
      add(view_.dead, "dead");
    }
    if (!wanted.histogram) return;
    shape_.push_back(kBins);
    add(view_.histogram, "histogram");
    std::fill_n(view_.histogram, trials * static_cast<std::int64_t>(layers) * kBins, 0);
  }

  const Observed& view() const { return view_; }
  const py::dict& dict() const { return dict_; }

 private:
  template <class Number>
  void add(Number*& place, const char* name) {
    py::array_t<Number> array(shape_);
    place = array.mutable_data();
    dict_[name] = std::move(array);
  }

  std::vector<py::ssize_t> shape_;
  Observed view_;
  py::dict dict_;
};

// The arrays of one Whole: of the activations of some layers, of the gradients by all
// pre-activations and by the inputs, and of those by all parameters.
class WholeArrays {
 public:
  WholeArrays(const Network& network, std::int64_t batch, const std::vector<std::size_t>& layers,
              bool gradients, bool parameters) {
    std::vector<py::object> activations(network.layers.size(), py::none());
    view_.activations.resize(network.layers.size());
    for (const std::size_t l : layers) {
      const Shape& shape = network.layers.at(l).out;
      activations[l] = add(view_.activations[l], batch * shape.positions(), shape.channels);
    }
    dict_["activations"] = activations;
    if (gradients) {
      std::vector<py::object> signals;
      for (const Layer& layer : network.layers) {
        signals.push_back(
            add(view_.gradients.emplace_back(), batch * layer.out.positions(), layer.width()));
      }
      dict_["gradients"] = signals;
      const Shape& in = network.layers.front().in;
      dict_["input_gradients"] = add(view_.input_gradients, batch * in.positions(), in.channels);
    }
    if (!parameters) return;
    std::vector<py::object> weights, biases;
    for (const Layer& layer : network.layers) {
      double*& weight = view_.weight_gradients.emplace_back();
      double*& bias = view_.bias_gradients.emplace_back();
      if (layer.has_weight()) weights.push_back(add(weight, layer.fan_in(), layer.width()));
      if (layer.has_bias) biases.push_back(add(bias, 1, layer.width()));
    }
    dict_["weight_gradients"] = weights;
    dict_["bias_gradients"] = biases;
  }

  const Whole& view() const { return view_; }
  const py::dict& dict() const { return dict_; }

 private:
  // NaN where nothing is written: past the layer at which a signal leaves the range.
  static py::object add(double*& place, std::int64_t rows, std::int64_t width) {
    py::array_t<double> array({rows, width});
    place = array.mutable_data();
    std::fill_n(place, rows * width, std::numeric_limits<double>::quiet_NaN());
    return array;
  }

  Whole view_;
  py::dict dict_;
};

}  // namespace varprop
