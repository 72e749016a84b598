import io

from rich.console import Console

from training.progress import track


def test_without_a_terminal_the_end_is_one_plain_line() -> None:
    output = io.StringIO()
    with track(Console(file=output, width=120), "training", 100) as tracker:
        for done in (0, 50, 100, 100, 110):
            tracker.update(done, "return 1.0")
    assert output.getvalue() == "training: 100 of 100, return 1.0, 0 s left\n"


def test_on_a_terminal_there_is_a_bar() -> None:
    output = io.StringIO()
    with track(Console(file=output, width=120, force_terminal=True), "training", 100) as tracker:
        tracker.update(100, "return 1.0")
    assert "━" in output.getvalue()
    assert "return 1.0" in output.getvalue()
