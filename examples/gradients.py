"""Whether gradients come back to the first layer of a tanh network, before any training.

The network of Glorot and Bengio (2010): five hidden layers of 1000 units, 10 outputs, the softmax
cross-entropy of random labels, 300 examples; with the initialization that was standard then,
uniform on +-1/sqrt(fan_in), and with their normalized one. Their figures 6, 7 and 9 need
Matplotlib: ``python examples/gradients.py --plot gradients`` writes gradients_standard.png and
gradients_normalized.png.
"""

import argparse

import varprop as vp

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--trials", type=int, default=20, help="draws of all weights (default: 20)")
parser.add_argument("--inputs", type=int, default=1024, help="features (default: 1024)")
parser.add_argument("--plot", metavar="NAME", help="save a picture of each run's histograms")
args = parser.parse_args()

for name, law in {"standard": "torch_linear", "normalized": "glorot_uniform"}.items():
    sizes = [args.inputs, *[1000] * 5, 10]
    network = vp.mlp(sizes, activation="tanh", weight=law, output_activation="linear")
    run = vp.simulate(
        network,
        inputs=300,
        trials=args.trials,
        backward=True,
        loss="softmax_cross_entropy",
        statistics="histogram",
        progress=True,
    )
    print(f"{name.capitalize()} initialization: standard deviations of\n")
    print("hidden layer   activations   gradients   weight gradients")
    signals = (run.activations.std, run.gradients.std, run.weight_gradients.std)
    for layer, (act, gradient, weight) in enumerate(list(zip(*signals, strict=True))[:5], start=1):
        print(f"{layer:^12}   {act:^11.4f}   {gradient:^9.2e}   {weight:^16.2e}")
    back = (run.gradients.std[0] / run.gradients.std[4]) ** 0.25
    level = (run.weight_gradients.std[0] / run.weight_gradients.std[4]) ** 0.25
    print(f"\ngradients x {back:.3f} and weight gradients x {level:.3f} a layer, going back\n")
    if args.plot:
        run.plot(kind="histograms").savefig(f"{args.plot}_{name}.png", dpi=150)

print(
    "With the standard weights the gradients halve in each layer that they go back\n"
    "through, and yet the weight gradients are level: what the gradients lose going\n"
    "back, the activations lose going forward. The normalized weights keep both."
)
