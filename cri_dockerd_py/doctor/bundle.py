"""A support bundle: what helps to understand a node from afar, and nothing that is secret.

Left out on purpose: environments, annotations and labels of pods, contents of CNI and registry configurations, and
container logs. In all else, what looks like a password, a token or a proxy's login is replaced, as in the service's
log. What is in it is text, to be read before it is sent.
"""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from cri_dockerd_py import __version__
from cri_dockerd_py.daemon.log_lines import without_secrets
from cri_dockerd_py.doctor.examine import examine
from cri_dockerd_py.settings import Settings

_UNIT = "cri-dockerd-py"
_JOURNAL_LINES = "5000"
_COMMAND_WITHIN_S = 30.0
_FILES = ("/proc/version", "/proc/cmdline", "/proc/cgroups", "/proc/meminfo", "/proc/loadavg", "/proc/pressure/cpu")
#: Not Environment and EnvironmentFiles, as an environment may hold anything.
_UNIT_PROPERTIES = (
    "Id,LoadState,UnitFileState,FragmentPath,DropInPaths,NeedDaemonReload,ExecStart,ActiveState,SubState,Result,StatusText,"
    "MainPID,ExecMainStartTimestamp,ExecMainExitTimestamp,ExecMainCode,ExecMainStatus,NRestarts,StateChangeTimestamp,"
    "WatchdogTimestamp,MemoryCurrent,TasksCurrent,CPUUsageNSec,NFileDescriptorStore,Listen,NAccepted,NConnections"
)
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "journal.txt": ("journalctl", "--no-pager", "-o", "short-iso-precise", "-n", _JOURNAL_LINES, "-u", _UNIT),
    "unit.txt": ("systemctl", "show", "-p", _UNIT_PROPERTIES, f"{_UNIT}.service", f"{_UNIT}.socket"),
    "addresses.txt": ("ip", "-brief", "address"),
    "disk.txt": ("df", "-hT"),
}


def write_bundle(path: Path, settings: Settings, status: Callable[[], str]) -> list[str]:
    """Write a gzipped tar to `path`, which must not exist, without secrets; return the names of what is in it.

    `status` returns what the running service says of itself. A part that cannot be had is replaced by the reason; a
    file that cannot be completed is removed.
    """
    file = path.open("xb")
    try:
        with file:
            path.chmod(0o600)
            return _write(file, settings, status)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(file: BinaryIO, settings: Settings, status: Callable[[], str]) -> list[str]:
    names = []
    stamp = int(time.time())
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in _parts(settings, status):
            content = without_secrets(text).encode(errors="replace")
            member = tarfile.TarInfo(f"cri-dockerd-py-{stamp}/{name}")
            member.size, member.mtime, member.mode = len(content), stamp, 0o600
            archive.addfile(member, io.BytesIO(content))
            names.append(name)
    return names


def _parts(settings: Settings, status: Callable[[], str]) -> Iterator[tuple[str, str]]:
    yield "version.txt", f"{__version__}\n"
    yield "settings.json", json.dumps(settings.plain(), indent=1)
    yield "doctor.json", json.dumps([finding.plain() for finding in examine(settings)], indent=1)
    yield "status.json", _tried(status)
    yield "records.json", _tried(lambda: _records(settings.root_dir / "state.db"))
    yield "mounts.txt", _tried(lambda: _own_mounts(settings))
    for file in _FILES:
        yield f"host{file}", _tried(Path(file).read_text)
    for name, command in _COMMANDS.items():
        yield name, _tried(lambda command=command: _output(command))  # type: ignore[misc]


def _tried(read: Callable[[], str]) -> str:
    try:
        return read()
    except Exception as error:  # a bundle with a gap is better than none
        return f"cannot be had: {error}\n"


def _output(command: tuple[str, ...]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_WITHIN_S, errors="replace")
    return done.stdout + done.stderr


def _own_mounts(settings: Settings) -> str:
    places = ("/run/netns/", f"{settings.root_dir}/", f"{settings.state_dir}/")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return "\n".join(line for line in lines if line.split()[4].startswith(places)) + "\n"


def _records(path: Path) -> str:
    """Return what the database has, less the specs of pods but for their identity."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return json.dumps({table: _rows(database, table) for table in sorted(tables)}, indent=1)


def _rows(database: sqlite3.Connection, table: str) -> list[dict[str, object]]:
    return [
        {name: _public(name, row[name]) for name in row.keys()}  # noqa: SIM118  (sqlite3.Row is no mapping)
        for row in database.execute(f'SELECT * FROM "{table}"')
    ]


def _public(column: str, value: object) -> object:
    """Keep columns that are ids, names and numbers; of JSON documents keep what identifies."""
    if column not in ("spec", "record", "payload", "request"):
        return value
    try:
        document = json.loads(str(value))
    except ValueError:
        return "not JSON"
    return _identity(document)


def _identity(document: object) -> object:
    if not isinstance(document, dict):
        return "left out"
    kept = {
        name: document[name]
        for name in ("id", "metadata", "state", "exit_code", "reason", "image_id")
        if name in document
    }
    if isinstance(document.get("spec"), dict):
        kept["spec"] = _identity(document["spec"])
    return kept
