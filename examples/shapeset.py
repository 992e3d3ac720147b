"""What Shapeset-3x2 looks like, and how often each of its nine classes comes up.

The images of Glorot and Bengio (2010), drawn without end: one or two shapes, partly hidden at
times; the class says which. ``python examples/shapeset.py --plot shapeset.png`` draws the first
nine images of every class; needs Matplotlib.
"""

import argparse

import numpy as np

import varprop as vp

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--images", type=int, default=100_000, help="to count (default: 100000)")
parser.add_argument("--size", type=int, default=32, help="of an image's side (default: 32)")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--plot", metavar="FILE", help="save a picture of nine images a class")
args = parser.parse_args()

labels, shares = [], []
for first in range(0, args.images, 10_000):
    n = min(10_000, args.images - first)
    images, found, masks = vp.datasets.shapeset(
        n, args.seed, size=args.size, masks=True, first=first
    )
    labels.append(found)
    shares.append(masks.mean(axis=(1, 2, 3)))
labels, shares = np.concatenate(labels), np.concatenate(shares)

print(f"{args.images} images of {args.size} x {args.size}, seed {args.seed}\n")
print("label   class                        frequency   expected   covered")
expected = [1 / 6] * 3 + [1 / 9] * 3 + [1 / 18] * 3
for label, name in enumerate(vp.datasets.SHAPESET_CLASSES):
    chosen = labels == label
    frequency, covered = chosen.mean(), shares[chosen].mean() if chosen.any() else np.nan
    print(f"{label:^5}   {name:26}   {frequency:9.4f}   {expected[label]:8.4f}   {covered:7.1%}")
print(
    "\ncovered: share of the pixels that lie on a shape, on average\n"
    "Who always says the most frequent class is wrong on five images of six."
)

if args.plot:
    import matplotlib.pyplot as plt

    images, labels = vp.datasets.shapeset(1000, args.seed, size=args.size)
    figure, rows = plt.subplots(9, 9, figsize=(8, 7), layout="constrained")
    for label, row in enumerate(rows):
        for axes, image in zip(row, images[labels == label], strict=False):
            axes.imshow(image, cmap="gray", vmin=-1, vmax=1)
        name = vp.datasets.SHAPESET_CLASSES[label].replace(" and ", "\nand ")
        row[0].set_ylabel(f"{label}: {name}", rotation=0, ha="right", va="center")
        for axes in row:
            axes.set(xticks=[], yticks=[])
    figure.savefig(args.plot, dpi=100)
