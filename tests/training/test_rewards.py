import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.rewards import ascended

shares = st.floats(0, 1)


@given(st.floats(0, 100), shares, shares, st.floats(0.01, 10))
def test_the_price_rises_where_the_limit_is_passed_and_falls_where_it_is_kept(multiplier, share, limit, step):
    after = ascended(multiplier, share, limit, step, at_most=100.0)
    assert 0 <= after <= 100
    assert after >= multiplier if share > limit else after <= multiplier


def test_dual_ascent_finds_the_price_at_which_the_limit_is_kept():
    multiplier = 0.0
    for _ in range(2000):  # who breaks fewer promises, the more one costs
        multiplier = ascended(multiplier, share=1 / (1 + multiplier), limit=0.2, step=0.5, at_most=100.0)
    assert 1 / (1 + multiplier) == pytest.approx(0.2, abs=1e-3)
