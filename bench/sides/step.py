"""Both ways through 5 layers of 1000 tanh, batch 300.

Taken are mean and variance of every layer's pre-activations, activations, gradients, weight and
bias gradients, and of the input's gradients.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from sides import Job, torch_on

ROWS, WIDTH, DEPTH = 300, 1000, 5
BOUND = WIDTH**-0.5


def varprop(threads: int) -> Job:
    import varprop as vp

    net = vp.mlp([WIDTH] * (DEPTH + 1), "tanh", weight="torch_linear")
    seeds = count()
    return lambda: vp.simulate(
        net, ROWS, trials=1, seed=next(seeds), backward=True, threads=threads
    )


def torch_lean(threads: int) -> Job:
    """Take the step by hand, into tensors that are there already: faster than autograd."""
    torch = torch_on(threads)
    x = [torch.empty(ROWS, WIDTH) for _ in range(DEPTH + 1)]
    w = [torch.empty(WIDTH, WIDTH) for _ in range(DEPTH)]
    y, delta, product = (torch.empty(ROWS, WIDTH) for _ in range(3))
    by_weight = torch.empty(WIDTH, WIDTH)

    def job() -> object:
        seen = []
        x[0].normal_()
        for layer in range(DEPTH):
            w[layer].uniform_(-BOUND, BOUND)
            torch.mm(x[layer], w[layer], out=y)
            torch.tanh(y, out=x[layer + 1])
            seen += [torch.var_mean(y), torch.var_mean(x[layer + 1])]
        product.normal_()
        for layer in reversed(range(DEPTH)):
            torch.addcmul(product, product * x[layer + 1], x[layer + 1], value=-1, out=delta)
            torch.mm(x[layer].T, delta, out=by_weight)
            bias = delta.sum(0)
            seen += [torch.var_mean(delta), torch.var_mean(by_weight), torch.var_mean(bias)]
            torch.mm(delta, w[layer].T, out=product)
        return [*seen, torch.var_mean(product)]

    def without_gradients() -> object:
        with torch.no_grad():
            return job()

    return without_gradients


def torch_hooks(threads: int) -> Job:
    """Take the step as one would watch a model that is there: autograd, hooks, gradients kept."""
    torch = torch_on(threads)
    nn = torch.nn
    net = nn.Sequential(
        *(part for _ in range(DEPTH) for part in (nn.Linear(WIDTH, WIDTH), nn.Tanh()))
    )
    seen: list[Any] = []

    def forward(_module: Any, _inputs: Any, output: Any) -> None:
        seen.append(torch.var_mean(output.detach()))

    def backward(_module: Any, _by_input: Any, by_output: Any) -> None:
        seen.append(torch.var_mean(by_output[0]))

    for module in net:
        module.register_forward_hook(forward)
        if isinstance(module, nn.Linear):
            module.register_full_backward_hook(backward)
            nn.init.zeros_(module.bias)

    def job() -> object:
        seen.clear()
        for module in net[::2]:
            nn.init.uniform_(module.weight, -BOUND, BOUND)
        x = torch.randn(ROWS, WIDTH, requires_grad=True)
        y = net(x)
        net.zero_grad()
        y.backward(torch.randn_like(y))
        gradients = [x.grad, *(parameter.grad for parameter in net.parameters())]
        return [*seen, *map(torch.var_mean, gradients)]

    return job
