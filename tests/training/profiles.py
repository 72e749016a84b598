import numpy as np

from extender.valuation import WorkloadProfile


def profile_of(shares: np.ndarray) -> WorkloadProfile:
    """A profile of which only these shares matter."""
    return WorkloadProfile(np.ones(1), np.ones(1), np.ones(3), np.zeros(1001), np.zeros(1), shares)
