import logging
from pathlib import Path

import pytest

from extender.cluster.reservation_file import ReservationFile
from extender.cluster.reservations import Reservation

ONE = Reservation("u", "default", "p", "a", 4, 1.5, 2.5, 3.5)


def test_the_latest_reservations_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "reservations.json"
    file = ReservationFile(path)
    file.start()
    file.save([])
    file.save([ONE])
    file.stop()

    assert ReservationFile(path).read() == [ONE]


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert ReservationFile(tmp_path / "absent").read() == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'[{"uid": "u"}]'])
def test_what_cannot_be_read_is_said_and_left(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "reservations.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert ReservationFile(path).read() == []
    assert "granted anew" in caplog.text


def test_a_full_disk_is_said_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    file = ReservationFile(Path("/dev/full/reservations.json"))
    file.start()
    with caplog.at_level(logging.ERROR):
        file.save([ONE])
        file.stop()
    assert "a restart loses them" in caplog.text
