"""What every engine has to do: sandboxes, containers, names, events, snapshots."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from cri_dockerd_py.backends.base import ObjectAppeared, ObjectGone, ProcessExited, ProcessStarted
from cri_dockerd_py.errors import AlreadyExists, CriError, InvalidArgument, NotFound, Unknown
from cri_dockerd_py.model.container import ContainerMetadata, ContainerSpec, ContainerState, ImageSpec, Mount
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import DnsConfig, SandboxState
from cri_dockerd_py.model.security import (
    Capabilities,
    ContainerSecurity,
    NamespaceMode,
    NamespaceOptions,
    SandboxSecurity,
)
from tests import images
from tests.backends.conftest import HOST_DNS, OWN_PID, Backend, opened

ABSENT = "ab" * 32


# --- sandboxes


async def test_sandbox_life(backend: Backend) -> None:
    spec = backend.pod(hostname="web", labels={"a": ""}, annotations={"b": "c"}, dns=DnsConfig(("10.0.0.1",), ("x.y",)))
    created = await backend.create_sandbox(spec)
    before = await backend.engine.sandboxes.inspect(created.id)
    assert before is not None
    assert (before.state, before.pid) == (SandboxState.NOTREADY, 0)
    started = await backend.engine.sandboxes.start(created.id, spec)
    record = await backend.engine.sandboxes.inspect(created.id)
    assert record is not None
    assert (record.state, record.pid, record.id) == (SandboxState.READY, started.pid, created.id)
    assert os.readlink(f"/proc/{started.pid}/exe") == "/pause"
    assert record.spec.metadata == spec.metadata
    assert (record.spec.labels, record.spec.annotations) == (spec.labels, spec.annotations)
    assert (record.spec.hostname, record.spec.runtime_handler) == ("web", "")
    assert abs(record.created_at_ns - created.created_at_ns) < 10**10
    container_id = await backend.start(record)
    assert await backend.sh(container_id, "cat /etc/resolv.conf; hostname") == (
        "nameserver 10.0.0.1\nsearch x.y\nweb\n"
    )
    for _ in range(2):
        await backend.engine.sandboxes.kill(created.id)
        assert not Path(f"/proc/{started.pid}").exists()
    stopped = await backend.engine.sandboxes.inspect(created.id)
    assert stopped is not None
    assert (stopped.state, stopped.pid) == (SandboxState.NOTREADY, 0)
    for _ in range(2):
        await backend.engine.sandboxes.remove(created.id)
    assert await backend.engine.sandboxes.inspect(created.id) is None
    await backend.engine.sandboxes.kill(created.id)


@pytest.mark.behaviour("NET-02")
@pytest.mark.parametrize(("dns", "content"), [(None, HOST_DNS), (DnsConfig(), "")])
async def test_resolv_conf_without_settings(backend: Backend, dns: DnsConfig | None, content: str) -> None:
    sandbox = await backend.run(backend.pod(dns=dns))
    container_id = await backend.start(sandbox)
    assert await backend.sh(container_id, "cat /etc/resolv.conf") == content


@pytest.mark.behaviour("NSP-01", "NSP-04")
async def test_sandbox_on_the_node(backend: Backend) -> None:
    node = NamespaceOptions(network=NamespaceMode.NODE, pid=NamespaceMode.NODE, ipc=NamespaceMode.NODE)
    sandbox = await backend.run(backend.pod(security=SandboxSecurity(namespaces=node)))
    assert sandbox.spec.security.namespaces == node
    container_id = await backend.start(sandbox, security=ContainerSecurity(namespaces=node))
    pid = (await backend.look(container_id)).pid
    for namespace in ("net", "pid", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{namespace}") == os.readlink(f"/proc/self/ns/{namespace}"), namespace


@pytest.mark.behaviour("NSP-02", "NSP-03", "NSP-04")
async def test_namespaces_within_a_pod(backend: Backend) -> None:
    sandbox = await backend.run()
    own = await backend.start(sandbox)
    pod = await backend.start(sandbox, security=ContainerSecurity())
    target = NamespaceOptions(pid=NamespaceMode.TARGET, target_id=own)
    joined = await backend.start(sandbox, security=ContainerSecurity(namespaces=target))

    async def namespace(container_id: str, kind: str) -> str:
        return os.readlink(f"/proc/{(await backend.look(container_id)).pid}/ns/{kind}")

    pause = {kind: os.readlink(f"/proc/{sandbox.pid}/ns/{kind}") for kind in ("pid", "net", "ipc")}
    assert await namespace(pod, "pid") == pause["pid"]
    assert await namespace(own, "pid") not in (pause["pid"], os.readlink("/proc/self/ns/pid"))
    assert await namespace(joined, "pid") == await namespace(own, "pid")
    for container_id in (own, pod, joined):
        assert await namespace(container_id, "net") == pause["net"]
        assert await namespace(container_id, "ipc") == pause["ipc"]
    assert await backend.sh(pod, "cat /proc/1/comm") == "pause\n"


@pytest.mark.behaviour("RUN-14")
async def test_sysctls(backend: Backend) -> None:
    sysctls = {"kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "100"}
    sandbox = await backend.run(backend.pod(sysctls=sysctls))
    container_id = await backend.start(sandbox)
    assert (await backend.sh(container_id, "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max")) == (
        "1\n100\n"
    )
    with pytest.raises(CriError):
        await backend.run(backend.pod(sysctls={"kernel.panic": "1"}))


@pytest.mark.behaviour("RUN-05")
async def test_runtime_handlers(backend: Backend) -> None:
    sandbox = await backend.run(backend.pod(runtime_handler="crun"))
    assert sandbox.spec.runtime_handler == "crun"
    container_id = await backend.start(sandbox)
    assert backend.real.runtime_of(container_id) == "crun"
    with pytest.raises(InvalidArgument, match="kata"):
        await backend.create_sandbox(backend.pod(runtime_handler="kata"))


# --- names


@pytest.mark.behaviour("IDM-12")
async def test_a_name_that_lives_is_taken(backend: Backend) -> None:
    sandbox = await backend.run()
    with pytest.raises(AlreadyExists):
        await backend.create_sandbox(replace(sandbox.spec, hostname="other"))
    container_id = await backend.start(sandbox)
    spec = (await backend.look(container_id)).spec
    with pytest.raises(AlreadyExists):
        await backend.engine.containers.create(spec, await backend.image(), sandbox, log_path="")
    assert (await backend.look(container_id)).state is ContainerState.RUNNING


@pytest.mark.behaviour("CRE-07", "RUN-07")
async def test_a_dead_object_makes_way_for_its_successor(backend: Backend) -> None:
    sandbox = await backend.run()
    await backend.engine.sandboxes.kill(sandbox.id)
    created = await backend.create_sandbox(sandbox.spec)
    assert created.id != sandbox.id
    assert await backend.engine.sandboxes.inspect(sandbox.id) is None
    assert [record.id for record in (await backend.engine.events.snapshot()).sandboxes] == [created.id]


async def test_discard_unborn(backend: Backend) -> None:
    spec = backend.pod()
    await backend.engine.sandboxes.discard_unborn(spec)
    created = await backend.create_sandbox(spec)
    await backend.engine.sandboxes.discard_unborn(spec)
    assert await backend.engine.sandboxes.inspect(created.id) is None
    sandbox = await backend.run(spec)
    await backend.engine.sandboxes.discard_unborn(spec)
    assert await backend.engine.sandboxes.inspect(sandbox.id) is not None
    container_id = await backend.create(sandbox, "true", metadata=ContainerMetadata("c"))
    container = (await backend.look(container_id)).spec
    await backend.engine.containers.discard_unborn(container, sandbox)
    assert await backend.engine.containers.inspect(container_id) is None
    container_id = await backend.start(sandbox, "true", metadata=ContainerMetadata("c"))
    await backend.event(lambda event: isinstance(event, ProcessExited) and event.id == container_id)
    await backend.engine.containers.discard_unborn(container, sandbox)
    assert await backend.engine.containers.inspect(container_id) is not None


@pytest.mark.behaviour("GEN-14")
async def test_cancelled_creates_can_be_discarded(backend: Backend) -> None:
    for delay_s in (0.0, 0.001, 0.01, 0.03):
        spec = backend.pod()
        job = asyncio.ensure_future(backend.create_sandbox(spec))
        await asyncio.wait((job,), timeout=delay_s)
        job.cancel()
        await asyncio.wait((job,))
        await backend.engine.sandboxes.discard_unborn(spec)
        assert spec.metadata not in {
            record.spec.metadata for record in (await backend.engine.events.snapshot()).sandboxes
        }
        sandbox = await backend.run(spec)
        assert sandbox.state is SandboxState.READY
        await backend.engine.sandboxes.remove(sandbox.id)
        await backend.nothing_left()


async def test_a_sandbox_whose_files_cannot_be_made_leaves_nothing(backend: Backend) -> None:
    if not backend.engine.sandboxes.takes_netns:
        pytest.skip("Docker makes the files of its sandboxes itself")
    with pytest.raises(InvalidArgument, match="DNS server"):
        await backend.create_sandbox(backend.pod(dns=DnsConfig(servers=("192.0.2.1 search evil",))))
    assert not (await backend.engine.events.snapshot()).sandboxes
    await backend.nothing_left()


@pytest.mark.behaviour("CRE-19")
async def test_many_at_once(backend: Backend) -> None:
    sandbox = await backend.run()
    ids = await asyncio.gather(*(backend.start(sandbox) for _ in range(6)))
    assert len(set(ids)) == 6
    await asyncio.gather(*(backend.engine.containers.remove(container_id) for container_id in ids * 3))
    assert [await backend.engine.containers.inspect(container_id) for container_id in ids] == [None] * 6


# --- containers


async def test_container_life(backend: Backend) -> None:
    sandbox = await backend.run()
    image = await backend.image(images.STOP_SIGNAL)
    spec = ContainerSpec(
        ContainerMetadata("app", 3),
        ImageSpec(image.id),
        command=("sh", "-c"),
        args=('echo "$A $0"; trap "exit 7" USR1; while :; do sleep 0.01; done', "x"),
        envs=(("A", "b=c"), ("A", "last")),
        working_dir="/made/up",
        labels={"l": ""},
        annotations={"n": "v"},
    )
    created = await backend.engine.containers.create(spec, image, sandbox, log_path="")
    record = await backend.look(created.id)
    assert (record.state, record.pid, record.started_at_ns, record.finished_at_ns) == (ContainerState.CREATED, 0, 0, 0)
    assert record.sandbox_id == sandbox.id
    # The engine may note the time by itself; what was told first is what stays on record.
    assert record.created_at_ns == pytest.approx(created.created_at_ns, abs=1e9)
    assert (record.spec.metadata, record.spec.labels, record.spec.annotations) == (
        spec.metadata,
        spec.labels,
        spec.annotations,
    )
    assert (record.image_id, record.image_ref, record.image_name) == (image.id, created.image_ref, created.image_name)
    assert image.id in created.image_ref or created.image_ref.partition("://")[2] in image.repo_digests
    assert record.stop_signal == created.stop_signal
    started = await backend.engine.containers.start(created.id)
    assert started.pid > 0
    record = await backend.look(created.id)
    assert (record.state, record.pid, record.started_at_ns) == (
        ContainerState.RUNNING,
        started.pid,
        started.started_at_ns,
    )
    await backend.engine.containers.signal(created.id, signal.SIGUSR1)
    exited = await backend.event(lambda event: isinstance(event, ProcessExited) and event.id == created.id)
    assert isinstance(exited, ProcessExited)
    record = await backend.look(created.id)
    assert (record.state, record.exit_code, record.reason) == (ContainerState.EXITED, 7, "Error")
    assert (exited.exit_code, exited.oom_killed) == (7, False)
    assert record.finished_at_ns >= record.started_at_ns > 0
    await backend.engine.containers.signal(created.id, signal.SIGKILL)
    for _ in range(2):
        await backend.engine.containers.remove(created.id)
    assert await backend.engine.containers.inspect(created.id) is None
    await backend.engine.containers.signal(created.id, signal.SIGTERM)


@pytest.mark.behaviour("CRE-08")
@pytest.mark.parametrize(
    ("command", "args", "printed"),
    [
        ((), (), "from-entrypoint from-cmd"),
        ((), ("mine",), "from-entrypoint mine"),
        (("echo", "only"), (), "only"),
        (("echo",), ("a", ""), "a "),
    ],
)
async def test_command_and_arguments(
    backend: Backend, tmp_path: Path, command: tuple[str, ...], args: tuple[str, ...], printed: str
) -> None:
    sandbox = await backend.run()
    log = tmp_path / "0.log"
    container_id = await backend.create(sandbox, image=images.ENTRYPOINT, command=command, args=args, log_path=str(log))
    await backend.engine.containers.start(container_id)
    await backend.event(lambda event: isinstance(event, ProcessExited) and event.id == container_id)
    assert backend.logged(log) == printed
    await backend.engine.containers.remove(container_id)
    assert not log.is_symlink()


@pytest.mark.behaviour("CRE-09", "STT-05")
async def test_command_that_does_not_exist(backend: Backend) -> None:
    sandbox = await backend.run()
    container_id = await backend.create(sandbox, "/no/such/program")
    with pytest.raises(Unknown, match="no such file or directory"):
        await backend.engine.containers.start(container_id)
    record = await backend.look(container_id)
    assert (record.state, record.started_at_ns) == (ContainerState.EXITED, 0)
    assert record.finished_at_ns > 0
    await backend.engine.containers.remove(container_id)


@pytest.mark.behaviour("STO-13")
async def test_a_paused_container_is_killed(backend: Backend) -> None:
    sandbox = await backend.run()
    container_id = await backend.start(sandbox)
    backend.real.pause_container(container_id)
    assert (await backend.look(container_id)).state is ContainerState.RUNNING
    await backend.engine.containers.signal(container_id, signal.SIGKILL)
    assert (await backend.look(container_id)).exit_code == 137


@pytest.mark.behaviour("STO-02")
async def test_sigkill_takes_children_in_a_shared_pid_namespace(backend: Backend) -> None:
    sandbox = await backend.run()
    script = "setsid sleep 4711 & exec sleep 1000"
    container_id = await backend.start(sandbox, "sh", "-c", script, security=ContainerSecurity())
    other = await backend.start(sandbox, security=ContainerSecurity())
    assert "sleep 4711" in await backend.sh(other, "ps")
    await backend.engine.containers.signal(container_id, signal.SIGKILL)
    await backend.event(lambda event: isinstance(event, ProcessExited) and event.id == container_id)
    assert "sleep 4711" not in await backend.sh(other, "ps")


@pytest.mark.behaviour("CAP-01", "CAP-03")
async def test_capabilities(backend: Backend) -> None:
    sandbox = await backend.run()

    async def bounding(capabilities: Capabilities) -> int:
        security = replace(OWN_PID, capabilities=capabilities)
        container_id = await backend.start(sandbox, security=security)
        return int((await backend.sh(container_id, "grep CapBnd /proc/self/status")).split()[1], 16)

    everything = await bounding(Capabilities(("ALL",)))
    possible = _bounding_set_of(backend.real.daemon.pid)
    since_5_8 = 0b111 << 38  # PERFMON, BPF, CHECKPOINT_RESTORE, which Docker 20.10 may not know
    assert everything in (possible, possible & ~since_5_8)
    assert await bounding(Capabilities(("ALL",), ("CHOWN",))) == everything & ~1
    assert await bounding(Capabilities(("ALL", "CHOWN"), ("ALL",))) == 1
    assert await bounding(Capabilities((), ("ALL",))) == 0


def _bounding_set_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:"))


@pytest.mark.behaviour("CRE-02", "STP-05")
async def test_nothing_starts_in_a_dead_sandbox(backend: Backend) -> None:
    sandbox = await backend.run()
    container_id = await backend.create(sandbox, "true")
    await backend.engine.sandboxes.kill(sandbox.id)
    with pytest.raises(Unknown):
        await backend.engine.containers.start(container_id)


async def test_absent_containers(backend: Backend) -> None:
    assert await backend.engine.containers.inspect(ABSENT) is None
    await backend.engine.containers.remove(ABSENT)
    await backend.engine.containers.signal(ABSENT, signal.SIGKILL)
    for call in (
        backend.engine.containers.start(ABSENT),
        backend.engine.containers.update(ABSENT, Resources(cpu_shares=2)),
        backend.engine.containers.verbose(ABSENT),
        backend.engine.sandboxes.verbose(ABSENT),
    ):
        with pytest.raises(NotFound):
            await call
    assert await backend.engine.containers.inspect("../images") is None


async def test_objects_of_others_are_not_ours(backend: Backend) -> None:
    other = backend.real.make_foreign_container("other")
    assert await backend.engine.containers.inspect(other) is None
    assert await backend.engine.sandboxes.inspect(other) is None
    sandbox = await backend.run()
    assert await backend.engine.containers.inspect(sandbox.id) is None


@pytest.mark.behaviour("UCR-01", "UCR-02", "UCR-04")
async def test_update(backend: Backend) -> None:
    sandbox = await backend.run()
    limits = Resources(memory_limit_bytes=64 << 20, cpu_shares=100, cpu_quota_us=20000, cpu_period_us=100000)
    container_id = await backend.create(sandbox, "sleep", "1000", resources=limits)
    await backend.engine.containers.update(container_id, Resources(cpu_shares=200))
    await backend.engine.containers.start(container_id)
    shown = (await backend.look(container_id)).resources
    # Docker tells what it made of a limit without one for swap.
    assert shown.memory_swap_limit_bytes in (0, 64 << 20)
    assert replace(shown, memory_swap_limit_bytes=0) == replace(limits, cpu_shares=200)
    await backend.engine.containers.update(container_id, Resources(memory_limit_bytes=128 << 20))
    await backend.engine.containers.update(container_id, Resources(cpuset_cpus="0"))
    shown = (await backend.look(container_id)).resources
    assert (shown.memory_limit_bytes, shown.cpuset_cpus) == (128 << 20, "0")
    assert shown.memory_swap_limit_bytes in (0, 128 << 20)
    assert (shown.cpu_shares, shown.cpu_quota_us) == (200, 20000)
    await backend.engine.containers.update(container_id, Resources(memory_limit_bytes=32 << 20))
    with pytest.raises(CriError):
        await backend.engine.containers.update(container_id, Resources(cpuset_cpus="4000", cpu_shares=300))
    assert (await backend.look(container_id)).resources.cpu_shares == 200


@pytest.mark.behaviour("MNT-05")
async def test_mounts_of_the_caller_win(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("mine\n")
    (tmp_path / "shm").mkdir()
    (tmp_path / "shm/mine").touch()
    sandbox = await backend.run()
    mounts = (
        Mount("/etc/hosts", str(tmp_path / "hosts"), readonly=True),
        Mount("/etc/resolv.conf", str(tmp_path / "hosts")),
        Mount("/dev/shm", str(tmp_path / "shm")),
        Mount("/made/here", str(tmp_path / "missing"), readonly=True),
    )
    container_id = await backend.start(sandbox, mounts=mounts)
    assert await backend.sh(container_id, "cat /etc/hosts /etc/resolv.conf; ls /dev/shm") == "mine\nmine\nmine\n"
    assert "Read-only" in await backend.sh(container_id, "touch /made/here/x || true")
    assert {mount.container_path for mount in (await backend.look(container_id)).spec.mounts} == {
        mount.container_path for mount in mounts
    }


# --- events and snapshots


async def test_events_of_our_own_objects(backend: Backend) -> None:
    sandbox = await backend.run()
    container_id = await backend.start(sandbox)
    await backend.engine.sandboxes.kill(sandbox.id)
    await backend.engine.containers.remove(container_id)
    await backend.engine.sandboxes.remove(sandbox.id)
    await backend.event(lambda event: event == ObjectGone(sandbox.id))
    mine = [event for event in backend.seen if getattr(event, "id", "") in (sandbox.id, container_id)]
    assert [(type(event), getattr(event, "id", "")) for event in mine] == [
        (ProcessStarted, container_id),
        (ProcessExited, sandbox.id),
        (ProcessExited, container_id),
        (ObjectGone, container_id),
        (ObjectGone, sandbox.id),
    ]


async def test_objects_of_another_shim_appear(backend: Backend, tmp_path: Path) -> None:
    async with opened(backend.real, tmp_path / "other") as other:
        sandbox = await other.run()
        container_id = await other.start(sandbox)
        await backend.event(lambda event: event == ObjectAppeared(container_id))
        assert ObjectAppeared(sandbox.id) in backend.seen


async def test_snapshot(backend: Backend) -> None:
    running = await backend.run(backend.pod(log_directory=str(backend.directory / "logs")))
    dead = await backend.run()
    await backend.engine.sandboxes.kill(dead.id)
    created = await backend.create(running, "true")
    container_id = await backend.start(running, log_path=str(backend.directory / "logs/app/0.log"))
    backend.real.make_foreign_container("stranger")
    first = await backend.engine.events.snapshot()
    assert {(record.id, record.state) for record in first.sandboxes} == {
        (running.id, SandboxState.READY),
        (dead.id, SandboxState.NOTREADY),
    }
    assert {(record.id, record.state) for record in first.containers} == {
        (created, ContainerState.CREATED),
        (container_id, ContainerState.RUNNING),
    }
    by_id = {record.id: record for record in first.sandboxes}
    assert by_id[running.id].spec.log_directory == str(backend.directory / "logs")
    assert {image.id for image in first.images} >= {(await backend.image()).id}
    assert {tag for image in first.images if image.pinned for tag in image.repo_tags} == backend.pause_names
    assert first.info.version == backend.real.version()
    assert {"", "crun", "runc"} == {handler.name for handler in first.info.runtime_handlers}
    await backend.engine.containers.signal(container_id, signal.SIGKILL)
    await backend.engine.sandboxes.remove(dead.id)
    second = await backend.engine.events.snapshot()
    assert {record.id for record in second.sandboxes} == {running.id}
    states = {record.id: (record.state, record.exit_code) for record in second.containers}
    assert states == {created: (ContainerState.CREATED, 0), container_id: (ContainerState.EXITED, 137)}


@pytest.mark.behaviour("CST-07")
async def test_oom_is_always_told(backend: Backend) -> None:
    sandbox = await backend.run()
    limits = Resources(memory_limit_bytes=15 << 20)
    for _ in range(2):
        ids = await asyncio.gather(
            *(
                backend.start(sandbox, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=20M", resources=limits)
                for _ in range(8)
            )
        )
        for container_id in ids:
            event = await backend.event(
                lambda event, wanted=container_id: isinstance(event, ProcessExited) and event.id == wanted
            )
            assert isinstance(event, ProcessExited)
            assert (event.exit_code, event.oom_killed) == (137, True)
            assert (await backend.look(container_id)).reason == "OOMKilled"
        await asyncio.gather(*(backend.engine.containers.remove(container_id) for container_id in ids))
