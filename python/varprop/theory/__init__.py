"""What random networks do at infinite width, and exactly at finite width: laws, no draws.

It needs SciPy, which the extra ``pip install "varprop[scipy]"`` brings.
"""

from varprop._extras import require

require("scipy", "scipy")

from varprop.theory import finite  # noqa: E402
from varprop.theory._agreement import Agreement, Beside  # noqa: E402
from varprop.theory._critical import (  # noqa: E402
    CriticalPoint,
    NoCriticalPoint,
    critical,
)
from varprop.theory._fixed_points import FixedPoints, fixed_points  # noqa: E402
from varprop.theory._jacobian_spectrum import (  # noqa: E402
    JacobianSpectrum,
    jacobian_spectrum,
)
from varprop.theory._phase_diagram import PhaseDiagram, phase_diagram  # noqa: E402
from varprop.theory._propagate import LayerMoments, Propagation, propagate  # noqa: E402
from varprop.theory.gaussian import Estimate, expectation, expectation2  # noqa: E402

__all__ = [
    "Agreement",
    "Beside",
    "CriticalPoint",
    "Estimate",
    "FixedPoints",
    "JacobianSpectrum",
    "LayerMoments",
    "NoCriticalPoint",
    "PhaseDiagram",
    "Propagation",
    "critical",
    "expectation",
    "expectation2",
    "finite",
    "fixed_points",
    "jacobian_spectrum",
    "phase_diagram",
    "propagate",
]
