"""The audit of the lock file: pip-audit itself, against a database of advisories of our own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROBE = "jinja2"


class Advisories(BaseHTTPRequestHandler):
    """Answers as OSV does, from the server's `vulnerable`: package → advisory."""

    def do_POST(self) -> None:
        """Tell what is known of one package."""
        package = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]
        self.server.asked.append(package["name"])  # type: ignore[attr-defined]
        advisory = self.server.vulnerable.get(package["name"])  # type: ignore[attr-defined]
        events = [{"introduced": "0"}, {"fixed": "9.9"}]
        affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
        vulnerabilities = [{"id": advisory, "summary": "bad", "affected": affected}]
        content = json.dumps({"vulns": vulnerabilities} if advisory else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Database(ThreadingHTTPServer):
    """The database; `asked` are the packages that somebody wanted to know of."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Advisories)
        self.vulnerable = {PROBE: "PYSEC-2019-217"}
        self.asked: list[str] = []


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def audit(database: Database, lock: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, REPOSITORY / "packaging" / "audit", lock],
        env={"PIP_AUDIT_OSV_URL": f"http://127.0.0.1:{database.server_port}/v1/query", "HOME": str(lock.parent)},
        capture_output=True,
        text=True,
    )


def test_every_package_of_the_lock_file_is_looked_up(database: Database) -> None:
    lock = REPOSITORY / "requirements-otel.lock"
    pinned = {line.partition("==")[0] for line in lock.read_text().splitlines() if "==" in line}
    done = audit(database, lock)

    assert (done.returncode, done.stderr) == (0, "")
    assert set(database.asked) == pinned | {PROBE}
    assert done.stdout == f"{len(pinned)} packages of requirements-otel.lock looked up, 0 vulnerabilities known\n"


def test_what_is_vulnerable_is_named(database: Database, tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("good==1.0\nbad==2.0\n")
    database.vulnerable["bad"] = "PYSEC-2026-1"
    done = audit(database, lock)

    assert done.returncode == 1
    assert "bad 2.0: PYSEC-2026-1, fixed in 9.9" in done.stdout
    assert "2 packages of some.lock looked up, 1 vulnerabilities known" in done.stdout


def test_without_the_database_nothing_is_claimed(database: Database, tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("good==1.0\n")
    database.vulnerable.clear()
    knows_nothing = audit(database, lock)
    database.server_close()
    away = audit(database, lock)

    for done, why in ((knows_nothing, "has nothing against jinja2"), (away, "onnection")):
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith("NOT AUDITED: ")
        assert why in done.stderr
