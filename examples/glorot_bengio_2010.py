"""Why deep sigmoid and tanh networks trained badly, and what their initialization does to that.

The networks of Glorot and Bengio (2010): up to five hidden layers of 1000 units and a softmax, by
stochastic gradient descent in batches of ten; with the initialization that was standard, uniform on
+-1/sqrt(fan_in), and with their normalized one (N), uniform on +-sqrt(6 / (fan_in + fan_out)). A
Monitor watches 300 held-out examples: what their figures 2, 3 and 6 to 9 show. Then test errors
stand beside those of their table 1, which are of far longer trainings.

Images are Shapeset-3x2, each seen once, or scikit-learn's digits (``--data digits``), or an .npz
with the arrays images and labels (``--data FILE.npz``): MNIST, CIFAR-10, your own. Needs PyTorch,
``pip install "varprop[torch]"``, and SciPy; four minutes on one core, or twenty with ``--full``:
20,000 updates, one epoch of the paper, whose trainings took many.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import varprop as vp
from varprop.theory import propagate

try:
    import torch
except ModuleNotFoundError:
    sys.exit('The training needs PyTorch: pip install "varprop[torch]"')

BATCH, HELD_OUT = 10, 300
LAWS = {"": "torch_linear", " N": "glorot_uniform"}
SETTINGS = ("softsign", "softsign N", "tanh", "tanh N", "sigmoid")
TABLE_1 = {  # test errors in percent, in the order of SETTINGS
    "Shapeset": (16.27, 16.06, 27.15, 15.60, 82.61),
    "MNIST": (1.64, 1.72, 1.76, 1.64, 2.21),
    "CIFAR-10": (55.78, 53.8, 55.9, 52.92, 57.28),
}
LEARNING = 82.0  # percent of errors, of Shapeset; the commonest class alone has 83.3
OTHERS_SEED = 2**32  # of the images that are not trained on
LINEAR = 8 / (3 * np.pi)  # mean singular value of a square layer whose fan_in Var(W) is 1


class Data(NamedTuple):
    """Images to train on, None where they are drawn, and images to test with."""

    train: tuple[np.ndarray, np.ndarray] | None
    test: tuple[np.ndarray, np.ndarray]
    beside: str | None  # the column of table 1

    @property
    def classes(self) -> int:
        parts = [part[1] for part in (self.train, self.test) if part is not None]
        return 1 + int(np.concatenate(parts).max())

    @property
    def held_out(self) -> np.ndarray:
        return self.test[0][:HELD_OUT]

    def batches(self, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield batch after batch, without end."""
        for images, labels in self._stretches(seed):
            rows = torch.from_numpy(flat(images)), torch.from_numpy(labels.astype(np.int64))
            whole = len(labels) // BATCH * BATCH
            yield from zip(*(part[:whole].split(BATCH) for part in rows), strict=True)

    def _stretches(self, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if self.train is None:
            yield from vp.datasets.shapeset_stream(100 * BATCH, seed)
        else:
            order = np.random.default_rng(seed)
            while True:
                chosen = order.permutation(len(self.train[1]))
                yield self.train[0][chosen], self.train[1][chosen]


def flat(images: np.ndarray) -> np.ndarray:
    return np.reshape(images, (len(images), -1)).astype(np.float32)


def data(name: str, tests: int) -> Data:
    """Return the images that the user names."""
    if name == "shapeset":
        images, labels = vp.datasets.shapeset(tests, OTHERS_SEED)
        return Data(None, (flat(images), labels), "Shapeset")
    if name == "digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
    else:
        try:
            with np.load(name) as arrays:
                images, labels = flat(arrays["images"]), arrays["labels"].ravel()
        except (OSError, KeyError, ValueError, AttributeError, TypeError):
            sys.exit(f"--data must name an .npz with arrays images and labels, got {name!r}")
    # One shift and one scale for all pixels.
    images = (images - images.mean()) / images.std()
    order = np.random.default_rng(OTHERS_SEED).permutation(len(labels))
    images, labels = flat(images[order]), labels[order]
    tests = min(tests, len(labels) // 4)
    beside = {64: "MNIST", 784: "MNIST", 3072: "CIFAR-10"}.get(images.shape[1])
    rest = slice(tests, None)
    return Data((images[rest], labels[rest]), (images[:tests], labels[:tests]), beside)


class Training(NamedTuple):
    """One network, trained under watch."""

    net: vp.Network
    monitor: vp.torch.Monitor
    steps: list[int]
    errors: list[float]  # in percent, after these steps


def error(model: torch.nn.Module, test: tuple[np.ndarray, np.ndarray]) -> float:
    with torch.no_grad():
        parts = [model(rows).argmax(1) for rows in torch.from_numpy(test[0]).split(1000)]
    return float(100 * np.mean(torch.cat(parts).numpy() != test[1]))


def train(setting: str, seed: int, images: Data, args: argparse.Namespace) -> Training:
    """Train a network from its initialization."""
    activation = setting.removesuffix(" N")
    depth = args.sigmoid_depth if activation == "sigmoid" else args.depth
    net = vp.mlp(
        [images.test[0].shape[1], *[args.units] * depth, images.classes],
        activation,
        weight=LAWS[setting.removeprefix(activation)],
        output_activation="linear",  # the loss has the softmax
    )
    model = vp.torch.to_module(net, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.rate)
    watch = vp.torch.Monitor(model, max(10, args.updates // 50), on=images.held_out)
    done = Training(net, watch, [], [])
    looks = set(np.linspace(0, args.updates, 11, dtype=int).tolist())
    few = tuple(part[:2000] for part in images.test)
    with watch:
        for step, (x, y) in enumerate(images.batches(seed)):
            if step in looks:
                done.steps.append(step)
                done.errors.append(error(model, images.test if step == args.updates else few))
            if step == args.updates:
                break
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            watch.log(loss=loss)
    return done


def theory(net: vp.Network, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return stds of activations at infinite width, and of gradients over the top hidden layer's.

    Rows differ in length: moments are means over them.
    """
    squares = np.quantile(np.mean(rows.astype(float) ** 2, axis=1), (np.arange(20) + 0.5) / 20)
    found = [propagate(net, q, None) for q in squares]
    mean = np.mean([one.activations.mean for one in found], axis=0)
    square = np.mean([one.activations.second_moment for one in found], axis=0)
    gradients = np.array([one.gradients.second_moment for one in found])
    back = np.mean(gradients / gradients[:, -2:-1], axis=0)
    return np.sqrt(square - mean**2)[:-1], np.sqrt(back)[:-1]


def hidden(monitor: vp.torch.Monitor, signal: str, field: str) -> np.ndarray:
    """Return a statistic of all hidden layers, shape (records, layers)."""
    found = getattr(monitor, signal)
    # What leaves a layer leaves its activation function; gradients are by what enters that.
    names = monitor.hidden if signal == "activations" else [n.split("_")[0] for n in monitor.hidden]
    return np.stack([getattr(found, field)[:, found.of(name)] for name in names], axis=1)


def at_initialization(setting: str, trained: list[Training], images: Data) -> None:
    """Print what record 0 holds, beside infinite width, and the Jacobians' singular values."""
    net = trained[0].net
    stds = [
        np.sqrt(np.mean([hidden(t.monitor, signal, "std")[0] ** 2 for t in trained], axis=0))
        for signal in ("activations", "gradients", "weight_gradients")
    ]
    activations, back = theory(net, images.held_out)
    values = vp.jacobian(net, images.held_out[:1], layers="all").singular_values
    print(
        f"{setting:12}{'activations':>13}{'gradients':>22}{'weight':>13}{'Jacobian':>13}\n"
        f"layer{'std':>11}{'theory':>9}{'std':>11}{'theory':>11}{'gradients':>13}{'mean s.v.':>13}"
    )
    for i, (h, g, w) in enumerate(zip(*stds, strict=True)):
        print(
            f"{i + 1:5}{h:11.4f}{activations[i]:9.4f}{g:11.2e}{stds[1][-1] * back[i]:11.2e}"
            f"{w:13.2e}{values[net.layer_names[i]].mean():13.4f}"
        )
    print()


def table(trained: dict[str, list[Training]], images: Data, args: argparse.Namespace) -> None:
    """Print test errors beside those of table 1."""
    told = TABLE_1.get(images.beside or "")
    print(
        f"Test errors in percent after N = {args.updates} updates of {BATCH} examples at rate "
        f"{args.rate:g}, {len(images.test[1])}\ntests: mean and standard deviation over seeds "
        f"({args.seeds}). Table 1 is of far longer\ntrainings on "
        f"{images.beside or 'other images'}, with learning rates chosen by validation\n\n"
        f"{'':12}{'layers':>8}{'here':>9}{'+-':>7}{'table 1':>10}"
    )
    for i, (setting, several) in enumerate(trained.items()):
        last = [one.errors[-1] for one in several]
        spread = f"{np.std(last, ddof=1):.2f}" if len(last) > 1 else "-"
        print(
            f"{setting:12}{len(several[0].net.layer_names) - 1:8}{np.mean(last):9.2f}"
            f"{spread:>7}{f'{told[i]:.2f}' if told else '-':>10}"
        )
    print()


def during_training(trained: dict[str, list[Training]]) -> None:
    """Print what figures 2, 3 and 9 show, by layer."""
    watches = {setting: several[0].monitor for setting, several in trained.items()}
    rows = [("sigmoid, mean activation", "sigmoid", "activations", "mean")]
    for setting in ("tanh", "tanh N"):
        rows.append((f"{setting}, 98th percentile", setting, "activations", "p98"))
        rows.append((f"{setting}, weight gradients", setting, "weight_gradients", "std"))
    print("In training, by hidden layer, of the first seed\n")
    for words, setting, signal, field in rows:
        found, steps = hidden(watches[setting], signal, field), watches[setting].steps
        print(words)
        for i in sorted({0, len(steps) // 10, len(steps) // 2, len(steps) - 2}):
            cells = "".join(f"{x:10.2e}" if field == "std" else f"{x:9.3f}" for x in found[i])
            print(f"{steps[i]:>10} updates{cells}")
    print()


def conclude(trained: dict[str, list[Training]]) -> None:
    """Print with what of the paper these runs agree, and with what not."""
    errors = {s: np.array([one.errors[-1] for one in several]) for s, several in trained.items()}
    mean = {setting: several.mean() for setting, several in errors.items()}
    wins = errors["tanh N"] < errors["tanh"]
    soft, tanh = (mean[s] - mean[f"{s} N"] for s in ("softsign", "tanh"))

    def ends(setting: str, signal: str) -> float:
        """Return the last layer's std over the first's, by layer, at initialization."""
        std = hidden(trained[setting][0].monitor, signal, "std")[0]
        return float((std[-1] / std[0]) ** (1 / max(1, len(std) - 1)))

    forth = [ends(s, "activations") for s in ("tanh", "tanh N")]
    back = [1 / ends(s, "gradients") for s in ("tanh", "tanh N")]
    weights = hidden(trained["tanh"][0].monitor, "weight_gradients", "std")[0]
    apart = weights.max() / weights.min()
    means = np.array([hidden(one.monitor, "activations", "mean") for one in trained["sigmoid"]])
    top, others = means[..., -1].max(axis=0), means[..., :-1].min(initial=1)
    fallen = top < 0.25
    steps = trained["sigmoid"][0].monitor.steps
    when = f"halves in {steps[fallen.argmax()]} updates" if fallen.any() else "does not halve"
    claims = [
        (f"activations, a layer: x {forth[0]:.2f}; N x {forth[1]:.2f}", forth[0] < 0.7 < forth[1]),
        (f"gradients, going back: x {back[0]:.2f}; N x {back[1]:.2f}", back[0] < 0.7 < back[1]),
        (f"standard weight gradients are alike at first, within x {apart:.2f}", apart < 2),
        (f"tanh: N beats standard in {wins.sum()} of {wins.size} seeds", wins.all()),
        (f"N takes more from tanh's error ({tanh:.1f}) than softsign's ({soft:.1f})", tanh > soft),
        ("sigmoid has the largest error", mean["sigmoid"] == max(mean.values())),
        (f"sigmoid: the top layer's mean {when}, ends at {top[-1]:.2f}", fallen.any()),
        (f"sigmoid: the other layers' never fall under {others:.2f}", others > 0.4),
    ]
    print(f"{'With the paper (tanh, where it is not said)':70}agrees")
    for words, agrees in claims:
        print(f"{words:70}{'yes' if agrees else 'NO'}")
    if min(mean.values()) > LEARNING:
        print(
            "\nNo network has begun to learn: what is said of errors and of training needs more\n"
            "updates."
        )


def picture(trained: dict[str, list[Training]], path: str) -> None:
    """Draw test errors and what the hidden layers do meanwhile."""
    from matplotlib.figure import Figure

    figure = Figure((9, 6.5), layout="constrained")
    errors, *watched = figure.subplots(2, 2).flat
    for i, (setting, several) in enumerate(trained.items()):
        curves = np.array([one.errors for one in several])
        style = "--" if setting.endswith(" N") else "-"
        errors.plot(several[0].steps, curves.mean(axis=0), style, color=f"C{i // 2}", label=setting)
    errors.set(ylabel="test error in percent", xlabel="updates")
    errors.legend(frameon=False)
    for axes, setting in zip(watched, ("sigmoid", "tanh", "tanh N"), strict=True):
        field, words = ("mean", "mean") if setting == "sigmoid" else ("p98", "98th percentile")
        monitor = trained[setting][0].monitor
        for i, curve in enumerate(hidden(monitor, "activations", field).T, start=1):
            axes.plot(monitor.steps, curve, color=f"C{i - 1}", label=f"hidden layer {i}")
        axes.set(title=f"{setting}: {words} of activations", xlabel="updates", ylim=(0, 1))
    watched[0].legend(frameon=False)
    for axes in figure.axes:
        axes.locator_params(axis="x", nbins=5)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="shapeset", help="shapeset, digits or FILE.npz")
    parser.add_argument("--depth", type=int, default=5, help="hidden layers (default: 5)")
    parser.add_argument("--sigmoid-depth", type=int, default=4, help="(default: 4)")
    parser.add_argument("--units", type=int, default=1000, help="of a layer (default: 1000)")
    parser.add_argument("--updates", type=int, default=4000, help="of the weights (default: 4000)")
    parser.add_argument("--rate", type=float, default=0.1, help="of learning (default: 0.1)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each (default: 1)")
    parser.add_argument("--full", action="store_true", help="20,000 updates, an epoch of the paper")
    parser.add_argument("--quick", action="store_true", help="100 units and 100 updates")
    parser.add_argument("--plot", metavar="NAME", help="save NAME_training.png and others")
    args = parser.parse_args()
    if args.full:
        args.updates = 20_000
    if args.quick:
        args.units, args.updates = 100, 100

    torch.set_num_threads(1)  # batches of ten: a second one would mostly wait
    images = data(args.data, 1000 if args.quick else 10_000)
    trained = {
        setting: [train(setting, seed, images, args) for seed in range(args.seeds)]
        for setting in SETTINGS
    }
    print(
        f"At initialization, {args.units} units: standard deviations over {HELD_OUT} held-out "
        "examples,\nof gradients over the first batch, beside those of infinite width, where the\n"
        "top hidden layer's gradient is taken from here; mean singular values of the\n"
        f"layers' Jacobians at one example, which are {LINEAR:.4f} in square linear layers\n"
        f"normalized (N), {LINEAR / np.sqrt(3):.4f} standard\n"
    )
    for setting, several in trained.items():
        at_initialization(setting, several, images)
    table(trained, images, args)
    during_training(trained)
    conclude(trained)
    if args.plot:
        picture(trained, f"{args.plot}_training.png")
        for setting in ("tanh", "tanh N", "sigmoid"):
            monitor = trained[setting][0].monitor
            name = f"{args.plot}_{setting.replace(' ', '')}"
            monitor.plot().savefig(f"{name}.png", dpi=120)
            steps = [0, int(monitor.steps[-1])]
            monitor.plot("histograms", steps=steps).savefig(f"{name}_histograms.png", dpi=120)


if __name__ == "__main__":
    main()
