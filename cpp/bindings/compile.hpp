// A network from the tuples that Python compiles it to.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/bindings.hpp"

namespace varprop {

// The tuples of _compile.py: a Parameter, an Operation.
using ParameterTuple = std::tuple<std::string, DrawTuple, double>;
using ShapeTuple = std::tuple<std::int64_t, std::int64_t, std::int64_t>;
using WindowTuple = std::array<std::int64_t, 6>;
using OperationTuple =
    std::tuple<std::string, ShapeTuple, ShapeTuple, ParameterTuple, ParameterTuple, int, double,
               bool, double, std::int64_t, double, WindowTuple, std::int64_t, bool>;

// A network's layers without keys and given arrays: read once, used for many runs.
struct Layers {
  explicit Layers(const std::vector<OperationTuple>& operations);
  std::vector<Layer> layers;
};

// Two keys a layer: of its weight and of its bias; given arrays by the same positions.
Network compile(const Layers& layers, const std::string& keys,
                const std::map<std::size_t, py::array>& given, const Key& input_key);

}  // namespace varprop
