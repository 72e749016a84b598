"""Cases rewritten from apimachinery's quantity_test.go, and the rounding that kube-scheduler relies on."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.quantity import LARGEST, LONGEST_TEXT, QuantityError, nano, to_base, to_milli

UNITS = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1), "k": Fraction(10**3),
    "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40), "Pi": Fraction(2**50),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("0Ki", 0),
        ("1", 1),
        ("1Ki", 1024),
        ("7Mi", 7 * 2**20),
        ("5Ti", 5 * 2**40),
        ("3Ei", 3 * 2**60),
        ("5n", Fraction(5, 10**9)),
        ("4u", Fraction(4, 10**6)),
        ("3m", Fraction(3, 1000)),
        ("50k", 50_000),
        ("300T", 300 * 10**12),
        ("1E", 10**18),
        ("1E-3", Fraction(1, 1000)),
        ("1e3", 1000),
        ("1E6", 10**6),
        ("1E18", 10**18),
        ("1.3E+6", 1_300_000),
        ("0.5e-2", Fraction(5, 1000)),
        ("100.035k", 100_035),
        ("0.00050k", Fraction(1, 2)),
        ("7.123456M", 7_123_456),
        ("1.01E", 101 * 10**16),
        ("100.035Ki", Fraction(10243584, 100)),
        ("0.05Gi", Fraction(536870912, 10)),
        ("0.025Ti", Fraction(274877906944, 10)),
        (".001", Fraction(1, 1000)),
        (".5", Fraction(1, 2)),
        ("1.", 1),
        ("1.G", 10**9),
        (".", 0),
        ("+1", 1),
        ("-1500m", Fraction(-3, 2)),
        ("Ki", 0),
    ],
)
def test_every_notation_is_read_as_kubernetes_reads_it(text: str, amount: Fraction | int) -> None:
    assert nano(text) == amount * 10**9


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("3.001n", 4),
        ("1.1E-9", 2),
        ("0.0000000001", 1),
        ("0.5e-9", 1),
        ("0.00000012345", 124),
        ("0.000000000001Ki", 2),
        ("1e-999999999", 1),
    ],
)
def test_what_is_finer_than_a_billionth_rounds_up(text: str, nanos: int) -> None:
    assert nano(text) == nanos


@pytest.mark.parametrize("text", ["9Ei", "9223372036854775807Ki", "1e999999999", "100E"])
def test_too_much_is_capped(text: str) -> None:
    assert to_base(nano(text)) == LARGEST


def test_milli_and_base_units_round_up() -> None:
    assert to_milli(nano("100100u")) == 101
    assert to_base(nano("1500m")) == 2
    assert to_base(nano("1m")) == 1
    assert to_milli(nano("-100100u")) == -101


REFUSED = (
    *("", " ", "1 ", " 1", "1\n", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "1i", "-3.01i", "-3.01e-"),
    *("1e", "1E2m", "--1", "0x10", "1_000", "1,5", "nan", "\N{ARABIC-INDIC DIGIT THREE}", "1" * (LONGEST_TEXT + 1)),
)


@pytest.mark.parametrize("text", REFUSED)
def test_what_kubernetes_refuses_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="is not a quantity: expected a number"):
        nano(text)


@given(st.integers(0, 10**9), st.integers(0, 10**6 - 1), st.sampled_from(sorted(UNITS)))
def test_any_decimal_with_a_unit_is_exact_or_rounds_up(whole: int, millionths: int, unit: str) -> None:
    exact = (whole + Fraction(millionths, 10**6)) * UNITS[unit]
    expected = min(-(-exact * 10**9 // 1), LARGEST * 10**9)
    assert nano(f"{whole}.{millionths:06d}{unit}") == expected
