"""What a check says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from cri_dockerd_py.settings import Settings

#: Links may lead in a circle.
_MOST_STEPS = 256


class Level(Enum):
    """How bad it is; a FAILURE keeps pods from running, a WARNING will be felt one day."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the node. `why` says what it does to pods, `fix` is a command line that mends it; empty if OK."""

    area: str
    level: Level
    what: str
    why: str = ""
    fix: str = ""

    def plain(self) -> dict[str, str]:
        """Return the finding as what JSON can hold."""
        return {"area": self.area, "level": self.level.value, "what": self.what, "why": self.why, "fix": self.fix}


@dataclass(frozen=True, slots=True)
class Patient:
    """The node under examination: the service's settings, and the directory that is its root."""

    settings: Settings
    root: Path = Path("/")

    def text(self, path: str) -> str:
        """Return a small file's content without white space around it, empty when it is not there."""
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace").strip()
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        """Whether something is at `path`."""
        return (self.root / path.lstrip("/")).exists()

    def real(self, path: str) -> str:
        """Return `path` without links and `..`, as seen on the node; what is missing stays as it is named."""
        left = list(reversed(PurePosixPath(path).parts))
        done = PurePosixPath("/")
        for _ in range(_MOST_STEPS):
            if not left:
                break
            part = left.pop()
            here = PurePosixPath("/") if part.startswith("/") else done.parent if part == ".." else done / part
            link = self.root / str(here).lstrip("/")
            if here != PurePosixPath("/") and part != ".." and link.is_symlink():
                left += reversed(link.readlink().parts)
            else:
                done = here
        return str(done.joinpath(*reversed(left)))


Check = Callable[[Patient], Iterable[Finding]]


def ok(area: str, what: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(area, Level.OK, what)


def warning(area: str, what: str, why: str, fix: str) -> Finding:
    """Return a finding that will be felt one day."""
    return Finding(area, Level.WARNING, what, why, fix)


def failure(area: str, what: str, why: str, fix: str) -> Finding:
    """Return a finding that keeps pods from running."""
    return Finding(area, Level.FAILURE, what, why, fix)
