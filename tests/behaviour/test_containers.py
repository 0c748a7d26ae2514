"""CreateContainer, StartContainer, StopContainer, RemoveContainer, ContainerStatus, ListContainers."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests import images
from tests.behaviour.client import Container, Cri, Pod, eventually, host_pids, refused
from tests.behaviour.registries import push
from tests.engines import RegistryServer

KUBELET_LABELS = {
    "io.kubernetes.pod.name": "web-0",
    "io.kubernetes.pod.namespace": "behaviour",
    "io.kubernetes.pod.uid": "u1",
    "io.kubernetes.container.name": "web",
}
KUBELET_ANNOTATIONS = {
    "io.kubernetes.container.hash": "1a2b3c4d",
    "io.kubernetes.container.restartCount": "3",
    "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
    "io.kubernetes.container.terminationMessagePolicy": "File",
    "io.kubernetes.container.preStopHandler": '{"exec":{"command":["sh","-c","echo \\"bye\\"\\nexit"]}}',
    "io.kubernetes.container.ports": '[{"name":"http","containerPort":80,"protocol":"TCP"}]',
    "io.kubernetes.pod.terminationGracePeriod": "30",
    "empty": "",
    "umlaut": "ü\u2028",
}


@pytest.mark.behaviour("CRE-06", "CRE-01", "CST-02", "CST-16", "LCT-01", "LCT-02")
def test_created_container_is_complete_and_runs_nothing(pod: Pod) -> None:
    container = pod.create()
    status = container.status()
    assert status.id == container.id
    assert status.state == pb.CONTAINER_CREATED
    assert status.metadata == container.config.metadata
    assert status.created_at
    assert (status.started_at, status.finished_at, status.exit_code) == (0, 0, 0)
    assert status.image.image
    assert status.image_ref
    listed = container.listed()
    assert listed.pod_sandbox_id == pod.id
    assert listed.state == pb.CONTAINER_CREATED
    assert not [pid for pid in host_pids(container.id) if "sleep" in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.mark.behaviour("CRE-13", "LCT-01", "CST-04")
def test_labels_and_annotations_are_kept_to_the_byte(pod: Pod) -> None:
    container = pod.create(labels=KUBELET_LABELS, annotations=KUBELET_ANNOTATIONS)
    for _ in range(2):
        for view in (container.status(), container.listed()):
            assert dict(view.labels) == KUBELET_LABELS
            assert dict(view.annotations) == KUBELET_ANNOTATIONS
        container.start() if container.status().state == pb.CONTAINER_CREATED else None


@pytest.mark.behaviour("CRE-13")
def test_labels_of_the_image_are_not_the_containers(pod: Pod) -> None:
    assert dict(pod.create(image="entrypoint", labels={"a": "b"}).status().labels) == {"a": "b"}


@pytest.mark.behaviour("CST-05", "CST-03", "IMG-30", "IMG-64", "CRE-04", "CRE-05", "LCT-03", "CST-04")
@pytest.mark.parametrize("form", ["id", "tag", "digest"])
def test_one_image_id_everywhere(cri: Cri, registry: RegistryServer, pod: Pod, form: str) -> None:
    reference = push(registry.address, "forms", "1", images.build(images.BUSYBOX))
    image_id = cri("PullImage", image=pb.ImageSpec(image=reference)).image_ref
    image = cri.image(image_id)
    assert image is not None
    assert image.id == image_id
    container = pod.create(image={"id": image_id, "tag": reference, "digest": image.repo_digests[0]}[form])
    status, listed = container.status(), container.listed()
    for shown in (status.image.image, status.image_ref, listed.image.image, listed.image_ref):
        resolved = cri.image(shown)
        assert resolved is not None, shown
        assert resolved.id == image_id


@pytest.mark.behaviour("CST-04")
@pytest.mark.differs_from_containerd("it forgets what the user wrote")
def test_status_has_the_image_as_the_user_wrote_it(cri: Cri, pod: Pod) -> None:
    config = cri.container_config()
    config.image.user_specified_image = "busybox:latest"
    assert pod.create_from(config).status().image.user_specified_image == "busybox:latest"


@pytest.mark.behaviour("CST-05", "IMG-64")
@pytest.mark.differs_from_containerd("the fields are newer than 2.1")
def test_container_has_the_image_id(cri: Cri, pod: Pod) -> None:
    container = pod.create()
    assert container.status().image_id == cri.images["busybox"]
    assert container.listed().image_id == cri.images["busybox"]


@pytest.mark.behaviour("CRE-04", "CRE-07")
@pytest.mark.parametrize("image", ["sha256:" + "0" * 64, "example.invalid/never/pulled:1"])
def test_unknown_image_is_refused_and_leaves_nothing(cri: Cri, pod: Pod, image: str) -> None:
    config = cri.container_config(image=image)
    with refused():
        pod.create_from(config)
    assert config.metadata.name not in {item.metadata.name for item in cri.containers(pod_sandbox_id=pod.id)}
    config.image.image = cri.images["busybox"]
    pod.create_from(config).remove()


@pytest.mark.behaviour("CRE-08")
@pytest.mark.parametrize(
    ("command", "args", "printed"),
    [
        ([], [], "from-entrypoint from-cmd"),
        ([], ["given"], "from-entrypoint given"),
        (["echo"], [], ""),
        (["echo", "mine"], ["and", "args"], "mine and args"),
    ],
)
def test_command_and_args_replace_those_of_the_image(
    pod: Pod, command: list[str], args: list[str], printed: str
) -> None:
    container = pod.run(image="entrypoint", command=command, args=args)
    assert container.output() == printed


@pytest.mark.behaviour("CRE-10", "CRE-11")
def test_working_directory_and_environment(pod: Pod) -> None:
    inherited = pod.start("sh", "-c", "pwd; sleep 1000", image="entrypoint")
    assert inherited.sh("pwd") == "/var/www"
    assert inherited.sh("echo $FROM_IMAGE") == "yes"
    envs = [
        pb.KeyValue(key="FROM_IMAGE", value=b"no"),
        pb.KeyValue(key="TWICE", value=b"first"),
        pb.KeyValue(key="TWICE", value=b"second"),
        pb.KeyValue(key="ODD", value="a=b\nc ü".encode()),
        pb.KeyValue(key="EMPTY", value=b""),
    ]
    container = pod.start(image="entrypoint", envs=envs, working_dir="/made/on/demand")
    assert container.sh("pwd") == "/made/on/demand"
    assert container.sh('echo "$FROM_IMAGE|$TWICE|$ODD|$EMPTY|${EMPTY+set}"') == "no|second|a=b\nc ü||set"
    assert container.sh("echo $PATH").startswith("/")
    environment = container.exec("cat", "/proc/self/environ").stdout
    assert environment.count(b"TWICE=") == 1


@pytest.mark.behaviour("CRE-11")
@pytest.mark.differs_from_containerd("its API of this version refuses what is not UTF-8 in a string")
def test_environment_need_not_be_utf8_or_is_refused(pod: Pod) -> None:
    try:
        container = pod.start(envs=[pb.KeyValue(key="RAW", value=b"\xff\xfe=")])
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
            raise
        pytest.skip(f"refused: {error.details()}")
    assert b"RAW=\xff\xfe=\0" in container.exec("cat", "/proc/self/environ").stdout


@pytest.mark.behaviour("CRE-11", "CRE-07")
@pytest.mark.differs_from_containerd("the process never starts, or starts with a part of it")
def test_nul_in_the_environment_is_refused(cri: Cri, pod: Pod) -> None:
    before = len(cri.containers(pod_sandbox_id=pod.id))
    with refused():
        pod.create(envs=[pb.KeyValue(key="CUT", value=b"a\0b")])
    assert len(cri.containers(pod_sandbox_id=pod.id)) == before


@pytest.mark.behaviour("CRE-12", "LOG-05", "CRE-14", "CST-12")
def test_tty_has_one_stream_and_a_terminal(pod: Pod) -> None:
    container = pod.run("sh", "-c", "tty && echo out && echo err >&2", tty=True)
    assert {entry.stream for entry in container.log()} == {"stdout"}
    text = container.output().replace("\r", "")
    assert text.splitlines()[1:] == ["out", "err"]
    assert text.startswith("/dev/")
    assert container.status().log_path == str(container.log_path)


@pytest.mark.behaviour("CRE-12")
def test_stdin_is_open_only_when_asked_for(pod: Pod) -> None:
    assert pod.run("sh", "-c", "cat; echo end").output() == "end"
    waiting = pod.start("sh", "-c", "echo begin; cat; echo end", stdin=True)
    eventually(waiting.output, bool, "the begin")
    threading.Event().wait(0.3)
    assert waiting.status().state == pb.CONTAINER_RUNNING


@pytest.mark.behaviour("CRE-15", "SCC-01", "CAP-03", "RUN-11")
def test_container_without_a_linux_part_has_the_defaults(pod: Pod) -> None:
    status = pod.start(linux=None).sh("cat /proc/self/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Seccomp"] == "0"
    assert fields["NoNewPrivs"] == "0"
    assert int(fields["CapEff"], 16) & 1 << 12 == 0
    assert int(fields["CapEff"], 16) & 1 << 10


@pytest.mark.behaviour("CRE-16", "STO-04", "CST-15")
@pytest.mark.parametrize(
    ("image", "asked", "name"),
    [
        ("busybox", pb.RUNTIME_DEFAULT, "TERM"),
        ("stop-signal", pb.RUNTIME_DEFAULT, "USR1"),
        pytest.param(
            "stop-signal",
            pb.SIGHUP,
            "HUP",
            marks=pytest.mark.differs_from_containerd("the field is newer than 2.1"),
        ),
    ],
)
def test_stop_signal_of_config_then_image_then_term(pod: Pod, image: str, asked: int, name: str) -> None:
    traps = "; ".join(f"trap 'echo got {signal}; exit 0' {signal}" for signal in ("TERM", "USR1", "HUP"))
    container = pod.start(
        "sh", "-c", f"{traps}; echo ready; while :; do sleep 0.1; done", image=image, stop_signal=asked
    )
    eventually(container.output, lambda text: text == "ready", "the traps")
    assert container.status().stop_signal in (pb.Signal.Value(f"SIG{name}"), pb.RUNTIME_DEFAULT)
    container.stop(20)
    assert container.output().splitlines()[1:] == [f"got {name}"]


@pytest.mark.behaviour("CST-15")
@pytest.mark.differs_from_containerd("the field is newer than 2.1")
def test_status_shows_the_effective_stop_signal(pod: Pod) -> None:
    assert pod.create(image="stop-signal").status().stop_signal == pb.SIGUSR1
    assert pod.create(stop_signal=pb.SIGINT).status().stop_signal == pb.SIGINT


@pytest.mark.behaviour("CRE-17", "RMC-03")
def test_volume_of_the_image_starts_with_its_content(pod: Pod) -> None:
    one, two = (pod.start(image="volume") for _ in range(2))
    assert one.sh("cat /data/seed") == "from the image"
    one.sh("echo changed >/data/seed")
    assert two.sh("cat /data/seed") == "from the image"
    assert one.sh("grep -c ' /data ' /proc/mounts") == "1"
    assert not one.status().mounts


@pytest.mark.behaviour("CRE-18")
def test_unresolvable_cdi_device_is_refused(pod: Pod) -> None:
    with refused():
        pod.create(CDI_devices=[pb.CDIDevice(name="example.com/nothing=none")])
    with refused():
        pod.create(annotations={"cdi.k8s.io/test": "example.com/nothing=none"})


@pytest.mark.behaviour("CRE-18")
def test_cdi_device_brings_what_its_file_says(pod: Pod) -> None:
    folder = Path("/etc/cdi")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    spec = folder / f"behaviour-{os.getpid()}.json"
    device = {
        "name": "one",
        "containerEdits": {"env": ["CDI_GAVE=this"], "deviceNodes": [{"path": "/dev/zero", "hostPath": "/dev/zero"}]},
    }
    spec.write_text(json.dumps({"cdiVersion": "0.5.0", "kind": f"example.com/b{os.getpid()}", "devices": [device]}))
    try:
        name = f"example.com/b{os.getpid()}=one"
        container = eventually(lambda: _try_start(pod, name), bool, "the new CDI file being noticed", 10)
        assert container.sh("echo $CDI_GAVE") == "this"
    finally:
        spec.unlink()
        if made:
            folder.rmdir()


def _try_start(pod: Pod, device: str) -> Container | None:
    try:
        return pod.start(CDI_devices=[pb.CDIDevice(name=device)])
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED or "not support" in str(error.details()):
            pytest.skip(f"no CDI here: {error.details()}")
        return None


@pytest.mark.behaviour("STT-02", "CST-16", "LOG-13", "STT-04")
def test_started_container_runs_and_has_its_log(pod: Pod) -> None:
    container = pod.create("sleep", "1000")
    before = time.time_ns()
    container.start()
    status = container.status()
    assert status.state == pb.CONTAINER_RUNNING
    assert before <= status.started_at <= time.time_ns()
    assert status.finished_at == 0
    assert container.log_path.exists()
    assert container.log_path.stat().st_size == 0


@pytest.mark.behaviour("STT-02", "CST-06", "CST-08", "CST-16", "STO-09")
@pytest.mark.differs_from_containerd("a process that ends at once may have ended before it was started")
@pytest.mark.parametrize(("code", "reason"), [(0, "Completed"), (1, "Error"), (7, "Error"), (255, "Error")])
def test_end_of_a_container_has_code_reason_and_times(pod: Pod, code: int, reason: str) -> None:
    status = pod.run("sh", "-c", f"exit {code}").status()
    assert (status.exit_code, status.reason) == (code, reason)
    assert status.created_at <= status.started_at <= status.finished_at <= time.time_ns()


@pytest.mark.behaviour("CRE-09", "STT-03", "STT-05", "STT-06", "CST-09", "CST-06")
@pytest.mark.parametrize("command", ["/no/such/program", "/etc/passwd"])
def test_failed_start_is_shown_as_such(cri: Cri, pod: Pod, command: str) -> None:
    container = pod.create(command)
    with pytest.raises(grpc.RpcError) as failure:
        container.start()
    assert command in failure.value.details()
    status = container.status()
    assert status.state == pb.CONTAINER_EXITED
    assert status.exit_code in (126, 127, 128)
    assert status.reason in ("StartError", "ContainerCannotRun")
    assert command in status.message
    assert status.finished_at
    container.remove()


@pytest.mark.behaviour("STT-03")
def test_failed_start_exits_with_128(pod: Pod) -> None:
    container = pod.create("/no/such/program")
    with refused():
        container.start()
    status = container.status()
    assert (status.exit_code, status.reason, status.started_at) == (128, "StartError", 0)


@pytest.mark.behaviour("STT-01", "STT-07")
def test_start_during_the_end_of_the_pod_leaves_nothing_running(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    containers = [pod.create() for _ in range(3)]
    calls = [cri.begin("StartContainer", container_id=container.id) for container in containers]
    pod.stop()
    for call in calls:
        call.code()
    for container in containers:
        assert container.status().state != pb.CONTAINER_RUNNING
        assert not [pid for pid in host_pids(container.id) if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.behaviour("STO-01", "STO-03", "STO-08", "GEN-17", "STO-12")
def test_stop_waits_for_a_soft_end(pod: Pod) -> None:
    container = pod.start("sh", "-c", "trap 'sleep 1; echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    eventually(container.output, lambda text: text == "ready", "the trap")
    container.stop(30)
    status = container.status()
    assert (status.state, status.exit_code, status.reason) == (pb.CONTAINER_EXITED, 3, "Error")
    assert container.output().splitlines() == ["ready", "bye"]
    assert not host_pids(container.id)


@pytest.mark.behaviour("STO-01", "STO-08")
def test_stop_kills_after_the_grace(pod: Pod) -> None:
    container = pod.start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    eventually(container.output, lambda text: text == "ready", "the trap")
    started = time.monotonic()
    container.stop(2)
    assert 1.5 < time.monotonic() - started < 10
    status = container.status()
    assert (status.state, status.exit_code, status.reason) == (pb.CONTAINER_EXITED, 137, "Error")


@pytest.mark.behaviour("STO-02", "STO-08", "GEN-17")
@pytest.mark.parametrize("timeout", [0, -1])
def test_stop_without_grace_kills_at_once(pod: Pod, timeout: int) -> None:
    container = pod.start("sh", "-c", "trap 'sleep 60' TERM; sleep 600 & sleep 600")
    started = time.monotonic()
    container.stop(timeout)
    assert container.status().state == pb.CONTAINER_EXITED
    assert time.monotonic() - started < 8
    assert container.status().exit_code == 137
    eventually(lambda: host_pids(container.id), lambda pids: not pids, "the end of all its processes", 5)


@pytest.mark.behaviour("STO-08")
def test_default_end_by_term_is_143(new_pod: Callable[..., Pod]) -> None:
    options = pb.NamespaceOption(pid=pb.POD)
    sandbox = pb.LinuxSandboxSecurityContext(namespace_options=options)
    container = pb.LinuxContainerSecurityContext(namespace_options=options)
    pod = new_pod(linux=pb.LinuxPodSandboxConfig(security_context=sandbox))
    sleeping = pod.start("sleep", "1000", linux=pb.LinuxContainerConfig(security_context=container))
    sleeping.stop(20)
    assert sleeping.status().exit_code == 143


@pytest.mark.behaviour("STO-02")
def test_kill_takes_all_processes_with_a_shared_pid_namespace(new_pod: Callable[..., Pod]) -> None:
    options = pb.NamespaceOption(pid=pb.POD)
    sandbox = pb.LinuxSandboxSecurityContext(namespace_options=options)
    context = pb.LinuxContainerSecurityContext(namespace_options=options)
    pod = new_pod(linux=pb.LinuxPodSandboxConfig(security_context=sandbox))
    container = pod.start(
        "sh", "-c", "setsid sleep 4321 & sleep 4322", linux=pb.LinuxContainerConfig(security_context=context)
    )
    eventually(lambda: len(host_pids(container.id)), lambda count: count == 2, "two processes")
    container.stop()
    eventually(lambda: host_pids(container.id), lambda pids: not pids, "the end of all its processes", 5)


@pytest.mark.behaviour("STO-06")
def test_second_stop_may_shorten_the_life(cri: Cri, pod: Pod) -> None:
    container = pod.start("sh", "-c", "trap 'echo signal' TERM; echo ready; while :; do sleep 0.1; done")
    eventually(container.output, lambda text: text == "ready", "the trap")
    patient = cri.begin("StopContainer", container_id=container.id, timeout=40)
    eventually(container.output, lambda text: "signal" in text, "the signal")
    started = time.monotonic()
    container.stop(1)
    patient.result(timeout=10)
    assert time.monotonic() - started < 15
    assert container.output().count("signal") == 1


@pytest.mark.behaviour("STO-07", "GEN-14")
def test_stop_whose_caller_has_gone_does_not_kill_early(cri: Cri, pod: Pod) -> None:
    container = pod.start("sh", "-c", "trap 'echo signal' TERM; echo ready; while :; do sleep 0.1; done")
    eventually(container.output, lambda text: text == "ready", "the trap")
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        cri("StopContainer", container_id=container.id, timeout=60, deadline=1)
    threading.Event().wait(1)
    assert container.status().state == pb.CONTAINER_RUNNING
    container.stop(0)
    assert container.status().state == pb.CONTAINER_EXITED


@pytest.mark.behaviour("RMC-01", "RMC-02", "RMC-03", "RMC-05")
@pytest.mark.parametrize("state", ["created", "running", "exited"])
def test_container_is_removed_from_every_state_but_its_log_stays(cri: Cri, pod: Pod, state: str) -> None:
    container = pod.create("sh", "-c", "echo hello; [ $0 = exited ] || sleep 1000", state)
    if state != "created":
        container.start()
        eventually(container.output, bool, "the output")
    if state == "exited":
        container.wait()
        assert container.status().log_path == str(container.log_path)
    container.remove()
    assert not cri.containers(id=container.id)
    with refused(grpc.StatusCode.NOT_FOUND):
        container.status()
    assert not host_pids(container.id)
    if state != "created":
        assert container.output() == "hello"


@pytest.mark.behaviour("RMC-04")
def test_concurrent_removals_end_well(cri: Cri, pod: Pod) -> None:
    container = pod.start()
    calls = [cri.begin("RemoveContainer", container_id=container.id) for _ in range(4)]
    for call in calls:
        call.code()
    container.remove()
    assert not cri.containers(id=container.id)


@pytest.mark.behaviour("CST-02", "CST-03", "LCT-07", "IMG-53", "IMG-51", "GEN-17")
def test_status_is_complete_after_the_image_has_gone(
    cri: Cri, registry: RegistryServer, pod: Pod, unique_image: object
) -> None:
    reference = push(registry.address, "gone", f"t{time.monotonic_ns()}", unique_image)  # type: ignore[arg-type]
    image_id = cri("PullImage", image=pb.ImageSpec(image=reference)).image_ref
    running, dead = pod.start(image=image_id), pod.run("true", image=image_id)
    with contextlib.suppress(grpc.RpcError):
        cri("RemoveImage", image=pb.ImageSpec(image=image_id))
        assert cri.image(image_id) is None
    for container in (running, dead):
        status, listed = container.status(), container.listed()
        assert status.image.image
        assert status.image_ref
        assert listed.image_ref
    assert running.exec("true").exit_code == 0
    running.remove()
    dead.remove()
    cri("RemoveImage", image=pb.ImageSpec(image=image_id))
    assert cri.image(reference) is None


@pytest.mark.behaviour("CST-06", "CST-08", "EXS-12")
def test_death_by_signal_is_128_and_its_number(pod: Pod) -> None:
    container = pod.start()
    os.kill(host_pids(container.id)[0], 9)
    status = container.wait()
    assert (status.exit_code, status.reason) == (137, "Error")


@pytest.mark.behaviour("CST-10", "CST-11", "MNT-10", "MNT-11")
def test_termination_message_is_found_through_the_mounts(pod: Pod, host_directory: Path) -> None:
    message = host_directory / "termination-log"
    message.touch(mode=0o666)
    mount = pb.Mount(container_path="/dev/termination-log", host_path=str(message))
    container = pod.run("sh", "-c", "echo farewell >/dev/termination-log; exit 1", mounts=[mount])
    (path,) = [item.host_path for item in container.status().mounts if item.container_path == "/dev/termination-log"]
    assert Path(path).read_text() == "farewell\n"


@pytest.mark.behaviour("CST-11", "LOG-07")
def test_log_is_complete_when_the_end_is_seen(pod: Pod) -> None:
    for _ in range(3):
        container = pod.start("sh", "-c", "seq 1 2000; echo last")
        while container.status().state != pb.CONTAINER_EXITED:
            pass
        assert container.output().endswith("2000\nlast")


@pytest.mark.behaviour("CST-17")
def test_verbose_status_of_a_container_is_json(cri: Cri, container: Container) -> None:
    assert not cri("ContainerStatus", container_id=container.id).info
    info = cri("ContainerStatus", container_id=container.id, verbose=True).info
    assert json.loads(info["info"])["pid"] in host_pids(container.id)


@pytest.mark.behaviour("CST-19", "LOD-32", "LOD-33")
def test_status_and_lists_are_quick(cri: Cri, container: Container) -> None:
    for method, fields in (
        ("ContainerStatus", {"container_id": container.id}),
        ("ListContainers", {}),
        ("ListPodSandbox", {}),
    ):
        started = time.monotonic()
        for _ in range(50):
            cri(method, **fields)
        assert (time.monotonic() - started) / 50 < 0.05


@pytest.mark.behaviour("LCT-04", "LCT-05", "IDM-11")
def test_filters_of_the_list_of_containers(cri: Cri, pod: Pod, new_pod: Callable[..., Pod]) -> None:
    mark = {"group": f"g{time.monotonic_ns()}"}
    running = pod.start(labels={**mark, "kind": "a"})
    dead = pod.run("true", labels={**mark, "kind": "b"})
    elsewhere = new_pod().create(labels=mark)

    def ids(**conditions: object) -> set[str]:
        return {item.id for item in cri.containers(**conditions)}

    def state(value: int) -> pb.ContainerStateValue:
        return pb.ContainerStateValue(state=value)

    everything = {running.id, dead.id, elsewhere.id}
    assert everything <= ids()
    assert everything <= {item.id for item in cri("ListContainers").containers}
    assert ids(label_selector=mark) == everything
    assert ids(label_selector=mark, pod_sandbox_id=pod.id) == {running.id, dead.id}
    assert ids(label_selector={**mark, "kind": "b"}) == {dead.id}
    assert ids(label_selector=mark, state=state(pb.CONTAINER_RUNNING)) == {running.id}
    assert ids(label_selector=mark, state=state(pb.CONTAINER_EXITED)) == {dead.id}
    assert ids(label_selector=mark, state=state(pb.CONTAINER_CREATED)) == {elsewhere.id}
    assert ids(id=dead.id, state=state(pb.CONTAINER_RUNNING)) == set()
    assert ids(id=dead.id, pod_sandbox_id=elsewhere.pod.id) == set()


@pytest.mark.behaviour("LCT-01", "LCT-06")
def test_list_and_status_of_a_container_agree(pod: Pod) -> None:
    container = pod.run("true", labels={"a": "b"}, annotations={"c": "d"})
    listed, status = container.listed(), container.status()
    for name in ("id", "metadata", "state", "created_at", "labels", "annotations", "image_id"):
        assert getattr(listed, name) == getattr(status, name), name
    later = pod.create()
    assert later.status().created_at > status.created_at
