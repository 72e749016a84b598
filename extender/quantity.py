"""Kubernetes quantities ("1500m", "2Gi", "1e3", ".5") as integers.

A quantity is exact down to a billionth, and a smaller part rounds up, so `nano` holds every quantity as an integer;
sums stay exact, and `to_milli` and `to_base` round up once at the end, as `Quantity.MilliValue` and `Quantity.Value`
do. `cluster.requests` adds up containers this way.

Source: k8s.io/apimachinery/pkg/api/resource/quantity.go, suffix.go, scale_int.go.
"""

import re
from functools import lru_cache

NANO_PER_UNIT = 10**9
NANO_PER_MILLI = 10**6
LARGEST = 2**63 - 1  # maxAllowed in amount.go: larger amounts are capped
LONGEST_TEXT = 256  # far beyond anything meaningful; keeps a hostile body from buying quadratic arithmetic

_FORMAT = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([A-Za-z]*[+-]?[0-9]*)")
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")
_EXPONENT_BOUND = 2 * LONGEST_TEXT  # beyond it every amount is capped, or the least there is


class QuantityError(ValueError):
    """A text is not a Kubernetes quantity; the message shows it and the allowed forms."""


@lru_cache(maxsize=8192)
def nano(quantity: str) -> int:
    """The quantity in billionths, a smaller rest rounded away from zero, capped at the largest that Kubernetes allows.

    Raises:
        QuantityError: the text is not a quantity.

    Example:
        >>> nano("1500m"), nano("1Ki"), nano(".5"), nano("1E")
        (1500000000, 1024000000000, 500000000, 1000000000000000000000000000)
    """
    matched = _FORMAT.fullmatch(quantity) if 0 < len(quantity) <= LONGEST_TEXT else None
    if matched is None:
        raise _refusal(quantity)
    sign, whole, fraction, suffix = matched.groups(default="")
    digits = whole + fraction or "0"  # Go's parser reads a lone suffix as zero
    exponent = 9 - len(fraction)
    if suffix in _BINARY:
        amount = _scaled(int(digits) << _BINARY[suffix], exponent)
    elif suffix in _DECIMAL:
        amount = _scaled(int(digits), exponent + _DECIMAL[suffix])
    elif exponential := _EXPONENT.fullmatch(suffix):
        power = max(-_EXPONENT_BOUND, min(_EXPONENT_BOUND, int(exponential.group(1))))
        amount = _scaled(int(digits), exponent + power)
    else:
        raise _refusal(quantity)
    amount = min(amount, LARGEST * NANO_PER_UNIT)
    return -amount if sign == "-" else amount


def to_milli(nano_amount: int) -> int:
    """Thousandths, rounded away from zero and capped at 2**63 - 1, as `Quantity.MilliValue` counts CPU."""
    return _rounded(nano_amount, NANO_PER_MILLI)


def to_base(nano_amount: int) -> int:
    """Whole units, rounded away from zero, as `Quantity.Value` counts bytes and devices."""
    return _rounded(nano_amount, NANO_PER_UNIT)


def _scaled(digits: int, exponent: int) -> int:
    if exponent >= 0:
        return digits * int(10**exponent)
    return -(-digits // int(10**-exponent))


def _rounded(nano_amount: int, unit: int) -> int:
    magnitude = min(-(-abs(nano_amount) // unit), LARGEST)
    return magnitude if nano_amount >= 0 else -magnitude


def _refusal(quantity: str) -> QuantityError:
    shown = quantity if len(quantity) <= 40 else f"{quantity[:40]}… ({len(quantity)} characters)"
    return QuantityError(
        f"{shown!r} is not a quantity: expected a number such as 2, 1.5 or .5, then nothing, one of "
        f"n u m k M G T P E, one of Ki Mi Gi Ti Pi Ei, or an exponent such as e3"
    )
