"""How wide is infinitely wide? Draws of ReLU chains of up to a million units a layer.

Infinite width keeps the mean square of a ReLU chain with He's weights the same in all layers, in
every draw. Here the draws' own spread over the depth is set beside the exact law of finite chains
(varprop.theory.finite), for widths whose matrices no machine holds: a million units a layer would
be 4 TB of weights a layer. Implicit weights (``method="implicit"``) draw what the matrices do.
Needs SciPy.
"""

import argparse
import math
import time

import numpy as np

import varprop as vp
from varprop.theory import finite

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--widest", type=int, default=1_000_000, help="units (default: a million)")
parser.add_argument("--depth", type=int, default=50, help="layers (default: 50)")
parser.add_argument("--trials", type=int, default=50, help="draws of all weights (default: 50)")
args = parser.parse_args()

print(f"{args.depth} ReLU layers, He's weights, one input and back, {args.trials} draws:")
print("standard deviation over draws of log10 of a mean square\n")
print(f"{'activations':>27}{'gradients':>18}")
print(f"{'width':>10}{'exact':>12}{'simulated':>12}{'simulated':>12}{'seconds':>10}")
widths = [10**power for power in range(2, 7) if 10**power < args.widest]
for width in (*widths, args.widest):
    sizes = [width] * (args.depth + 1)
    net = vp.mlp(sizes, "relu", "kaiming_normal", None)
    law = finite.relu(sizes, math.sqrt(2))
    start = time.perf_counter()
    run = vp.simulate(net, 1, trials=args.trials, backward=True, method="implicit")
    seconds = time.perf_counter() - start
    exact = math.sqrt(law.var_log[-1]) / math.log(10)
    # An input that is drawn has a mean square of its own, which is no matter of the weights.
    entered = np.log10([np.mean(np.square(run.inputs(t))) for t in range(args.trials)])
    forward = run.activations.per_trial.log10_second_moment[:, -1] - entered
    back = run.gradients.per_trial.log10_second_moment[:, 0]
    print(f"{width:>10}{exact:>12.5f}{forward.std(ddof=1):>12.5f}", end="")
    print(f"{back.std(ddof=1):>12.5f}{seconds:>10.2f}")
print(
    "\nA factor of 100 in width takes one of 10 off the spread, which goes with the\n"
    "root of depth / width; where that is small, the width is as good as infinite."
)
