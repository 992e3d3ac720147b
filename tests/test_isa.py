"""The core's tests, run again on every instruction set; what VARPROP_ISA may be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from varprop import _core

HERE = Path(__file__).parent
SUBJECTS = ("weights", "weights_layouts", "activations", "simulate", "backward", "moments")
# Too slow without a fused multiply-add, or no matter of it.
SLOW = ("interrupt", "digits", "of_the_seed", "progress", "linear", "cover", "thousand")
SLOW += ("added", "threads")

# Prints a digest of weights and simulations: one for all instruction sets and threads.
DIGEST = """
import hashlib, sys
sys.path.insert(0, sys.argv[2])
import networks, varprop as vp
from varprop import activations
digest = hashlib.sha256()
for dtype in ("float32", "float64"):
    for init in ("normal", "uniform", "he_normal", "truncated_normal(low=-1, high=3)"):
        for shape in ((37, 53), (100, 100), (1001, 3), (5, 300), (999, )):
            if len(shape) > 1 or init != "he_normal":
                digest.update(vp.weights(shape, init, seed=3, dtype=dtype).tobytes())
    for activation in activations.NAMES:
        net = vp.mlp([64, 200, 130, 10], activation, "glorot_uniform", "normal(std=0.1)")
        loss = {"sigmoid": "bce", "linear": "mse"}.get(activation, "softmax_cross_entropy")
        run = vp.simulate(net, 133, trials=3, dtype=dtype, backward=True, loss=loss,
                          statistics=("kurtosis", "extremes", "histogram", "saturation",
                                      "correlation", "gradient_correlation"),
                          threads=int(sys.argv[1]))
        digest.update(b"".join(networks.flat(run)))
    for name in networks.NETWORKS:
        # 27 rows: groups and chunks of them that are whole, and others that are not.
        run = vp.simulate(networks.network(name), 27, trials=2, dtype=dtype, backward=True,
                          statistics=("extremes", *networks.STATISTICS), threads=int(sys.argv[1]))
        digest.update(b"".join(networks.flat(run)))
    for rows, width in ((1, 1500), (27, 300), (80, 40)):
        law = "normal(std=0.1)"
        inside = [vp.LayerNorm(), vp.Dense(width, "tanh", law, law), vp.Dense(width, "linear", law)]
        ends = [vp.Dense(width, "relu", law), vp.Dense(9, "linear", law)]
        net = vp.Network(64, [ends[0], vp.Residual(inside), ends[1]])
        run = vp.simulate(net, rows, trials=2, dtype=dtype, backward=True, method="implicit",
                          statistics="kurtosis", threads=int(sys.argv[1]))
        digest.update(b"".join(networks.flat(run)))
print(vp._core.active_isa(), digest.hexdigest())
"""


def python(*arguments, isa):
    environment = {**os.environ, "VARPROP_ISA": isa}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_every_instruction_set_gives_the_same_bits():
    digests = set()
    for isa in _core.supported_isas():
        for threads in (1, 2):
            active, digest = python("-c", DIGEST, str(threads), str(HERE), isa=isa).stdout.split()
            assert active == isa
            digests.add(digest)
    assert len(digests) == 1


@pytest.mark.parametrize("isa", [i for i in _core.supported_isas() if i != _core.active_isa()])
def test_the_tests_of_the_core_pass(isa):
    files = [str(HERE / f"test_{subject}.py") for subject in SUBJECTS]
    options = ["-q", "-p", "no:cacheprovider", "-k", f"not ({' or '.join(SLOW)})"]
    run = python("-m", "pytest", *options, *files, isa=isa)
    assert run.returncode == 0, run.stdout[-3000:]


def test_unknown_instruction_set_is_an_error_at_first_use():
    use = "import varprop as vp; print('imported'); vp.weights((3, 3))"
    run = python("-c", use, isa="sse9")
    assert run.stdout == "imported\n"
    assert "ValueError: VARPROP_ISA must be one of" in run.stderr
    assert "got 'sse9'" in run.stderr
