"""Why random weights are divided by the square root of the number of inputs.

A question of 2019 was answered by simulating it: 500 rows of 100 standard normals go through 100
linear layers of standard normal weights, and explode; one unit with 1000 inputs comes out with a
standard deviation near sqrt(1000); weights divided by the square root of the number of inputs keep
the signal's size through all layers. Here is the same over many draws of the weights, in float32.
"""

import argparse

import numpy as np

import varprop as vp

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--trials", type=int, default=200, help="draws of all weights (default: 200)")
trials = parser.parse_args().trials

exploding = vp.mlp([100] * 101, activation="linear", weight="normal(std=1)")
one_unit = vp.mlp([1000, 1], activation="linear", weight="normal(std=1)")
scaled = vp.mlp([100] * 101, activation="linear", weight="normal(std=0.1)")

QUESTIONS = [  # title, network, rows of inputs, the document's mean and std
    ("100 layers, weights of std 1", exploding, 500, (-4.06e95, 8.42e98)),
    ("1000 inputs, 1 output, std 1", one_unit, 100, (None, 32.76)),
    ("100 layers, std 1/sqrt(100)", scaled, 500, (0.00026, 1.0215)),
]

print(f"{'':37}document     median    95% of {trials} trials")
for title, network, rows, document in QUESTIONS:
    each = vp.simulate(network, inputs=rows, trials=trials).preactivations.per_trial
    averaged = each.mean.mean(axis=1), np.sqrt(each.var.mean(axis=1))  # over the layers
    for name, theirs, ours in zip(("mean", "std"), document, averaged, strict=True):
        if theirs is not None:
            low, median, high = np.quantile(ours, (0.025, 0.5, 0.975))
            print(f"{title:30}{name:4}{theirs:11.4g}{median:11.3g}{low:11.3g} to {high:.3g}")
            title = ""
