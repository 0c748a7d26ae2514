"""`doctor` beside a service that runs."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from tests.cri_server import PROGRAM, CriClient, CriServer


def examine(server: CriServer, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run doctor with some flags, by default all that the service has."""
    flags = flags or tuple(word for word in server.daemon.command if word.startswith("--"))
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


def admin_flag(server: CriServer) -> str:
    """Return the flag that says where the service's admin socket is."""
    return f"--admin-endpoint=unix://{server.state_dir / 'admin' / 'admin.sock'}"


def test_a_service_of_other_settings_is_examined_with_its_own(cri_server: CriServer) -> None:
    findings = json.loads(examine(cri_server, admin_flag(cri_server)).stdout)
    assert "state_dir" in next(finding["what"] for finding in findings if finding["area"] == "settings")
    same = [finding for finding in findings if finding["area"] != "settings"]
    assert {finding["what"] for finding in same if finding["area"] in ("engines", "network", "sockets")} == {
        finding["what"]
        for finding in json.loads(examine(cri_server).stdout)
        if finding["area"] in ("engines", "network", "sockets")
    }


def test_settings_that_are_given_are_examined(cri_server: CriServer) -> None:
    flags = (admin_flag(cri_server), "--backend=docker", "--docker-endpoint=unix:///nowhere.sock")
    findings = json.loads(examine(cri_server, *flags).stdout)
    assert not [finding for finding in findings if finding["area"] == "settings"]
    assert any("/nowhere.sock" in finding["what"] for finding in findings if finding["level"] == "failure")


def test_a_bundle_has_everything_but_secrets(cri_server: CriServer, client: CriClient, tmp_path: Path) -> None:
    pod = client.sandbox_config(name="bundled", annotations={"vault": "SECRET-annotation"})
    pod_id = client.run_pod(pod)
    config = client.container_config(envs=[cri.KeyValue(key="PASSWORD", value=b"SECRET-value")])
    client.start_container(pod_id, config, pod)
    bundle = tmp_path / "dump.tar.gz"
    flags = [word for word in cri_server.daemon.command if word.startswith("--")]
    command = [PROGRAM, "debug", "dump", str(bundle), *flags]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert bundle.stat().st_mode & 0o777 == 0o600
    with tarfile.open(bundle) as archive:
        contents = {name.partition("/")[2]: archive.extractfile(name).read().decode() for name in archive.getnames()}  # type: ignore[union-attr]
    assert {"settings.json", "doctor.json", "status.json", "records.json", "journal.txt"} <= contents.keys()
    assert json.loads(contents["status.json"])["engines"]
    assert "bundled" in contents["records.json"]
    assert pod_id in contents["records.json"]
    assert "SECRET" not in "".join(contents.values())
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 1
