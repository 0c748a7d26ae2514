"""Why a pod stays where it is; pure. Whoever is in doubt stays: moving is a restart (cri-behaviours, 11.6)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from cri_dockerd_py.migration.facts import PodFacts
from cri_dockerd_py.migration.pods import Pod
from cri_dockerd_py.migration.port import EngineFacts
from cri_dockerd_py.migration.restart_policy import RestartPolicy, restart_policy_of
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.security import NamespaceMode

_NOT_BROUGHT_BACK = "kubelet does not bring it back once its sandbox is gone; it ends here by itself"


class Obstacle(Enum):
    """A reason, by the name that scripts read; `why` is for people."""

    NOT_CHOSEN = "not-chosen"
    NOT_KUBELETS = "not-made-by-kubelet"
    ENDED = "ended"
    BEING_CREATED = "being-created"
    DELETED = "being-deleted"
    NEVER = "restart-policy-never"
    ON_FAILURE = "restart-policy-on-failure"
    JOB = "of-a-job"
    POLICY_UNKNOWN = "restart-policy-unknown"
    NOT_RUNNING = "container-not-running"
    HANDLER = "runtime-handler-missing"
    USER_NAMESPACE = "user-namespace-unsupported"
    RECURSIVE_READ_ONLY = "recursive-read-only-unsupported"
    IMAGE_FORMAT = "image-format-unsupported"

    @property
    def why(self) -> str:
        """The reason in a sentence, with what can be done."""
        return _WHY[self]


_WHY = {
    Obstacle.NOT_CHOSEN: "left out by --pod or --exclude",
    Obstacle.NOT_KUBELETS: "kubelet does not know it, so nobody would make it anew",
    Obstacle.ENDED: "nothing of it runs; what kubelet makes anew goes to the engine for new pods",
    Obstacle.BEING_CREATED: "it is being started; plan again in a moment",
    Obstacle.DELETED: "it is being deleted",
    Obstacle.NEVER: f"its restart policy is Never: {_NOT_BROUGHT_BACK}",
    Obstacle.ON_FAILURE: "its restart policy is OnFailure: a clean end on SIGTERM would count as done",
    Obstacle.JOB: f"it is a Job's: {_NOT_BROUGHT_BACK}",
    Obstacle.POLICY_UNKNOWN: (
        "its restart policy cannot be known here; give the API server's word with --pods-json, or name it with --pod"
    ),
    Obstacle.NOT_RUNNING: "a container of it does not run (ended, or waiting for its next start); mend it first",
    Obstacle.HANDLER: "the target has not its runtime handler; configure it there first",
    Obstacle.USER_NAMESPACE: "it has a user namespace of its own, which the target cannot give it",
    Obstacle.RECURSIVE_READ_ONLY: "it has recursive read-only mounts, which the target cannot make",
    Obstacle.IMAGE_FORMAT: (
        "layers of its image are packed with zstd, which this version of the target cannot unpack; "
        "upgrade it (Docker from 23 on), or rebuild the image with gzip"
    ),
}
_BY_POLICY = {
    RestartPolicy.NEVER: Obstacle.NEVER,
    RestartPolicy.ON_FAILURE: Obstacle.ON_FAILURE,
    RestartPolicy.JOB: Obstacle.JOB,
}


def obstacle_to(pod: Pod, target: EngineFacts, facts: Mapping[str, PodFacts], *, trusted: bool) -> Obstacle | None:
    """Return why the pod cannot move to `target`, None when it can; `trusted` ones come back for all that is known."""
    known = facts.get(pod.uid)
    if not pod.is_kubelets:
        return Obstacle.NOT_KUBELETS
    if not pod.is_ready or (known is not None and known.terminal):
        return Obstacle.ENDED
    if known is not None and known.deleted:
        return Obstacle.DELETED
    policy = restart_policy_of(pod, facts)
    if policy is RestartPolicy.UNKNOWN and not trusted:
        return Obstacle.POLICY_UNKNOWN
    return _BY_POLICY.get(policy) or unsettled(pod) or _unsupported(pod, target)


def unsettled(pod: Pod) -> Obstacle | None:
    """Return why the pod is in no state to be moved (11.6, 16)."""
    states = {container.state for container in pod.current}
    if not states or ContainerState.CREATED in states:
        return Obstacle.BEING_CREATED
    # An init container has ended, and well.
    down = any(c.state is not ContainerState.RUNNING and c.exit_code != 0 for c in pod.current)
    return Obstacle.NOT_RUNNING if down or not pod.running else None


def _unsupported(pod: Pod, target: EngineFacts) -> Obstacle | None:
    """Return what the target lacks, before anything is stopped (11.6, 5)."""
    spec = pod.newest.spec
    handler = next((handler for handler in target.handlers if handler.name == spec.runtime_handler), None)
    if handler is None:
        return Obstacle.HANDLER
    userns = spec.security.namespaces.userns
    if userns is not None and userns.mode is NamespaceMode.POD and not handler.user_namespaces:
        return Obstacle.USER_NAMESPACE
    mounts = (mount for container in pod.current for mount in container.spec.mounts)
    if any(mount.recursive_read_only for mount in mounts) and not handler.recursive_read_only_mounts:
        return Obstacle.RECURSIVE_READ_ONLY
    return None
