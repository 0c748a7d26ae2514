"""What was begun and is neither done nor undone, and namespaces that belong to no pod."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing

from cri_dockerd_py.daemon.instance import instance_name
from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning
from cri_dockerd_py.network.netns import NetnsDir

AREA = "records"


def check_leftovers(patient: Patient) -> Iterable[Finding]:
    """Read the service's database, which it may be using."""
    path = patient.settings.root_dir / "state.db"
    if not path.exists():
        yield ok(AREA, f"no database at {path} yet: the service has not run with this root_dir")
        return
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            intents = [row[0] for row in database.execute("SELECT kind FROM intents")]
            attached = {row[0] for row in database.execute("SELECT sandbox_id FROM attachments")}
    except sqlite3.Error as error:
        yield failure(
            AREA,
            f"the database {path} cannot be read: {error}",
            "what was in progress is not known; no running pod depends on it",
            f"mv {path} {path}.damaged; systemctl restart cri-dockerd-py",
        )
        return
    if intents:
        yield warning(
            AREA,
            f"{len(intents)} operations are neither done nor undone ({', '.join(sorted(set(intents)))})",
            "what they made is still there; the service tries again every few seconds while it runs",
            "see why in: journalctl -u cri-dockerd-py | grep undo",
        )
    else:
        yield ok(AREA, "nothing is half done")
    orphans = sorted(set(NetnsDir(instance_name(patient.settings.root_dir)).names()) - attached)
    if orphans:
        yield warning(
            AREA,
            f"{len(orphans)} network namespaces belong to no pod: {', '.join(orphans[:5])}",
            "they hold kernel memory, and perhaps addresses",
            "systemctl restart cri-dockerd-py removes them",
        )
