"""What was begun and is neither done nor undone, and namespaces that belong to no pod."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cri_dockerd_py.daemon.instance import instance_name
from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning
from cri_dockerd_py.doctor.mends import UNIT
from cri_dockerd_py.network.netns import NetnsDir

AREA = "records"
_LOOK_EVERY_S = 1.0
#: What the service logs of operations that it could not undo yet.
LOGGED = "could not undo|half-made object is still there"


@dataclass(frozen=True, slots=True)
class _Open:
    """Operations that are under way or half done (id → kind), and namespaces without a pod."""

    intents: dict[int, str]
    namespaces: frozenset[str]

    def also_in(self, later: _Open) -> _Open:
        intents = {number: kind for number, kind in self.intents.items() if number in later.intents}
        return _Open(intents, self.namespaces & later.namespaces)

    def __bool__(self) -> bool:
        return bool(self.intents or self.namespaces)


def check_leftovers(patient: Patient, within_s: float = 15.0) -> Iterable[Finding]:
    """Read the service's database, which it may be using; what is being made has `within_s` to become whole."""
    path = patient.settings.root_dir / "state.db"
    if not path.exists():
        yield ok(AREA, f"no database at {path} yet: the service has not run with this root_dir")
        return
    try:
        found = _read(patient, path)
        until = time.monotonic() + within_s
        while found and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)
            found = found.also_in(_read(patient, path))
    except sqlite3.Error as error:
        aside = path.with_name("damaged")
        yield failure(
            AREA,
            f"the database {path} cannot be read: {error}",
            "what was in progress is not known; no running pod depends on it",
            f"mkdir -p {aside} && mv {path}* {aside}/ && systemctl restart {UNIT}",
        )
        return
    if found.intents:
        kinds = ", ".join(sorted(set(found.intents.values())))
        yield warning(
            AREA,
            f"{len(found.intents)} operations were neither done nor undone in {within_s:.0f} seconds ({kinds})",
            "what they made is still there, and the service tries to remove it while it runs, unless they take so long",
            f"journalctl -u {UNIT} | grep -E '{LOGGED}' | tail  # says why",
        )
    else:
        yield ok(AREA, "nothing is half done")
    if found.namespaces:
        names = sorted(found.namespaces)
        yield warning(
            AREA,
            f"{len(names)} network namespaces belong to no pod: {', '.join(names[:5])}",
            "they hold kernel memory, and perhaps addresses",
            f"systemctl restart {UNIT}  # removes them, and leaves pods alone",
        )


def _read(patient: Patient, path: Path) -> _Open:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        intents = dict(database.execute("SELECT id, kind FROM intents"))
        attached = {row[0] for row in database.execute("SELECT sandbox_id FROM attachments")}
    return _Open(intents, frozenset(NetnsDir(instance_name(patient.settings.root_dir)).names()) - attached)
