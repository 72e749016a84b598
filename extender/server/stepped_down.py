"""What has to outlast a restart of the policy that was stepped down from: a small file beside the verdict's.

The verdict file is somebody else's and may be torn, empty or gone at the next start; this one is the extender's own. It
names the policy by its digest, so it says nothing of another one. Where it cannot be written, as on a volume that is
mounted read-only, the log says so once, and a restart has the verdict file alone to go by.
"""

import logging
from pathlib import Path

import msgspec

from extender.whole_file import put_whole

SUFFIX = ".stepped-down"

log = logging.getLogger(__name__)


class SteppedDown(msgspec.Struct, frozen=True):
    """A policy that was stepped down from.

    Attributes:
        policy: its digest.
        since: Unix seconds.
        reason: for people.
    """

    policy: str
    since: float
    reason: str


class SteppedDownFile:
    """Reads and writes it.

    Attributes:
        path: where it is.
    """

    def __init__(self, verdict_file: Path) -> None:
        self.path = verdict_file.with_name(verdict_file.name + SUFFIX)
        self._kept: SteppedDown | None = None
        self._complained = False

    def read(self) -> SteppedDown | None:
        """What was kept last; None, and a line in the log, where there is a file that does not tell."""
        try:
            self._kept = msgspec.json.decode(self.path.read_bytes(), type=SteppedDown)
        except FileNotFoundError:
            self._kept = None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("which policy was stepped down from is not known, as %s does not tell: %s", self.path, error)
            self._kept = None
        return self._kept

    def keep(self, down: SteppedDown | None) -> None:
        """Have the file tell this, or be gone; what was written and has been changed by others since is let be."""
        if down == self._kept:
            return
        try:
            if down is None:
                self.path.unlink(missing_ok=True)
            else:
                put_whole(self.path, msgspec.json.encode(down))
        except OSError as error:
            if not self._complained:
                log.warning(
                    "%s cannot be written, so what a restart makes of a policy is for the verdict file alone: %s",
                    self.path,
                    error,
                )
            self._complained = True
            return
        self._kept, self._complained = down, False
