"""A choice that reads the same for one node and for many.

Rules, features and the arithmetic of placements index their arrays with `rows`. The extender passes an array of rows
and gets arrays; the simulator compiles the same functions and passes a single row, which gives plain numbers and no
temporary arrays. `where` is the one operation that numba does not have in both forms: `training.simulator.compiled`
supplies the other.
"""

from typing import Any

import numpy as np


def where(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where the condition holds, else `no`; all three are arrays or numbers."""
    return np.where(condition, yes, no)
