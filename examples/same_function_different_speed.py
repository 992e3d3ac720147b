"""Why one function, written in three ways, trains at different speeds.

Three networks of two convolutions on images of 64 x 96 x 3, as in a question about Keras. Model 2
divides each layer's output by 3 and by 200 before its activation, model 3 divides each layer's
input, and their weights are those of model 1 times 3 and times 200: the same outputs. Trained with
Adam on binary cross-entropy, model 1 was always faster (losses of the first epochs .0280 .0111
.0110), and models 2 and 3 tracked each other (.1059 .0260 .0187 and .1057 .0260 .0187). The
comparison says by how much, for which optimizer, and what learning rates would make up for it.
"""

import argparse

import numpy as np

import varprop as vp

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--images", type=int, default=4, help="number of images (default: 4)")
parser.add_argument("--filters", type=int, default=200, help="of the first layer (default: 200)")
parser.add_argument("--plot", metavar="NAME", help="save a picture of each comparison")
args = parser.parse_args()

model1 = vp.Network(
    (64, 96, 3),
    [
        vp.Conv2d(args.filters, 3, activation="tanh", weight="glorot_uniform", bias=None),
        vp.Conv2d(1, 3, activation="sigmoid", weight="glorot_uniform", bias=None),
    ],
)
factors = {"conv1": 3.0, "conv2": 200.0}
others = {
    "model 2, outputs divided": vp.rescale(model1, factors, where="output"),
    "model 3, inputs divided": vp.rescale(model1, factors, where="input"),
}

rng = np.random.default_rng(0)
images = rng.random((args.images, 64, 96, 3))
masks = rng.random((args.images, 64, 96, 1)) > 0.9

for name, model in others.items():
    found = vp.compare(model1, model, images, targets=masks, loss="bce", eps=1e-7)
    print(f"Model 1 (a) and {name} (b)\n\n{found}\n")
    if args.plot:
        found.plot().savefig(f"{args.plot}_{name[:7].replace(' ', '')}.png", dpi=150)

print(
    "The document's outputs agreed to 1.2e-7, in float32. Its models were trained\n"
    "with Adam at one learning rate: there the first layer of models 2 and 3 learns\n"
    "3 times more slowly than that of model 1, and the second 200 times, in both\n"
    "alike. So model 1 is faster, and models 2 and 3 track each other."
)
