"""A choice that reads the same for one node and for many.

Rules, features and the arithmetic of placements index their arrays with `rows`. The extender passes an array of rows
and gets arrays; the simulator compiles the same functions and passes a single row, which gives plain numbers and no
temporary arrays. The operations here are those that numba does not have in both forms: `training.simulator.compiled`
supplies the other.
"""

from typing import Any

import numpy as np


def where(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where the condition holds, else `no`; all three are arrays or numbers."""
    return np.where(condition, yes, no)


def add_at(columns: Any, position: Any, amount: Any) -> None:
    """Add an amount to one of the columns, another one for each node.

    Args:
        columns: (F, K), or (F,) for one node; changed in place.
        position: (K,) whole numbers of any type, or one.
        amount: (K,), or one.
    """
    columns[position.astype(np.int64), np.arange(len(position))] += amount
