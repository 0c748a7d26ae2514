"""Pods of real OCI runtimes, made by our specs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cri_dockerd_py.backends.containerd.host_facts import read_host_facts
from cri_dockerd_py.backends.containerd.host_side import host_side
from cri_dockerd_py.backends.containerd.oci.container_spec import container_spec
from cri_dockerd_py.backends.containerd.oci.facts import HandlerOptions, HostFacts, PodFiles
from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig
from cri_dockerd_py.backends.containerd.oci.inputs import ContainerInputs
from cri_dockerd_py.backends.containerd.oci.process import exec_process
from cri_dockerd_py.backends.containerd.oci.sandbox_spec import sandbox_spec
from cri_dockerd_py.model.container import ContainerSpec
from cri_dockerd_py.model.sandbox import SandboxSpec
from tests.backends.containerd.oci.bundles import Bundles, Running, busybox_rootfs
from tests.backends.containerd.oci.values import container_inputs, sandbox_inputs
from tests.processes import wait_until

_PAUSE = Path(__file__).parents[4] / "cri_dockerd_py/pause"


@dataclass
class Pod:
    """A sandbox that runs, and everything that its containers need."""

    bundles: Bundles
    record: SandboxSpec
    running: Running
    facts: HostFacts
    handler: HandlerOptions
    files: PodFiles
    rootfs: Path

    def start(self, name: str, spec: ContainerSpec, **fields: Any) -> Running:
        """Start a container and wait until it has said that it is ready."""
        document = container_spec(self._inputs(name, spec, **fields))
        running = self.bundles.run(name, document, self.rootfs)
        wait_until(lambda: "ready" in running.output(), "the start of the container")
        return running

    def sh(self, name: str, spec: ContainerSpec, script: str, **fields: Any) -> str:
        """Return what a script prints that runs beside a container's process."""
        process: Any = container_spec(self._inputs(name, spec, **fields))["process"]
        return self.bundles.exec(name, exec_process(process, ["sh", "-c", script], tty=False)).strip()

    def _inputs(self, name: str, spec: ContainerSpec, **fields: Any) -> ContainerInputs:
        host = host_side(spec)
        inputs = container_inputs(
            spec,
            id=name,
            sandbox=self.record,
            sandbox_id="pod",
            sandbox_pid=self.running.pid,
            image=ImageConfig(),
            facts=self.facts,
            handler=self.handler,
            files=self.files,
            hostname=self.record.hostname,
            mounts=host.mounts,
            mount_table=host.mount_table,
            devices=host.devices,
            host_devices=host.host_devices,
            cdi=host.cdi,
            profiles=host.profiles,
        )
        return replace(inputs, **fields)


@dataclass
class Runtime:
    """A runtime, and what its pods are made of."""

    bundles: Bundles
    directory: Path
    handler: HandlerOptions
    files: PodFiles
    facts: HostFacts

    def start_pod(self, record: SandboxSpec, **fields: Any) -> Pod:
        """Start a sandbox."""
        inputs = sandbox_inputs(record, id="pod", facts=self.facts, handler=self.handler, files=self.files, **fields)
        running = self.bundles.run("pod", sandbox_spec(inputs), _pause_rootfs(self.directory))
        rootfs = busybox_rootfs(self.directory)
        return Pod(self.bundles, record, running, self.facts, self.handler, self.files, rootfs)


def pod_files(directory: Path) -> PodFiles:
    """Make the files that a pod's containers share."""
    for name in ("hostname", "hosts", "resolv.conf"):
        (directory / name).write_text(f"our {name}\n")
    shm = directory / "shm"
    shm.mkdir()
    shm.chmod(0o1777)
    return PodFiles(*(str(directory / name) for name in ("hostname", "hosts", "resolv.conf", "shm")))


def _pause_rootfs(directory: Path) -> Path:
    """Make a root file system that has nothing but the pause program and places for mounts."""
    rootfs = directory / "pause"
    for name in ("proc", "sys", "dev", "etc"):
        (rootfs / name).mkdir(parents=True)
    (rootfs / "etc/resolv.conf").touch()
    (rootfs / "pause").write_bytes((_PAUSE / f"pause-{read_host_facts().architecture}").read_bytes())
    (rootfs / "pause").chmod(0o755)
    return rootfs
