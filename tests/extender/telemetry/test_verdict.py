from pathlib import Path

import msgspec
import pytest

from extender.telemetry.verdict import MAX_BYTES, VerdictError, read_verdict
from tests.extender.verdicts import put_verdict, verdict_of, worse_for


@pytest.mark.parametrize("verdict", [verdict_of("a" * 64), worse_for(5.0, "heuristic:best-fit", regret_seconds=None)])
def test_a_verdict_is_read_as_it_was_written(tmp_path: Path, verdict: object) -> None:
    put_verdict(tmp_path / "verdict.json", verdict)
    assert read_verdict(tmp_path / "verdict.json") == verdict


def test_there_need_not_be_a_file(tmp_path: Path) -> None:
    assert read_verdict(tmp_path / "verdict.json") is None


GOOD = msgspec.json.encode(verdict_of("a" * 64))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated"),
        (GOOD[:-20], "truncated"),
        (b"[]", "Expected `object`"),
        (GOOD.replace(b'"worse":false', b'"worse":"no"'), "Expected `bool`"),
        (GOOD.replace(b'"worse":false', b'"worse":true'), "worse_since does not say since when"),
        (GOOD.replace(b'"version":1', b'"version":2'), "version is 2, this extender reads 1"),
        (GOOD.replace(b'"cpu":0.05', b'"cpu":1e999'), "out of range|not finite"),
        (b"\xff" + GOOD, "malformed|invalid"),
        (GOOD + b" " * MAX_BYTES, "which no verdict has"),
    ],
    ids=["empty", "torn", "list", "type", "undated", "newer", "infinite", "no text", "huge"],
)
def test_what_is_no_verdict_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "verdict.json"
    path.write_bytes(content)
    with pytest.raises(VerdictError, match=rf"verdict\.json: .*({reason})"):
        read_verdict(path)


def test_a_file_that_cannot_be_read_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(VerdictError, match="cannot be read"):
        read_verdict(tmp_path)
