"""The command line against an admin socket, on which a node in memory is driven."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.admin.conftest import PROGRAM, Run
from tests.processes import Daemon, answers, wait_until

QUICK = ("--settle=0.05", "--timeout=5")


def document(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout.splitlines()[-1])


def test_a_service_that_does_not_run_is_told(run: Run) -> None:
    done = run("status")
    assert done.returncode == 1
    assert "no service answers at" in done.stderr
    assert "systemctl start" in done.stderr


def test_a_socket_that_nobody_serves_is_told(service: Daemon, run: Run) -> None:
    service.kill()
    done = run("status")
    assert (done.returncode, "no service answers at" in done.stderr) == (1, True)


def test_status_shows_engines(service: Daemon, run: Run) -> None:
    done = run("status")
    assert done.returncode == 0
    assert "docker      1.0      4 ready, 0 not  4 running, 0 ended  1       ready, gets new pods" in done.stdout
    shown = document(run("status", "--output=json"))
    assert [engine["pods_ready"] for engine in shown["engines"]] == [4, 0]
    assert shown["default_engine"] == "docker"


def test_the_log_level_is_set_while_it_runs(service: Daemon, run: Run) -> None:
    assert run("log-level", "debug").stdout == "debug (was info)\n"
    assert run("log-level").stdout == "debug\n"
    done = run("log-level", "loud")
    assert (done.returncode, "'loud' is no log level" in done.stderr) == (2, True)
    assert document(run("log-level", "info", "--output=json")) == {"log_level": "info", "previous": "debug"}
    assert document(run("log-level", "--output=json")) == {"log_level": "info", "previous": "info"}


def test_following_nothing_says_so_alone(service: Daemon, run: Run) -> None:
    assert run("migrate", "status", "--watch").stdout == "There was no migration on this node.\n"


def test_a_plan_is_for_review(service: Daemon, run: Run) -> None:
    done = run("migrate", "plan", "--to=containerd")
    assert done.returncode == 0
    assert "3 pods would move, in this order:\n  1  default/web-0  siblings, grace 0 s" in done.stdout
    assert "default/job  of-a-job  it is a Job's" in done.stdout
    assert "1 image needed on containerd, 150 MB to copy" in done.stdout
    assert run("migrate", "run", "--to=containerd", "--dry-run").stdout == done.stdout
    plan = document(run("migrate", "plan", "--to=containerd", "--output=json"))
    assert [move["pod"] for move in plan["moves"]] == ["default/web-0", "default/web-1", "default/web-2"]
    assert plan["copy_bytes"] == 150_000_000


def test_what_the_api_server_knows_is_taken(service: Daemon, run: Run) -> None:
    pods = {"items": [{"metadata": {"uid": "uid-web-1"}, "spec": {"restartPolicy": "Never"}}]}
    done = run("migrate", "plan", "--to=containerd", "--pods-json=-", "--output=json", text=json.dumps(pods))
    assert {stay["pod"]: stay["reason"] for stay in document(done)["stays"]}["default/web-1"] == "restart-policy-never"
    done = run("migrate", "plan", "--to=containerd", "--pods-json=-", text="none")
    assert (done.returncode, "kubectl get pods" in done.stderr) == (2, True)


def test_a_migration_there_and_back(service: Daemon, run: Run) -> None:
    done = run("migrate", "run", "--to=containerd", "--max-unavailable=2", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "Migration 1 from docker to containerd: done after" in done.stdout
    assert "pods: 3 done" in done.stdout
    assert "default/web-2 done" in done.stdout
    assert "images: 1 of 1, 150 MB of 150 MB copied" in run("migrate", "status").stdout

    done = run("migrate", "finish")
    assert done.returncode == 3
    assert "3 ended pods of docker kept as records in this service." in done.stdout
    assert "docker is still needed:\n  default/job (sandbox" in done.stdout
    assert "3 records kept" in run("status").stdout

    done = run("migrate", "rollback", "--output=json")
    assert done.returncode == 0, done.stderr
    states = [json.loads(line)["state"] for line in done.stdout.splitlines()]
    assert states[-1] == "done"
    assert document(run("status", "--output=json"))["default_engine"] == "docker"


def test_a_migration_is_detached_from_paused_resumed_and_aborted(service: Daemon, run: Run) -> None:
    done = run("migrate", "run", "--to=containerd", "--detach", "--settle=5")
    assert done.returncode == 0
    assert "Migration 1 from docker to containerd" in done.stdout
    assert "paused" in run("migrate", "pause").stdout
    done = run("migrate", "run", "--to=containerd")
    assert (done.returncode, "is paused: abort it" in done.stderr) == (1, True)
    assert run("migrate", "resume", "--detach").returncode == 0
    assert run("migrate", "abort").returncode in (0, 3)
    done = run("migrate", "status", "--watch", "--output=json")
    assert done.returncode == 3
    assert document(done)["state"] == "aborted"


def test_a_follower_goes_on_after_the_service_was_killed(service: Daemon, socket: Path, run: Run) -> None:
    run("migrate", "run", "--to=containerd", "--detach", "--settle=3")
    follow = [str(PROGRAM), "migrate", "status", "--watch", f"--admin-endpoint=unix://{socket}"]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline()
        service.kill()
        service.start(lambda: answers(socket))
        rest = follower.stdout.read()
    # The node in memory is another one now, on which the pod that was on its way is at the source.
    assert follower.returncode in (0, 3)
    assert "Migration 1 from docker to containerd: " in rest


def test_whoever_stops_looking_is_told_that_it_goes_on(service: Daemon, socket: Path, run: Run) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(PROGRAM), "migrate", "run", "--to=containerd", f"--admin-endpoint=unix://{socket}", *QUICK]
    with open(writer, "wb") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, "the migration goes on" in done.stderr) == (1, True)


def test_an_interrupted_command_does_not_say_that_what_was_not_begun_goes_on(
    service: Daemon, socket: Path, run: Run
) -> None:
    """A rollback waits for the pods that are on their way, and begins nothing when its caller goes."""
    run("migrate", "run", "--to=containerd", "--detach", "--settle=30")
    wait_until(lambda: "settling" in run("migrate", "status").stdout, "a pod on its way")
    run("migrate", "pause")
    rollback = [str(PROGRAM), "migrate", "rollback", f"--admin-endpoint=unix://{socket}"]
    with subprocess.Popen(rollback, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(4)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)[1]
    assert (process.returncode, "has not answered yet" in said) == (130, True), said


def test_wrong_options_are_refused(service: Daemon, run: Run) -> None:
    for words, text in (
        (("--to=podman",), "invalid choice"),
        (("--to=containerd", "--pod=web"), "write namespace/name"),
        (("--to=containerd", "--max-unavailable=0"), "at least one pod"),
        (("--to=containerd", "--pods-json=/nowhere"), "cannot be read"),
    ):
        done = run("migrate", "plan", *words)
        assert (done.returncode, text in done.stderr) == (2, True), done.stderr
    for flag in ("--settle", "--timeout"):
        for seconds in ("0", "-1", "nan"):  # 0 would mean the default to the service
            done = run("migrate", "run", "--to=containerd", f"{flag}={seconds}")
            assert (done.returncode, f"{flag}: give more than 0 seconds" in done.stderr) == (2, True), done.stderr


def test_a_terminal_gets_a_live_picture(service: Daemon, socket: Path) -> None:
    ours, theirs = pty.openpty()
    command = [str(PROGRAM), "migrate", "run", "--to=containerd", f"--admin-endpoint=unix://{socket}", *QUICK]
    process = subprocess.Popen(command, stdout=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait(20) == 0
    assert "docker → containerd" in shown.decode()
    assert "pods: 3 done" in shown.decode()


def test_only_root_may_call(service: Daemon, socket: Path) -> None:
    assert socket.stat().st_mode & 0o777 == 0o600
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    for path in (socket.parent.parent, socket.parent):
        path.chmod(0o755)
    socket.chmod(0o666)
    connect = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(socket)!r}); print(s.recv(1))"
    done = subprocess.run(["/usr/bin/python3", "-c", connect], user=65534, capture_output=True, text=True, timeout=20)
    assert done.stdout == "b''\n", done.stderr
    assert "by process" in service.log_tail()
