"""How a pod stands that is to come back on an engine, read from what is listed of it; pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from cri_dockerd_py.migration.pods import Pod
from cri_dockerd_py.model.container import ContainerRecord, ContainerState


class Standing(Enum):
    """What can be seen.

    GONE: nothing is listed of the pod. LEFT: its newest sandbox is still the one that it leaves. ELSEWHERE: kubelet has
    made a new sandbox on another engine. DOWN: its new sandbox has ended. STARTING: it is there, and not all of its
    containers run. RUNNING: they do. CRASHED: one of them has ended there.
    """

    GONE = "gone"
    LEFT = "left"
    ELSEWHERE = "elsewhere"
    DOWN = "down"
    STARTING = "starting"
    RUNNING = "running"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Sight:
    """One look; `sandbox_id` is the newest sandbox's, `detail` says what is seen."""

    standing: Standing
    sandbox_id: str = ""
    detail: str = ""


def look(pod: Pod | None, engine: str, left_sandbox_id: str, expected: Collection[str]) -> Sight:
    """Return how the pod stands that has left a sandbox and shall run its `expected` containers on `engine`."""
    if pod is None:
        return Sight(Standing.GONE, detail="the pod is not listed any more")
    sandbox = pod.newest
    if sandbox.id == left_sandbox_id:
        running = len(pod.running)
        return Sight(Standing.LEFT, sandbox.id, f"kubelet has not made it anew; {running} of its containers still run")
    if sandbox.engine != engine:
        return Sight(Standing.ELSEWHERE, sandbox.id, f"kubelet has made it anew on {sandbox.engine}")
    if not pod.is_ready:
        return Sight(Standing.DOWN, sandbox.id, f"its new sandbox {sandbox.id[:13]} has ended")
    crashed = next((c for c in _in_sandbox(pod) if _has_crashed(c, expected)), None)
    if crashed is not None:
        return Sight(Standing.CRASHED, sandbox.id, _describe(crashed))
    missing = sorted(set(expected) - pod.running)
    if missing:
        return Sight(Standing.STARTING, sandbox.id, f"waiting for {', '.join(missing)}")
    return Sight(Standing.RUNNING, sandbox.id)


def _in_sandbox(pod: Pod) -> list[ContainerRecord]:
    return [container for container in pod.containers if container.sandbox_id == pod.newest.id]


def _has_crashed(container: ContainerRecord, expected: Collection[str]) -> bool:
    """Init containers end, with 0; what ran before has no reason to end at all."""
    if container.state is not ContainerState.EXITED:
        return False
    return container.exit_code != 0 or container.spec.metadata.name in expected


def _describe(container: ContainerRecord) -> str:
    text = f"container {container.spec.metadata.name} ended with {container.exit_code}"
    reason = ": ".join(filter(None, (container.reason, container.message)))
    return f"{text} ({reason})" if reason else text
