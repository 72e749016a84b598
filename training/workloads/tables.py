"""CSV files, read so that whatever is wrong with a cell is said by file, line and column.

`openb` and `csv_trace` ask for cells by column and by what they should hold; nothing but `TraceError` leaves here for
any content of a file.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from extender import quantity
from extender.quantity import QuantityError

LARGEST = 2**53  # beyond all amounts and times, and a thousand of them still add up in an int64
SHOWN_AT_MOST = 60

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


class TraceError(ValueError):
    """A trace cannot be read; the message names file, line, column and what was expected."""


class Row:
    """A row of a table.

    Attributes:
        line: where it ends in the file, from 1.
    """

    def __init__(self, path: Path, line: int, cells: dict[str, str]) -> None:
        self.line = line
        self._path = path
        self._cells = cells

    def text(self, column: str, default: str = "") -> str:
        """The cell without surrounding blanks, the default where it is empty or there is no such column."""
        return self._cells.get(column, "").strip() or default

    def whole(self, column: str, at_least: int = 0, at_most: int = LARGEST, default: int | None = None) -> int:
        """The cell as a whole number; raises TraceError."""
        text = self.text(column)
        if not text and default is not None:
            return default
        expected = f"a whole number, {at_least} or more"
        if not _WHOLE_NUMBER.fullmatch(text) or int(text) < at_least:
            self.refuse(column, expected)
        if int(text) > at_most:
            self.refuse(column, f"a whole number, {at_most} at most")
        return int(text)

    def seconds(self, column: str, default: float | None = None) -> float:
        """The cell as a number of seconds; raises TraceError."""
        return self.number(column, "a number of seconds, 0 or more", default)

    def number(self, column: str, expected: str = "a number, 0 or more", default: float | None = None) -> float:
        """The cell as a number that is neither negative nor beyond `LARGEST`; raises TraceError."""
        text = self.text(column)
        if not text and default is not None:
            return default
        try:
            value = float(text)
        except ValueError:
            self.refuse(column, expected)
        if not 0.0 <= value <= LARGEST:  # also refuses NaN
            self.refuse(column, expected)
        return value

    def amount(self, column: str, to_unit: Callable[[int], int] = quantity.to_base, default: int | None = None) -> int:
        """The cell as a Kubernetes quantity.

        Args:
            column: its column.
            to_unit: turns billionths into the unit that is wanted.
            default: for an empty cell; such a cell is refused where this is left out.

        Raises:
            TraceError: it is no quantity, negative, or larger than anything that exists.
        """
        text = self.text(column)
        if not text and default is not None:
            return default
        try:
            amount = to_unit(quantity.nano(text))
        except QuantityError:
            self.refuse(column, "a Kubernetes quantity such as 2, 500m, 1.5 or 16Gi")
        if not 0 <= amount <= LARGEST:
            self.refuse(column, "a Kubernetes quantity, 0 or more and not beyond all machines")
        return amount

    def refuse(self, column: str, expected: str) -> NoReturn:
        """Raise a TraceError that names the place, what is there, and what was expected."""
        given = self.text(column)
        shown = repr(given if len(given) <= SHOWN_AT_MOST else f"{given[:SHOWN_AT_MOST]}…") if given else "empty"
        raise TraceError(f"{self._path}:{self.line}: column {column!r}: {shown} where {expected} was expected")


def read_table(
    path: Path,
    required: Sequence[str],
    optional: Sequence[str] | None = None,
    further: Callable[[str], bool] = lambda column: False,
) -> tuple[list[str], list[Row]]:
    """Read a CSV file with a header.

    Args:
        path: the file, in UTF-8.
        required: columns that have to be there.
        optional: columns that may be there; any may where this is left out.
        further: tells other column names that are allowed too.

    Returns:
        the header and the rows, at least one.

    Raises:
        TraceError: there is no such file, it is no CSV, or its header or the length of a row is wrong.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(_lines(path, csv.reader(file, strict=True)))
    except FileNotFoundError:
        present = sorted(file.name for file in path.parent.glob("*.csv"))
        raise TraceError(f"{path}: no such file; the folder holds {', '.join(present) or 'no CSV file'}") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: expected text in UTF-8: {error.reason} at byte {error.start}") from error
    if not lines:
        raise TraceError(f"{path}:1: expected a header with the columns {', '.join(required)}")
    (first, named), *body = lines
    header = [column.strip() for column in named]
    _check_header(path, first, header, required, optional, further)
    rows = []
    for line, cells in body:
        if len(cells) > len(header):
            surplus = cells[len(header)]
            raise TraceError(
                f"{path}:{line}: column {len(header) + 1}: {surplus[:SHOWN_AT_MOST]!r} where the end of the line was "
                f"expected: the header names {len(header)} columns"
            )
        if len(cells) < len(header):
            raise TraceError(
                f"{path}:{line}: no value for column {header[len(cells)]!r}; the header names {', '.join(header)}"
            )
        rows.append(Row(path, line, dict(zip(header, cells, strict=True))))
    if not rows:
        raise TraceError(f"{path}: there are no rows below the header")
    return header, rows


def _lines(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TraceError(f"{path}:{reader.line_num}: expected comma-separated values: {error}") from error
        if any(cell.strip() for cell in cells):
            yield reader.line_num, cells


def _check_header(
    path: Path,
    line: int,
    header: list[str],
    required: Sequence[str],
    optional: Sequence[str] | None,
    further: Callable[[str], bool],
) -> None:
    for column in required:
        if column not in header:
            raise TraceError(f"{path}:{line}: column {column!r} is missing; the header names {', '.join(header)}")
    known = {*required, *(header if optional is None else optional)}
    for position, column in enumerate(header):
        if column in header[:position]:
            raise TraceError(f"{path}:{line}: column {column!r} is there twice")
        if column not in known and not further(column):
            raise TraceError(
                f"{path}:{line}: column {column!r} is not known: expected one of "
                f"{', '.join([*required, *(optional or ())])}"
            )
