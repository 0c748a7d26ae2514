"""What the service tells of a pod, as kubelet's pod cache has it, and what kubelet concludes from it; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.kubelet.spec import AppContainer, AppPod

_RESTARTS = "io.kubernetes.container.restartCount"


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod's sandboxes and containers, newest first."""

    sandboxes: Sequence[pb.PodSandboxStatus]
    containers: Sequence[pb.ContainerStatus]

    @property
    def running(self) -> list[pb.ContainerStatus]:
        """The containers that run, in any sandbox."""
        return [container for container in self.containers if container.state == pb.CONTAINER_RUNNING]

    def newest(self, name: str) -> pb.ContainerStatus | None:
        """Return the newest container of a name."""
        return next((c for c in self.containers if c.metadata.name == name), None)

    def restarts(self, name: str) -> int:
        """Return the number that the next container of a name gets (RCR-17)."""
        newest = self.newest(name)
        return 0 if newest is None else int(newest.annotations.get(_RESTARTS, "0")) + 1

    def needs_sandbox(self) -> bool:
        """Whether a new sandbox is wanted (RCR-01 to RCR-03)."""
        ready = [sandbox for sandbox in self.sandboxes if sandbox.state == pb.SANDBOX_READY]
        return len(ready) != 1 or self.sandboxes[0].state != pb.SANDBOX_READY

    def next_attempt(self) -> int:
        """Return the attempt of a new sandbox."""
        return self.sandboxes[0].metadata.attempt + 1 if self.sandboxes else 0

    def is_finished(self, pod: AppPod) -> bool:
        """Whether kubelet brings back nothing of it once its sandbox is gone (11.3)."""
        if pod.restart_policy == "Always" or not self.sandboxes:
            return False
        if pod.restart_policy == "Never":
            return bool(self.containers)
        newest = [self.newest(container.name) for container in pod.containers]
        return all(c is not None and c.state == pb.CONTAINER_EXITED and c.exit_code == 0 for c in newest)

    def to_start(self, pod: AppPod, *, new_sandbox: bool) -> list[AppContainer]:
        """Return the containers to start now: one init container, or all regular ones that should run (RCR-16)."""
        if pod.init_containers and (pending := self._pending_init(pod, new_sandbox=new_sandbox)) is not None:
            return [] if pending.state_blocks else [pending.container]
        return [container for container in pod.containers if self._should_start(container, pod, new_sandbox)]

    def _pending_init(self, pod: AppPod, *, new_sandbox: bool) -> _Pending | None:
        if new_sandbox:
            return _Pending(pod.init_containers[0], state_blocks=False)
        for container in reversed(pod.init_containers):
            status = self.newest(container.name)
            if status is None:
                continue
            if status.state != pb.CONTAINER_EXITED:
                return _Pending(container, state_blocks=True)
            if status.exit_code != 0:
                return _Pending(container, state_blocks=False)
            place = pod.init_containers.index(container) + 1
            return _Pending(pod.init_containers[place], False) if place < len(pod.init_containers) else None
        return _Pending(pod.init_containers[0], state_blocks=False)

    def _should_start(self, container: AppContainer, pod: AppPod, new_sandbox: bool) -> bool:
        status = self.newest(container.name)
        if status is None:
            return True
        if status.state == pb.CONTAINER_RUNNING:
            return new_sandbox
        if pod.restart_policy == "Never":
            return False
        return pod.restart_policy == "Always" or status.exit_code != 0


@dataclass(frozen=True, slots=True)
class _Pending:
    container: AppContainer
    state_blocks: bool
