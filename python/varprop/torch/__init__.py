"""PyTorch's modules: filled reproducibly, converted, profiled and audited.

Needs PyTorch: ``pip install "varprop[torch]"``.
"""

from varprop._extras import require

require("torch", "torch")

from varprop.torch import init  # noqa: E402
from varprop.torch._audit.audit import Audit, audit  # noqa: E402
from varprop.torch._convert.from_module import from_module  # noqa: E402
from varprop.torch._convert.to_module import to_module  # noqa: E402
from varprop.torch._initialize import fill_, init_, reset_parameters  # noqa: E402
from varprop.torch._profile.profile import profile  # noqa: E402

__all__ = [
    "Audit",
    "audit",
    "fill_",
    "from_module",
    "init",
    "init_",
    "profile",
    "reset_parameters",
    "to_module",
]
