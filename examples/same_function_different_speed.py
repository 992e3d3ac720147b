"""Why one function, written in three ways, trains at different speeds, and what makes up for it.

Three networks of two convolutions on images of 64 x 96 x 3, as in a question about Keras. Model 2
divides each layer's output by 3 and by 200 before its activation, model 3 divides each layer's
input, and their weights are those of model 1 times 3 and times 200: the same outputs. Trained with
Adam on binary cross-entropy, model 1 was always faster, and models 2 and 3 tracked each other.

Here the comparison says by how much, for which optimizer, and what learning rates make up for it;
then PyTorch trains all three to tell Shapeset's shapes from the ground, at one learning rate and
with the multipliers of the comparison. Needs PyTorch, ``pip install "varprop[torch]"``; a few
minutes on two cores, an hour with ``--full``: the document's 200 filters and 5088 images an epoch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np

import varprop as vp

try:
    import torch
except ModuleNotFoundError:
    sys.exit('The training needs PyTorch: pip install "varprop[torch]"')

FACTORS = {"conv1": 3.0, "conv2": 200.0}
BATCH, RATE, EPS = 32, 1e-3, 1e-7  # Keras's
COMPARED = 2  # images are enough
OUTPUTS = 1.2e-7  # how far they were apart
DOCUMENT = {  # loss by epoch, as far as it was told
    "model 1": [0.0280, 0.0111, 0.0110, 0.0105],
    "model 2": [0.1059, 0.0260, 0.0187],
    "model 3": [0.1057, 0.0260, 0.0187, 0.0155],
}
MULTIPLIED = ("model 2, multiplied", "model 3, multiplied")


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images of bright shapes on dark ground, and masks of the shapes."""
    images, _, masks = vp.datasets.shapeset(n, size=(64, 96), channels=3, masks=True)
    # Half of them are dark on bright: turned, so that a patch of grey tells what it is.
    ground = np.sum(images * (1 - masks), axis=(1, 2), keepdims=True)
    return images * -np.sign(ground), masks


def networks(filters: int) -> dict[str, vp.Network]:
    model1 = vp.Network(
        (64, 96, 3),
        [
            vp.Conv2d(filters, 3, activation="tanh", weight="glorot_uniform", bias=None),
            vp.Conv2d(1, 3, activation="sigmoid", weight="glorot_uniform", bias=None),
        ],
    )
    return {
        "model 1": model1,
        "model 2": vp.rescale(model1, FACTORS, where="output"),
        "model 3": vp.rescale(model1, FACTORS, where="input"),
    }


def compare(
    nets: dict[str, vp.Network], images: np.ndarray, masks: np.ndarray
) -> dict[str, vp.Comparison]:
    """Print models 2 and 3 beside model 1, and return both comparisons."""
    found = {}
    for name, how in (("model 2", "outputs divided"), ("model 3", "inputs divided")):
        few = slice(COMPARED)
        found[name] = vp.compare(
            nets["model 1"], nets[name], images[few], targets=masks[few], loss="bce", eps=EPS
        )
        print(f"Model 1 (a) and {name}, {how} (b)\n\n{found[name]}\n")
    return found


def adam(model: torch.nn.Module, found: vp.Comparison | None = None) -> torch.optim.Adam:
    """Return Adam for a model, multiplied as a comparison prescribes if there is one."""
    groups = []
    for name, weight in model.named_parameters():
        rate = found.multipliers["adam"][name] if found else 1.0
        eps = found.eps_multipliers[name] if found else 1.0
        groups.append({"params": [weight], "lr": RATE * rate, "eps": EPS * eps})
    return torch.optim.Adam(groups)


