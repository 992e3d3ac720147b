"""Does a PyTorch transformer survive its initialization? Three of them, before any training.

A small GPT, two branches a block added to the residual stream: with PyTorch's default laws, with
GPT-2's normal(std=0.02), and with that and the projections into the stream divided by
sqrt(2 blocks). Then the audit finds the block in which somebody forgot that division.

    python examples/transformer.py [--blocks 12] [--width 256] [--trials 5] [--plot transformer.png]

Needs PyTorch: pip install ".[torch]"
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

import varprop as vp

WORDS, LENGTH = 1000, 32


class Attention(nn.Module):
    """Causal attention of four heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers around a gelu."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc, self.act, self.proj = (
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(self.act(self.fc(x)))


class Block(nn.Module):
    """Attention and two layers, each normalized first and added to the stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Words and places, blocks, a norm, and scores for the next word."""

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(WORDS, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, WORDS, bias=False)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.word(words) + self.place(torch.arange(words.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--plot", metavar="FILE")
    arguments = parser.parse_args()

    model = GPT(arguments.blocks, arguments.width)
    words = torch.randint(WORDS, (4, LENGTH), generator=torch.Generator().manual_seed(0))
    plain = {"*": "normal(std=0.02)", "*.bias": "zeros", "*norm*.weight": "ones"}
    scaled = f"normal(std={0.02 / (2 * arguments.blocks) ** 0.5:.6f})"
    laws = {
        "PyTorch's defaults": None,
        "normal(std=0.02)": plain,
        "... with projections scaled": {**plain, "*.proj.weight": scaled},
    }
    for name, init in laws.items():
        run = vp.torch.profile(
            model, words, init=init, trials=arguments.trials, loss="softmax_cross_entropy"
        )
        print(f"{name}\n{run.verdict}\n")
    if arguments.plot:
        run.plot().savefig(arguments.plot)

    declared = laws["... with projections scaled"]
    forgotten = f"blocks.{arguments.blocks // 2}.mlp.proj.weight"
    vp.torch.init_(model, {**declared, forgotten: "normal(std=0.02)"}, seed=0)
    print(vp.torch.audit(model, declared))


if __name__ == "__main__":
    main()
