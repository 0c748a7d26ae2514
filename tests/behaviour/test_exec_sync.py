"""ExecSync."""

from __future__ import annotations

import os
import signal
import threading
import time

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, eventually, host_pids, refused, shim_of, stopped_shim
from tests.behaviour.conftest import OWN_SERVICE
from tests.engines import DockerEngine, RealEngine

DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
MIB = 1024 * 1024


@pytest.mark.behaviour("EXS-02", "EXS-03")
def test_outputs_are_exact_and_apart(container: Container) -> None:
    done = container.exec("sh", "-c", "printf 'a\\000b\\377\\n'; printf oops >&2; exit 7")
    assert (done.stdout, done.stderr, done.exit_code) == (b"a\0b\xff\n", b"oops", 7)


@pytest.mark.behaviour("EXS-02")
def test_stdin_is_at_its_end(container: Container) -> None:
    assert container.exec("sh", "-c", "cat; echo end", timeout=5).stdout == b"end\n"
    assert container.exec("sh", "-c", "tty", timeout=5).stdout.startswith(b"not a tty")


@pytest.mark.behaviour("EXS-03", "EXS-12")
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)])
def test_exit_code_is_not_an_error(container: Container, script: str, code: int) -> None:
    assert container.exec("sh", "-c", script).exit_code == code


@pytest.mark.behaviour("EXS-01", "IDM-10")
@pytest.mark.parametrize("state", ["created", "exited"])
def test_exec_in_what_does_not_run_is_refused(pod: Pod, state: str) -> None:
    container = pod.create("true") if state == "created" else pod.run("true")
    with refused():
        container.exec("true")


@pytest.mark.behaviour("EXS-01")
def test_empty_command_is_refused(container: Container) -> None:
    with refused():
        container.exec()


@pytest.mark.behaviour("EXS-04")
@pytest.mark.parametrize("command", ["/no/such/program", "/etc/passwd"])
def test_missing_command_is_an_error(container: Container, command: str) -> None:
    with refused():
        container.exec(command)


_LEAVES_CHILDREN = pytest.mark.differs_from_containerd("it kills the process alone, and waits for the others' pipes")


@pytest.mark.behaviour("EXS-05", "EXS-07")
@pytest.mark.parametrize(
    "script",
    [
        "exec sleep 7655",
        pytest.param("sleep 7654 & sleep 7655; true", marks=_LEAVES_CHILDREN),
        pytest.param("trap '' TERM; setsid sleep 7656 & while :; do sleep 1; done", marks=_LEAVES_CHILDREN),
    ],
    ids=["one process", "children", "a session of its own"],
)
def test_timeout_kills_what_was_started(cri: Cri, container: Container, script: str) -> None:
    started = time.monotonic()
    with refused(DEADLINE_EXCEEDED):
        cri("ExecSync", container_id=container.id, cmd=["sh", "-c", script], timeout=1, deadline=12)
    assert 0.9 < time.monotonic() - started < 6
    eventually(lambda: container.sh("ps -o args"), lambda text: "sleep 765" not in text, "the kill", 5)
    assert container.status().state == pb.CONTAINER_RUNNING


@pytest.mark.behaviour("EXS-05", "EXS-11")
@pytest.mark.parametrize("timeout", [0, -1])
def test_no_timeout_is_no_limit(container: Container, timeout: int) -> None:
    assert container.exec("sh", "-c", "sleep 2; echo done", timeout=timeout).stdout == b"done\n"


@OWN_SERVICE
@pytest.mark.behaviour("EXS-05", "EXS-08")
@pytest.mark.parametrize("given_up", ["by the timeout", "by the caller"])
def test_command_that_is_not_up_when_it_is_given_up_is_killed_later(
    cri: Cri, pod: Pod, engine: RealEngine, given_up: str
) -> None:
    if not isinstance(engine, DockerEngine):
        pytest.skip("containerd answers when the process is up")
    container = pod.start()
    with stopped_shim(container.id):
        started = time.monotonic()
        call = cri.begin("ExecSync", container_id=container.id, cmd=["sleep", "7659"], timeout=1)
        eventually(lambda: engine.exec_events(container.id), lambda events: "exec_start" in events, "the start")
        if given_up == "by the caller":
            call.cancel()
        else:
            with refused(DEADLINE_EXCEEDED):
                call.result()
            assert time.monotonic() - started < 3
        threading.Event().wait(0.3)
        assert "exec_die" not in engine.exec_events(container.id)
    events = eventually(lambda: engine.exec_events(container.id), lambda events: "exec_die" in events, "the end")
    assert events["exec_die"]["exitCode"] == "137"


