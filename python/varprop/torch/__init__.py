"""PyTorch's modules: filled reproducibly, converted, profiled and audited.

Needs PyTorch: ``pip install "varprop[torch]"``.
"""

from varprop._extras import require

require("torch", "torch")

from varprop.torch import init  # noqa: E402
from varprop.torch._initialize import fill_, init_, reset_parameters  # noqa: E402

__all__ = ["fill_", "init", "init_", "reset_parameters"]
