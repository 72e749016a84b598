"""The pages for people, and the commands in them.

A command stands in a fenced block of `sh`. What a command is to a shell is left to the shell; taken apart here are only
statements (a line with what continues it, a here document included) and the programs that they call.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HERE_DOCUMENT = re.compile(r"<<'(\w+)'")
SEPARATORS = {"&&", "||", "|", ";", "&"}
REDIRECTIONS = {">", ">>", "<", "<<"}


@dataclass(frozen=True)
class Statement:
    """A line of a block, with what continues it.

    Attributes:
        page: the file, relative to the root of the checkout.
        text: as it stands there.
    """

    page: str
    text: str

    @property
    def calls(self) -> list[list[str]]:
        """The programs that it calls, each with its arguments; redirections are left out."""
        first = self.text.partition("\n")[0] if HERE_DOCUMENT.search(self.text) else self.text.replace("\\\n", " ")
        tokens = shlex.shlex(first, posix=True, punctuation_chars="|&;<>")
        tokens.whitespace_split = True
        calls: list[list[str]] = [[]]
        skips = False
        for token in tokens:
            if token in SEPARATORS:
                calls.append([])
            elif token in REDIRECTIONS:
                skips = True
            elif not skips:
                calls[-1].append(token)
            else:
                skips = False
        return [call for call in calls if call]


def pages() -> list[Path]:
    """Every page that people are told to read."""
    beside = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    cards = (ROOT / "extender" / "policies").glob("*.md")
    return [page for page in (*beside, *sorted((ROOT / "docs").rglob("*.md")), *sorted(cards)) if page.is_file()]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [text for found, text in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def statements(page: Path) -> Iterator[Statement]:
    """The statements of all blocks of `sh`, in the order of the page."""
    name = str(page.relative_to(ROOT))
    for block in blocks(page, "sh"):
        lines = iter(block.splitlines())
        for line in lines:
            while line.endswith("\\"):
                line += "\n" + next(lines)
            if marker := HERE_DOCUMENT.search(line):
                for following in lines:
                    line += "\n" + following
                    if following == marker[1]:
                        break
            if line.strip() and not line.lstrip().startswith("#"):
                yield Statement(name, line)
