"""PyTorch's modules: filled reproducibly, converted, profiled, audited and watched.

Needs PyTorch: ``pip install "varprop[torch]"``.
"""

from varprop._extras import require

require("torch", "torch")

from varprop.torch import init  # noqa: E402
from varprop.torch._audit.audit import Audit, audit  # noqa: E402
from varprop.torch._convert.from_module import from_module  # noqa: E402
from varprop.torch._convert.to_module import to_module  # noqa: E402
from varprop.torch._initialize import fill_, init_, reset_parameters  # noqa: E402
from varprop.torch._monitor.history import load_monitor  # noqa: E402
from varprop.torch._monitor.monitor import Monitor  # noqa: E402
from varprop.torch._profile.profile import profile  # noqa: E402

__all__ = [
    "Audit",
    "Monitor",
    "audit",
    "fill_",
    "from_module",
    "init",
    "init_",
    "load_monitor",
    "profile",
    "reset_parameters",
    "to_module",
]
