import pytest

from tests.conftest import unavailable


def test_what_is_missing_skips_a_test_with_its_reason(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such tool"):
        unavailable("no such tool")


def test_what_is_missing_fails_a_test_in_ci(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such tool"):
        unavailable("no such tool")
