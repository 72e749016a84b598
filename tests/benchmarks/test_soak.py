import asyncio
import math

import numpy as np
import pytest

from benchmarks.soak.client import Asker, BadAnswerError, read_ranking
from benchmarks.soak.judgement import Sample, Soak, memory, percentile, results_of, shortcomings


def seen(
    slower: float = 1.0, grown: float = 1.0, failures: tuple[str, ...] = (), differences: tuple[str, ...] = ()
) -> Soak:
    """Ten minutes with ten requests a second, of which the second half may be slower and larger."""
    began = np.arange(0.0, 600.0, 0.1)
    seconds = np.where(began < 300, 0.002, 0.002 * slower)
    answers = np.stack([began, seconds, np.full(len(began), 10.0)], axis=1)
    answers[:3, 1:] = math.nan
    answers[3, 2] = 0
    samples = [Sample(float(at), 100.0 if at < 300 else 100.0 * grown, 1.0) for at in range(600)]
    return Soak(
        600, 10, answers, 0.01, samples, failures, {"pods bound": 3}, {"policy": 5.0}, {"served": 1.0}, differences
    )


def test_the_windows_are_the_first_and_the_last_sixth() -> None:
    soak = seen(slower=2.0, grown=1.1)

    assert percentile(soak, 99, first=True) == pytest.approx(2.0)
    assert percentile(soak, 99, first=False) == pytest.approx(4.0)
    assert (memory(soak, first=True), memory(soak, first=False)) == (100.0, pytest.approx(110.0))


def test_what_stayed_as_it_was_has_no_shortcomings() -> None:
    assert shortcomings(seen(slower=1.1, grown=1.04)) == []


@pytest.mark.parametrize(
    ("soak", "expected"),
    [
        (seen(slower=1.3), "p99 is 1.30 times"),
        (seen(grown=1.06), "memory grew by 6.0%"),
        (seen(failures=("after 1 s: TimeoutError: ", "b")), "2 failures: after 1 s: TimeoutError"),
        (seen(differences=("n: it",)), "1 amounts differ"),
    ],
)
def test_each_shortcoming_is_named(soak: Soak, expected: str) -> None:
    (line,) = shortcomings(soak)

    assert line.startswith(expected)


def test_the_results_tell_ratios_and_kinds_of_failures() -> None:
    results = {
        result.metric: result for result in results_of(seen(slower=2.0, failures=("after 1 s: TimeoutError: ",)))
    }

    assert results["p99"].ratio == pytest.approx(2.0)
    assert results["resident memory, median"].ratio == pytest.approx(1.0)
    assert results["failures that the client saw"].value == 1
    assert results["TimeoutError"].value == 1
    assert (results["answers without opinion"].value, results["answers without opinion"].baseline) == (1, 5997)


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"{}", b'"a"', b"null", b"[1]", b'[{"Host":"a"}]', b'[{"Host":"a","Score":1.0}]'),
        *(b'[{"Host":"a","Score":11}]', b'[{"Host":"b","Score":1}]', b'[{"Host":"a","Score":true}]'),
    ],
)
def test_an_answer_that_go_could_not_use_is_a_failure(answer: bytes) -> None:
    with pytest.raises(BadAnswerError):
        read_ranking(answer, ["a"])


def test_an_answer_that_go_can_use_is_none() -> None:
    assert read_ranking(b'[{"Host":"a","Score":10}]', ["a", "b"]) == [{"Host": "a", "Score": 10}]
    assert read_ranking(b"[]", ["a"]) == []


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n[]", "BadAnswerError"),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", "BadAnswerError"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "IncompleteReadError"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", None),
        (None, "TimeoutError"),
    ],
)
def test_a_server_that_fails_is_noticed(
    reply: bytes | None, kind: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask() -> Asker:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if reply is not None:
                await reader.readuntil(b"}")
                writer.write(reply)
            else:
                await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        asker = Asker(server.sockets[0].getsockname()[1], candidates=2, limit_seconds=0.5 if reply is None else 60.0)
        asker.hear(b'{"nodes": ["a"]}\n')
        asker.hear(b'{"backlog": [{"metadata": {"uid": "u"}}]}\n')
        await asker.ask(1.0)
        server.close()
        return asker

    asker = asyncio.run(ask())

    assert asker.failures == (0 if kind is None else 1)
    assert (kind or "") in capsys.readouterr().out
    assert math.isnan(asker.answers[2]) is (kind is not None)
