"""`doctor` beside a service that runs."""

from __future__ import annotations

import json
import subprocess

from tests.cri_server import PROGRAM, CriServer


def examine(server: CriServer) -> subprocess.CompletedProcess[str]:
    flags = [word for word in server.daemon.command if word.startswith("--")]
    return subprocess.run(
        [PROGRAM, "doctor", "--output", "json", *flags], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_service_that_runs_is_in_order(cri_server: CriServer) -> None:
    done = examine(cri_server)
    findings = json.loads(done.stdout)
    wrong = [finding for finding in findings if finding["level"] == "failure"]
    assert [finding for finding in wrong if finding["area"] in ("engines", "network", "sockets", "records")] == []
    in_order = {finding["area"] for finding in findings if finding["level"] == "ok"}
    assert {"engines", "network", "sockets"} <= in_order
    assert done.returncode == (1 if wrong else 3 if any(f["level"] == "warning" for f in findings) else 0)