def train(
    models: dict[str, torch.nn.Module],
    optimizers: dict[str, torch.optim.Adam],
    images: torch.Tensor,
    masks: torch.Tensor,
    epochs: int,
) -> Iterator[np.ndarray]:
    """Train all models on the same batches; yield each epoch's losses, shape (models, batches)."""
    order = np.random.default_rng(0)
    for _ in range(epochs):
        losses = []
        for chosen in np.split(order.permutation(len(images)), range(BATCH, len(images), BATCH)):
            x, y = images[chosen], masks[chosen]
            for name, model in models.items():
                optimizers[name].zero_grad()
                loss = torch.nn.functional.binary_cross_entropy(model(x), y)
                loss.backward()
                optimizers[name].step()
                losses.append(loss.item())
        yield np.reshape(losses, (-1, len(models))).T


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest relative difference between losses."""
    return float(np.max(np.abs(other / one - 1)))


def conclude(losses: dict[str, np.ndarray], outputs: float) -> None:
    """Print with what of the document the training agrees, and with what not."""
    one, two, three, *multiplied = losses.values()
    means = [each.mean(axis=1) for each in (one, two, three)]
    slower = min(float(np.min(other / means[0])) for other in means[1:])
    tracking = apart(two, three)
    told_one, told_two, told_three = map(np.array, DOCUMENT.values())
    told_slower = float(np.min(told_two / told_one[:3]))
    told_tracking = apart(told_two, told_three[:3])
    coincide = max(apart(one, other) for other in multiplied)

    print(f"\n{'here':>60}{'document':>10}  agrees")
    for words, here, told, agrees in (
        ("outputs before training, largest difference", outputs, OUTPUTS, outputs < 1e-6),
        ("losses of models 2 and 3, largest difference", tracking, told_tracking, tracking < 0.002),
        ("an epoch's loss over that of model 1, at least", slower, told_slower, slower > 1),
    ):
        print(f"{words:50}{here:>10.3g}{told:>10.3g}  {'yes' if agrees else 'NO'}")
    ratios = [
        here / there
        for each, told in zip(means, DOCUMENT.values(), strict=True)
        for here, there in zip(each, told, strict=False)
    ]
    print(
        f"\nThe losses are {min(ratios):.2f} to {max(ratios):.2f} times those of the document, "
        "whose images\nwere others.\n\n"
        "With the rates and eps that the comparison says to multiply, the losses of\n"
        f"models 2 and 3 differ from those of model 1 by at most {coincide:.1e} of them in\n"
        f"any of {one.size} steps ({'' if coincide < 0.01 else 'NOT '}within 1%)."
    )


def picture(losses: dict[str, np.ndarray], path: str) -> None:
    """Draw the losses of all batches, with one learning rate and multiplied."""
    from matplotlib.figure import Figure

    figure = Figure((9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("one learning rate", "learning rates and eps multiplied as vp.compare says")
    shown = (("model 1", "model 2", "model 3"), ("model 1", *MULTIPLIED))
    styles = (("C0", "-", 5), ("C1", "-", 2.5), ("k", ":", 1.2))
    for axes, title, names in zip(panels, titles, shown, strict=True):
        for name, (colour, line, width) in zip(names, styles, strict=True):
            each = losses[name].ravel()
            steps = np.arange(1, each.size + 1)
            axes.plot(steps, each, line, color=colour, linewidth=width, label=name)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel(f"steps of {BATCH} images")
        axes.legend(frameon=False)
    panels[0].set_ylabel("binary cross-entropy of the batch")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024, help="an epoch (default: 1024)")
    parser.add_argument("--filters", type=int, default=50, help="of the first layer (default: 50)")
    parser.add_argument("--epochs", type=int, default=4, help="(default: 4)")
    parser.add_argument("--full", action="store_true", help="200 filters and 5088 images")
    parser.add_argument("--quick", action="store_true", help="8 filters and 64 images")
    parser.add_argument("--plot", metavar="NAME", help="save pictures: NAME_losses.png and others")
    args = parser.parse_args()
    if args.full:
        args.filters, args.images = 200, 5088
    if args.quick:
        args.filters, args.images = 8, 64

    images, masks = data(args.images)
    nets = networks(args.filters)
    found = compare(nets, images, masks)
    if args.plot:
        for name, comparison in found.items():
            comparison.plot().savefig(f"{args.plot}_{name.replace(' ', '')}.png", dpi=120)

    models = {name: vp.torch.to_module(net) for name, net in nets.items()}
    optimizers = {name: adam(model) for name, model in models.items()}
    for name in MULTIPLIED:
        models[name] = vp.torch.to_module(nets[name[:7]])
        optimizers[name] = adam(models[name], found[name[:7]])

    # PyTorch has channels before places.
    images, masks = (torch.from_numpy(part).permute(0, 3, 1, 2) for part in (images, masks))
    with torch.no_grad():
        before = [model(images[:BATCH]) for model in models.values()]
    outputs = max(float((one - before[0]).abs().max()) for one in before)

    print(
        f"Trained in PyTorch, {args.filters} filters, {args.images} images an epoch, batches of "
        f"{BATCH}; loss by epoch\n\n"
        f"{'Adam, one learning rate':>32}{'multiplied':>19}{'the document':>28}\n"
        "epoch  model 1  model 2  model 3   model 2  model 3   model 1  model 2  model 3"
    )
    epochs = []
    for losses in train(models, optimizers, images, masks, args.epochs):
        cells = [f"{loss:9.4f}" for loss in losses.mean(axis=1)]
        for told in DOCUMENT.values():
            cells.append(f"{told[len(epochs)]:9.4f}" if len(epochs) < len(told) else f"{'-':>9}")
        epochs.append(losses)
        print(f"{len(epochs):5}", *("".join(cells[i:j]) for i, j in ((0, 3), (3, 5), (5, 8))))
    losses = dict(zip(models, np.array(epochs).swapaxes(0, 1), strict=True))
    conclude(losses, outputs)
    if args.plot:
        picture(losses, f"{args.plot}_losses.png")


if __name__ == "__main__":
    main()
