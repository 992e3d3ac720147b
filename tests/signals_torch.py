"""Signals of PyTorch's modules beside ours, for tests: axes, and what every module gives."""

from __future__ import annotations

import numpy as np
import torch


def ours(x):
    """Return a signal of torch's with the channels last."""
    return x.detach().movedim(1, -1).numpy()


def theirs(x, dtype=torch.float64):
    """Return a signal of ours with the channels first."""
    return torch.tensor(np.asarray(x), dtype=dtype).movedim(-1, 1).contiguous()


def seen(module, x):
    """Call a module, and return the outputs of its parts by name, with their gradients kept."""
    outputs = {}

    def hook(name):
        def keep(_module, _inputs, output):
            output.retain_grad()
            outputs[name] = output

        return keep

    hooks = [part.register_forward_hook(hook(name)) for name, part in module.named_modules()]
    out = module(x.requires_grad_())
    for one in hooks:
        one.remove()
    return out, outputs