@OWN_SERVICE
@pytest.mark.behaviour("EXS-08", "CST-08")
@pytest.mark.usefixtures("containerd_node")
def test_command_whose_shim_dies_ends_with_its_container(cri: Cri) -> None:
    pod = cri.run_pod()
    container, other = pod.start(), pod.start()
    call = cri.begin("ExecSync", container_id=container.id, cmd=["sleep", "7660"], timeout=0, deadline=40)
    eventually(lambda: container.sh("ps -o args"), lambda text: "sleep 7660" in text, "the process")
    container.exec("true")  # by then, the shim has answered that the one before is up
    os.kill(shim_of(container.id), signal.SIGKILL)
    for ended in (container, other):
        status = eventually(ended.status, lambda status: status.state == pb.CONTAINER_EXITED, "EXITED", 15)
        assert (status.exit_code, status.reason) in ((137, "Error"), (255, "Unknown"))
        assert host_pids(ended.id) == []
    assert call.result().exit_code == 255
    pod.remove()


@pytest.mark.behaviour("EXS-07")
@pytest.mark.differs_from_containerd("by default it waits for the pipes without a bound")
def test_background_child_does_not_hold_the_answer_for_ever(cri: Cri, container: Container) -> None:
    command = ["sh", "-c", "sleep 7657 & echo started"]
    done = cri("ExecSync", container_id=container.id, cmd=command, timeout=0, deadline=20)
    assert (done.exit_code, done.stdout) == (0, b"started\n")


@pytest.mark.behaviour("EXS-08", "GEN-14")
def test_cancelled_exec_ends_its_process(cri: Cri, container: Container) -> None:
    call = cri.begin("ExecSync", container_id=container.id, cmd=["sleep", "7658"], timeout=0)
    eventually(lambda: container.sh("ps -o args"), lambda text: "sleep 7658" in text, "the process")
    call.cancel()
    eventually(lambda: container.sh("ps -o args"), lambda text: "sleep 7658" not in text, "its end")


@pytest.mark.behaviour("EXS-06", "GEN-03")
@pytest.mark.parametrize("size", [1 * MIB, 10 * MIB])
def test_big_output_comes_whole(container: Container, size: int) -> None:
    done = container.exec("sh", "-c", f"yes 0123456789abcde | head -c {size}", timeout=60)
    assert done.exit_code == 0
    assert done.stdout == (b"0123456789abcde\n" * (size // 16 + 1))[:size]


@pytest.mark.behaviour("EXS-06", "GEN-03")
@pytest.mark.differs_from_containerd("its answer is larger than what its clients take")
def test_too_big_output_is_cut_to_what_a_client_takes(container: Container) -> None:
    both = "head -c 20000000 /dev/zero | tr '\\0' e >&2 & head -c 20000000 /dev/zero | tr '\\0' o; wait; exit 3"
    done = container.exec("sh", "-c", both, timeout=120)
    assert done.exit_code == 3
    assert set(done.stdout) == set(b"o")
    assert set(done.stderr) == set(b"e")
    assert len(done.stdout) > MIB
    assert len(done.stderr) > MIB


@pytest.mark.behaviour("EXS-09", "USR-06", "CAP-05")
def test_exec_runs_like_the_container(pod: Pod) -> None:
    context = pb.LinuxContainerSecurityContext(
        run_as_user=pb.Int64Value(value=1001),
        run_as_group=pb.Int64Value(value=1002),
        supplemental_groups=[1003],
        no_new_privs=True,
        capabilities=pb.Capability(drop_capabilities=["ALL"]),
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault),
    )
    container = pod.start(
        linux=pb.LinuxContainerConfig(security_context=context),
        envs=[pb.KeyValue(key="GIVEN", value=b"yes")],
        working_dir="/tmp",
    )
    assert container.sh("echo $GIVEN; pwd; id -u; id -g").split() == ["yes", "/tmp", "1001", "1002"]
    assert "1003" in container.sh("id -G").split()
    fields = dict(line.split(":\t", 1) for line in container.sh("cat /proc/self/status").splitlines())
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert int(fields["CapBnd"], 16) == 0
    assert int(fields["CapEff"], 16) == 0


@pytest.mark.behaviour("EXS-10", "LOD-35", "LOD-11")
def test_many_execs_at_once(container: Container) -> None:
    results: dict[int, bytes] = {}

    def run(number: int) -> None:
        results[number] = container.exec("sh", "-c", f"echo {number}; sleep 0.2; echo {number}").stdout

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: b"%d\n%d\n" % (number, number) for number in range(16)}


@pytest.mark.behaviour("EXS-10", "LOD-35")
def test_exec_is_quick_enough_for_probes(container: Container) -> None:
    started = time.monotonic()
    for _ in range(5):
        container.exec("true")
    assert (time.monotonic() - started) / 5 < 0.8


@pytest.mark.behaviour("EXS-02", "EXS-03")
def test_last_byte_is_never_lost(container: Container) -> None:
    for number in range(20):
        done = container.exec("sh", "-c", f"printf out{number}; printf err{number} >&2; exit {number}")
        assert (done.stdout, done.stderr) == (b"out%d" % number, b"err%d" % number)
        assert done.exit_code == number
