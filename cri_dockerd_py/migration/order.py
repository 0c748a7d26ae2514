"""In which order pods move, and which move alone; pure.

What others need to start comes late: agents of the node, then static pods, then the control plane. Among the rest,
pods that have a sibling on the node go first, single ones after them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase

from cri_dockerd_py.migration.facts import PodFacts
from cri_dockerd_py.migration.pods import Pod
from cri_dockerd_py.migration.restart_policy import Owner, owner_of

_COMPONENT_LABEL = "component"
_TIER_LABEL = "tier"
_CONTROL_PLANE = "control-plane"
#: The control plane's parts in the order of their move; etcd, which the others need, last.
_COMPONENTS = ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")
_OWNER_LABELS = ("pod-template-hash", "controller-revision-hash")
_SYSTEM_NAMESPACE = "kube-system"


class Rank(IntEnum):
    """The groups of pods, in the order of their move."""

    SIBLINGS = 0
    SINGLE = 1
    DAEMON = 2
    NODE_AGENT = 3
    STATIC = 4
    CONTROL_PLANE = 5
    CHOSEN_LAST = 6

    @property
    def alone(self) -> bool:
        """Whether a pod of the group moves while no other does."""
        return self in (Rank.NODE_AGENT, Rank.CONTROL_PLANE)


@dataclass(frozen=True, slots=True)
class Place:
    """A pod's place in the order."""

    rank: Rank
    alone: bool


def matches(pod: Pod, patterns: Iterable[str]) -> bool:
    """Whether a pod's namespace/name fits one of the patterns, in which `*` and `?` stand for anything."""
    return any(fnmatchcase(pod.full_name, pattern) for pattern in patterns)


def ordered(pods: Iterable[Pod], facts: Mapping[str, PodFacts], last: Iterable[str]) -> list[tuple[Pod, Place]]:
    """Return the pods in the order of their move."""
    chosen_last = tuple(last)
    all_pods = list(pods)
    siblings = Counter(filter(None, (_family(pod) for pod in all_pods)))
    placed = [(pod, _place(pod, facts, siblings, chosen_last)) for pod in all_pods]
    return sorted(placed, key=lambda item: (item[1].rank, _component(item[0]), item[0].namespace, item[0].name))


def _place(pod: Pod, facts: Mapping[str, PodFacts], siblings: Counter[tuple[str, str]], last: tuple[str, ...]) -> Place:
    rank = _rank(pod, facts, siblings)
    return Place(Rank.CHOSEN_LAST if matches(pod, last) else rank, rank.alone)


def _rank(pod: Pod, facts: Mapping[str, PodFacts], siblings: Counter[tuple[str, str]]) -> Rank:
    owner = owner_of(pod, facts)
    if owner is Owner.STATIC:
        is_control_plane = pod.labels.get(_TIER_LABEL) == _CONTROL_PLANE or _component(pod) >= 0
        return Rank.CONTROL_PLANE if is_control_plane else Rank.STATIC
    if owner is Owner.DAEMON_SET:
        is_agent = pod.newest.spec.host_network or pod.namespace == _SYSTEM_NAMESPACE
        return Rank.NODE_AGENT if is_agent else Rank.DAEMON
    family = _family(pod)
    return Rank.SIBLINGS if family is not None and siblings[family] > 1 else Rank.SINGLE


def _family(pod: Pod) -> tuple[str, str] | None:
    """Return what pods of one owner have in common."""
    return next(((pod.namespace, pod.labels[label]) for label in _OWNER_LABELS if label in pod.labels), None)


def _component(pod: Pod) -> int:
    name = pod.labels.get(_COMPONENT_LABEL, "")
    return _COMPONENTS.index(name) if name in _COMPONENTS else -1
