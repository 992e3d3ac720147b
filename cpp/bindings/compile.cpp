#include "bindings/compile.hpp"

#include <utility>

namespace varprop {
namespace {

Tensor::Source source_of(const std::string& name) {
  static const std::map<std::string, Tensor::Source> sources = {{"absent", Tensor::Source::absent},
                                                                {"drawn", Tensor::Source::drawn},
                                                                {"given", Tensor::Source::given},
                                                                {"formed", Tensor::Source::formed}};
  return sources.at(name);
}

Layer::Kind kind_of(const std::string& name) {
  static const std::map<std::string, Layer::Kind> kinds = {
      {"dense", Layer::Kind::dense},
      {"conv", Layer::Kind::conv},
      {"pool", Layer::Kind::pool},
      {"flatten", Layer::Kind::flatten},
      {"elementwise", Layer::Kind::elementwise},
      {"map", Layer::Kind::map},
      {"bias", Layer::Kind::map},
      {"join", Layer::Kind::join},
      {"layernorm", Layer::Kind::layer_norm},
      {"rmsnorm", Layer::Kind::rms_norm},
      {"batchnorm", Layer::Kind::batch_norm},
      {"dropout", Layer::Kind::dropout}};
  return kinds.at(name);
}

Tensor compile(const ParameterTuple& parameter) {
  const auto& [source, draw, rms] = parameter;
  return {.source = source_of(source), .draw = make_draw(draw), .rms = rms};
}

// A key at a position in Python's digests: words little-endian.
Key key_at(const std::string& digests, std::size_t position) {
  Key key{};
  for (std::size_t byte = 0; byte < sizeof(Key); ++byte) {
    const auto value = static_cast<unsigned char>(digests.at(position * sizeof(Key) + byte));
    key[byte / 4] |= static_cast<std::uint32_t>(value) << (8 * (byte % 4));
  }
  return key;
}

}  // namespace

Layers::Layers(const std::vector<OperationTuple>& operations) {
  for (const auto& [kind, in, out, weight, bias, activation, parameter, homogeneous, factor, skip,
                    skip_scale, window, groups, channels_first] : operations) {
    layers.push_back({.kind = kind_of(kind),
                      .in = std::make_from_tuple<Shape>(in),
                      .out = std::make_from_tuple<Shape>(out),
                      .weight = compile(weight),
                      .bias = compile(bias),
                      .activation = activation,
                      .parameter = parameter,
                      .homogeneous = homogeneous,
                      .factor = factor,
                      .skip_scale = kind == "join" ? skip_scale : 0,
                      .skip = skip,
                      .window = std::make_from_tuple<Window>(window),
                      .groups = groups,
                      .channels_first = channels_first,
                      .has_bias = kind == "dense" || kind == "conv" || kind == "bias"});
  }
}

Network compile(const Layers& layers, const std::string& keys,
                const std::map<std::size_t, py::array>& given, const Key& input_key) {
  Network network{layers.layers, input_key};
  const auto tensor = [&](std::size_t position) -> Tensor& {
    Layer& layer = network.layers.at(position / 2);
    return position % 2 == 0 ? layer.weight : layer.bias;
  };
  for (std::size_t position = 0; position < 2 * network.layers.size(); ++position) {
    tensor(position).key = key_at(keys, position);
  }
  for (const auto& [position, array] : given) tensor(position).given = array.data();
  return network;
}

}  // namespace varprop
