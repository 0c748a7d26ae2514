"""A pod's restart policy, as far as CRI lets it be known; pure.

Kubelet tells no engine the policy. What is certain without the API server: a Job's pods have OnFailure or Never;
ReplicaSets of Deployments, DaemonSets and StatefulSets label their pods, and accept Always alone; static pods run for
ever; and a container that was started again after it had ended with 0 has Always. Anything else is not known, and a
pod whose policy is not known may be one that kubelet would not bring back (RCR-20 to RCR-22).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from cri_dockerd_py.migration.facts import PodFacts
from cri_dockerd_py.migration.pods import Pod
from cri_dockerd_py.model.container import ContainerState

_SOURCE_ANNOTATION = "kubernetes.io/config.source"
_JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name", "batch.kubernetes.io/controller-uid")
_REPLICA_SET_LABEL = "pod-template-hash"
_REVISION_LABEL = "controller-revision-hash"  # of DaemonSets and StatefulSets
_STATEFUL_SET_LABEL = "statefulset.kubernetes.io/pod-name"


class Owner(Enum):
    """What keeps a pod alive, as far as its labels tell."""

    STATIC = "static"
    JOB = "Job"
    REPLICA_SET = "ReplicaSet"
    DAEMON_SET = "DaemonSet"
    STATEFUL_SET = "StatefulSet"
    UNKNOWN = ""


class RestartPolicy(Enum):
    """When kubelet starts a pod's containers again."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"
    JOB = "OnFailure or Never"
    UNKNOWN = "unknown"


def owner_of(pod: Pod, facts: Mapping[str, PodFacts]) -> Owner:
    """Return what owns the pod."""
    known = facts.get(pod.uid)
    labels = pod.labels
    if pod.annotations.get(_SOURCE_ANNOTATION) in ("file", "http"):
        return Owner.STATIC
    if known is not None and known.owner_kind in {owner.value for owner in Owner}:
        return Owner(known.owner_kind)
    if any(label in labels for label in _JOB_LABELS):
        return Owner.JOB
    if _STATEFUL_SET_LABEL in labels:
        return Owner.STATEFUL_SET
    if _REVISION_LABEL in labels:
        return Owner.DAEMON_SET
    return Owner.REPLICA_SET if _REPLICA_SET_LABEL in labels else Owner.UNKNOWN


def restart_policy_of(pod: Pod, facts: Mapping[str, PodFacts]) -> RestartPolicy:
    """Return the pod's restart policy, UNKNOWN where nothing is certain."""
    known = facts.get(pod.uid)
    if known is not None:
        return RestartPolicy(known.restart_policy)
    owner = owner_of(pod, facts)
    if owner is Owner.JOB:
        return RestartPolicy.JOB
    return RestartPolicy.ALWAYS if owner is not Owner.UNKNOWN or _came_back_after_0(pod) else RestartPolicy.UNKNOWN


def _came_back_after_0(pod: Pod) -> bool:
    """Whether the pod's only container was started again, in this sandbox, after it had ended with 0.

    With several containers this says nothing: sidecars come back under every policy.
    """
    here = [container for container in pod.containers if container.sandbox_id == pod.newest.id]
    if len({container.spec.metadata.name for container in here}) != 1 or here[0].state is not ContainerState.RUNNING:
        return False
    return any(c.state is ContainerState.EXITED and c.exit_code == 0 and c.started_at_ns for c in here[1:])
