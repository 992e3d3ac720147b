"""Images of 64 x 96 x 3 through two convolutions, to 200 channels and to one: the second document.

We draw the images and the weights and take mean and variance of every layer, too; the peer draws
its weights.
"""

from __future__ import annotations

from itertools import count

from sides import Job, Side, torch_on

IMAGES, HEIGHT, WIDTH, CHANNELS, FILTERS = 8, 64, 96, 3, 200


def varprop(activations: tuple[str, str]) -> Side:
    def side(threads: int) -> Job:
        import varprop as vp

        first, second = activations
        layers = [
            vp.Conv2d(FILTERS, 3, activation=first, weight="lecun_normal", bias=None),
            vp.Conv2d(1, 3, activation=second, weight="lecun_normal", bias=None),
        ]
        net = vp.Network((HEIGHT, WIDTH, CHANNELS), layers)
        seeds = count()
        return lambda: vp.simulate(net, IMAGES, trials=1, seed=next(seeds), threads=threads)

    return side


def torch(activations: tuple[str, str], *, channels_last: bool) -> Side:
    """Return the side of conv2d, with the memory format that it is given."""

    def side(threads: int) -> Job:
        torch = torch_on(threads)
        memory = torch.channels_last if channels_last else torch.contiguous_format
        x = torch.randn(IMAGES, CHANNELS, HEIGHT, WIDTH).contiguous(memory_format=memory)
        functions = [None if name == "linear" else getattr(torch, name) for name in activations]

        def job() -> object:
            y = x
            with torch.no_grad():
                for channels, function in zip((FILTERS, 1), functions, strict=True):
                    fan_in = 9 * y.shape[1]
                    w = torch.empty(channels, y.shape[1], 3, 3).normal_(0.0, fan_in**-0.5)
                    w = w.contiguous(memory_format=memory)
                    y = torch.nn.functional.conv2d(y, w, padding=1)
                    y = y if function is None else function(y)
            return y

        return job

    return side
