"""Simulations of wide networks beside theory, for every activation, there and back.

``python bench/theory.py`` takes some minutes. For each activation it prints the standard error of
the mean squares, and of all layers' z the root mean square and the largest: against infinite width
alone, and with the first order in 1/width, which is what Run.theory has. Where theory holds, root
mean squares are near 1 (layers go together, so that they vary), and the largest z is under 4.
"""

import argparse
import math
import time

import numpy as np

import varprop as vp
from varprop import theory

SIGNALS = ("preactivations", "activations", "gradients")
SIGMA_B = 0.1

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--width", type=int, default=2000, help="(default: 2000)")
parser.add_argument("--depth", type=int, default=10, help="(default: 10)")
parser.add_argument("--batch", type=int, default=10, help="(default: 10)")
parser.add_argument("--trials", type=int, default=100, help="(default: 100)")
parser.add_argument("activations", nargs="*", default=vp.activations.NAMES)
args = parser.parse_args()


def chain(name):
    """Return a network whose pre-activations stay at a mean square of 1, or of less."""
    phi = vp.activations.resolve(name)
    size = theory.expectation(lambda u: phi.value(u) ** 2, 1.0).value
    sigma_w = math.sqrt((1.0 - SIGMA_B**2) / size)
    if name == "squared_relu":  # where a mean square of 1 does not hold itself
        sigma_w *= 0.7
    weight, bias = vp.Normal(sigma_w / math.sqrt(args.width)), vp.Normal(SIGMA_B)
    return vp.mlp([args.width] * (args.depth + 1), name, weight, bias)


print(f"width {args.width}, depth {args.depth}, {args.trials} draws of {args.batch} inputs\n")
print(f"{'':14}{'forward':^31}{'backward':^31}")
print(f"{'':14}" + 2 * f"{'error':>7}{'z infinite':>11}{'z':>11}  " + "agrees")
print(f"{'activation':14}" + 2 * f"{'':7}{'rms':>5}{'max':>6}{'rms':>5}{'max':>6}  ")
agreed, start = 0, time.perf_counter()
for seed, name in enumerate(args.activations):  # else all would have the same draws
    net = chain(name)
    run = vp.simulate(net, args.batch, trials=args.trials, seed=seed, backward=True)
    beside, cells = run.theory(), []
    for signals in (SIGNALS[:2], SIGNALS[2:]):
        alone, errors = [], []
        for signal in signals:
            squares = getattr(run, signal).per_trial.second_moment
            limit = getattr(beside.propagation, signal).second_moment
            error = squares.std(axis=0, ddof=1) / math.sqrt(args.trials)
            alone.append((squares.mean(axis=0) - limit) / error)
            errors.append(error / limit)
        z = [np.concatenate(alone), np.concatenate([getattr(beside, s).z for s in signals])]
        cells.append(f"{np.median(errors):7.2%}")
        cells += [f"{np.sqrt(np.mean(one**2)):5.1f}{max(one, key=abs):6.1f}" for one in z]
        cells.append("  ")
    agreed += beside.agrees
    print(f"{name:14}{''.join(cells)}{'yes' if beside.agrees else 'NO'}", flush=True)
print(f"\n{agreed} of {len(args.activations)} agree; {time.perf_counter() - start:.0f} s")
