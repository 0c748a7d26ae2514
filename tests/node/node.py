"""The service on a booted node: its CRI socket, reached from here, and a shell beside it."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable
from typing import Any

import grpc

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py._generated.runtime_v1 import api_pb2_grpc as cri_grpc
from tests import images
from tests.node.machine import Machine
from tests.processes import wait_until

# Emulated processors take their time.
CALL_WITHIN_S = 120.0
SETTLE_WITHIN_S = 120.0
# Each look is work for them, too.
LOOK_EVERY_S = 0.25
LOGS = "/var/log/pods"
_serial = itertools.count()


class Node:
    """`machine`, seen as kubelet and an admin see it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.sh = machine.sh
        self._channel: grpc.Channel | None = None

    @property
    def runtime(self) -> cri_grpc.RuntimeServiceStub:
        """The runtime service."""
        return cri_grpc.RuntimeServiceStub(self._connected())

    @property
    def images(self) -> cri_grpc.ImageServiceStub:
        """The image service."""
        return cri_grpc.ImageServiceStub(self._connected())

    def _connected(self) -> grpc.Channel:
        if self._channel is None:
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 1000)]
            self._channel = grpc.insecure_channel(self.machine.cri_address, options=options)
        return self._channel

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def reboot(self) -> None:
        """Shut the node down and start it again."""
        self._disconnect()
        self.machine.stop()
        self.machine.boot()

    def answers(self) -> bool:
        """Whether the service is there, and ready for pods."""
        try:
            status = self.runtime.Status(cri.StatusRequest(), timeout=10.0).status
        except grpc.RpcError:
            # A connection that was begun while the service was not there may be waited for for long.
            self._disconnect()
            return False
        return all(condition.status for condition in status.conditions)

    def wait_ready(self) -> None:
        """Wait until the service is ready for pods."""
        self.wait(self.answers, "the service being ready for pods")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        wait_until(condition, what, SETTLE_WITHIN_S, LOOK_EVERY_S)

    def pod_config(self, name: str = "", slice_name: str = "") -> cri.PodSandboxConfig:
        """Return the config of a new pod, in a slice below kubepods.slice where one is given."""
        name = name or f"pod-{next(_serial)}"
        uid = str(uuid.uuid4())
        return cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, uid=uid, namespace="node", attempt=0),
            log_directory=f"{LOGS}/node_{name}_{uid}",
            linux=cri.LinuxPodSandboxConfig(cgroup_parent=slice_name and f"/kubepods.slice/{slice_name}"),
        )

    def run_pod(self, config: cri.PodSandboxConfig) -> str:
        """Run a pod and return its id."""
        request = cri.RunPodSandboxRequest(config=config)
        return str(self.runtime.RunPodSandbox(request, timeout=CALL_WITHIN_S).pod_sandbox_id)

    def start_container(self, pod_id: str, pod: cri.PodSandboxConfig, script: str, **linux: Any) -> str:
        """Start a container that runs a shell script."""
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=f"c{next(_serial)}", attempt=0),
            image=cri.ImageSpec(image=images.BUSYBOX),
            command=["/bin/sh", "-c", script],
            log_path="c/0.log",
            linux=cri.LinuxContainerConfig(**linux),
        )
        config.log_path = f"{config.metadata.name}/0.log"
        create = cri.CreateContainerRequest(pod_sandbox_id=pod_id, config=config, sandbox_config=pod)
        container_id = str(self.runtime.CreateContainer(create, timeout=CALL_WITHIN_S).container_id)
        self.runtime.StartContainer(cri.StartContainerRequest(container_id=container_id), timeout=CALL_WITHIN_S)
        return container_id

    def exec(self, container_id: str, script: str) -> str:
        """Run a shell script in a container and return what it prints."""
        request = cri.ExecSyncRequest(container_id=container_id, cmd=["sh", "-c", script], timeout=60)
        answer = self.runtime.ExecSync(request, timeout=CALL_WITHIN_S)
        assert answer.exit_code == 0, answer.stderr
        return str(answer.stdout.decode().strip())

    def remove_pod(self, pod_id: str) -> None:
        """Stop and remove a pod."""
        self.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=pod_id), timeout=CALL_WITHIN_S)
        self.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=pod_id), timeout=CALL_WITHIN_S)

    def pods(self) -> dict[str, int]:
        """Return {pod id: state}."""
        items = self.runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=CALL_WITHIN_S).items
        return {pod.id: pod.state for pod in items}

    def container(self, container_id: str) -> cri.ContainerStatus:
        """Return the status of a container."""
        request = cri.ContainerStatusRequest(container_id=container_id)
        return self.runtime.ContainerStatus(request, timeout=CALL_WITHIN_S).status

    def pid(self, container_id: str) -> int:
        """Return the pid of a container's first process on the node."""
        request = cri.ContainerStatusRequest(container_id=container_id, verbose=True)
        info = self.runtime.ContainerStatus(request, timeout=CALL_WITHIN_S).info
        return int(json.loads(info["info"])["pid"])

    def log(self, container_id: str) -> list[str]:
        """Return the lines of a container's log, without time, stream and tag."""
        path = self.container(container_id).log_path
        return [line.split(" ", 3)[3] for line in self.sh(f"cat {path}").splitlines()]

    def log_lines(self, container_id: str) -> int:
        """Return how many lines a container's log has."""
        return int(self.sh(f"wc -l < {self.container(container_id).log_path}"))

    def property(self, unit: str, name: str) -> str:
        """Return a property of a systemd unit."""
        return self.sh(f"systemctl show -P {name} {unit}")
