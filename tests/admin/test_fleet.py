"""A node's agent between a served node in memory and an API server that keeps what it is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.admin.api_server import TOKEN, FakeApiServer
from tests.admin.conftest import PROGRAM, Run
from tests.processes import Daemon, wait_until

ANNOTATION = "cri-dockerd-py/migration"
Start = Callable[[str], Daemon]


def pod(name: str, policy: str) -> dict[str, object]:
    metadata = {"uid": f"uid-{name}", "annotations": {"a": "b"}, "managedFields": ["long"]}
    return {"metadata": metadata, "spec": {"restartPolicy": policy, "containers": []}, "status": {"phase": "Running"}}


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer([pod(name, "Always") for name in ("web-0", "web-1", "web-2")]) as server:
        yield server


def pods_environment(port: int, account: Path) -> dict[str, str]:
    return {
        "KUBERNETES_SERVICE_SCHEME": "http",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(port),
        "SERVICE_ACCOUNT_DIR": str(account),
        "NODE_NAME": "node-1",
        "POD_NAME": "agent-x",
        "POD_NAMESPACE": "cri-dockerd-py",
    }


@pytest.fixture
def start_agent(api: FakeApiServer, directory: Path, socket: Path) -> Iterator[Start]:
    """A function that starts an agent with a target."""
    (directory / "token").write_text(TOKEN)
    environment = pods_environment(api.port, directory)
    agents: list[Daemon] = []

    def start(target: str) -> Daemon:
        where = [f"--admin-endpoint=unix://{socket}", f"--config={directory}/config.toml"]
        words = ["migrate", "agent", f"--to={target}", f"--ready-file={directory}/ready", *where]
        agents.append(Daemon([str(PROGRAM), *words], directory / "agent.log", environment))
        agents[-1].start(lambda: ANNOTATION in api.annotations)
        return agents[-1]

    yield start
    for agent in agents:
        agent.stop()


def test_without_a_target_it_reports_and_is_ready(
    service: Daemon, run: Run, api: FakeApiServer, start_agent: Start, directory: Path
) -> None:
    start_agent("")
    assert api.annotations[ANNOTATION] == "idle: no target is set; new pods go to docker"
    wait_until((directory / "ready").exists, "readiness")
    wait_until(lambda: bool(api.events), "the event", 20)
    assert [event["reason"] for event in api.events] == ["MigrationIdle"]
    assert "no migration" in run("migrate", "status").stdout


def test_it_brings_the_node_to_the_target_and_stays_unready_until_then(
    service: Daemon, run: Run, api: FakeApiServer, start_agent: Start, directory: Path
) -> None:
    agent = start_agent("containerd")
    assert api.annotations[ANNOTATION].startswith("migrating: ")
    assert not (directory / "ready").exists()
    wait_until(lambda: api.annotations[ANNOTATION].startswith("complete: "), "the migration", 90)
    wait_until((directory / "ready").exists, "readiness")
    assert "default/job stays: of-a-job" in api.annotations[ANNOTATION]
    wait_until(lambda: len(api.events) > 1, "the event of the end", 20)
    assert [event["reason"] for event in api.events] == ["MigrationMigrating", "MigrationComplete"]
    assert {event["involvedObject"]["name"] for event in api.events} == {"node-1"}
    assert "Migration 1 from docker to containerd: done" in run("migrate", "status").stdout
    assert agent.stop() == 0

    start_agent("containerd")
    assert "Migration 1 " in run("migrate", "status").stdout, "another one was begun"


def test_it_leaves_a_node_alone_that_somebody_brought_back(
    service: Daemon, run: Run, api: FakeApiServer, start_agent: Start, directory: Path
) -> None:
    assert run("migrate", "run", "--to=containerd", "--settle=0.05").returncode == 0
    assert run("migrate", "rollback").returncode == 0
    start_agent("containerd")
    assert api.annotations[ANNOTATION].startswith("rolled-back: ")
    assert not (directory / "ready").exists()
    wait_until(lambda: bool(api.events), "the event", 20)
    assert api.events[-1]["type"] == "Warning"


def test_a_wrong_token_is_no_end(service: Daemon, api: FakeApiServer, start_agent: Start, directory: Path) -> None:
    agent = start_agent("")
    agent.stop()
    (directory / "token").write_text("old")
    with contextlib.suppress(TimeoutError):
        agent.start(lambda: api.refused > 0)
    assert agent.running


def test_a_token_that_is_away_is_no_end(
    service: Daemon, api: FakeApiServer, start_agent: Start, directory: Path
) -> None:
    agent = start_agent("")
    agent.stop()
    (directory / "token").unlink()
    agent.start(lambda: "could not report, will try again" in agent.log_tail())
    (directory / "token").write_text(TOKEN)
    api.annotations.clear()
    wait_until(lambda: ANNOTATION in api.annotations, "a report", 20)


def test_an_answer_of_something_else_is_no_end(service: Daemon, api: FakeApiServer, start_agent: Start) -> None:
    """As of a proxy on the way that says in HTML that it is busy."""
    agent = start_agent("")
    agent.stop()
    api.says = b"<html>"
    agent.start(lambda: "is no API server" in agent.log_tail())
    api.says = b""
    api.annotations.clear()
    wait_until(lambda: ANNOTATION in api.annotations, "a report", 20)


def test_a_certificate_that_cannot_be_used_is_named(
    service: Daemon, run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**pods_environment(1, directory), "KUBERNETES_SERVICE_SCHEME": "https"}.items():
        monkeypatch.setenv(name, value)
    done = run("migrate", "agent")
    assert (done.returncode, f"{directory}/ca.crt cannot be used (No such file" in done.stderr) == (1, True)
    (directory / "ca.crt").write_text("none")
    assert f"{directory}/ca.crt cannot be used" in run("migrate", "agent").stderr
