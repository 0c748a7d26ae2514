"""Sandboxes and containers grouped into pods, as kubelet groups them; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from cri_dockerd_py.model.container import ContainerRecord, ContainerState
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState

_NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
_UID_LABEL = "io.kubernetes.pod.uid"
_GRACE_ANNOTATION = "io.kubernetes.pod.terminationGracePeriod"
_DEFAULT_GRACE_S = 30

Record = TypeVar("Record", SandboxRecord, ContainerRecord)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with all that is listed of it; `sandboxes` and `containers` are newest first, as kubelet sorts them."""

    uid: str
    sandboxes: tuple[SandboxRecord, ...]
    containers: tuple[ContainerRecord, ...]

    @property
    def newest(self) -> SandboxRecord:
        """The sandbox that kubelet goes by."""
        return self.sandboxes[0]

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        return self.newest.spec.metadata.namespace

    @property
    def name(self) -> str:
        """The pod's name."""
        return self.newest.spec.metadata.name

    @property
    def full_name(self) -> str:
        """Namespace and name, as people write them."""
        return f"{self.namespace}/{self.name}"

    @property
    def engine(self) -> str:
        """The engine that the pod is on."""
        return self.newest.engine

    @property
    def is_ready(self) -> bool:
        """Whether the newest sandbox is READY."""
        return self.newest.state is SandboxState.READY

    @property
    def labels(self) -> Mapping[str, str]:
        """The pod's labels."""
        return self.newest.spec.labels

    @property
    def annotations(self) -> Mapping[str, str]:
        """The pod's annotations."""
        return self.newest.spec.annotations

    @property
    def is_kubelets(self) -> bool:
        """Whether kubelet made it, which finds its pods by these labels (LOD-40)."""
        return self.labels.get(_UID_LABEL) == self.uid and self.labels.get(_NAMESPACE_LABEL) == self.namespace

    @property
    def current(self) -> tuple[ContainerRecord, ...]:
        """The newest container of each name in the newest sandbox."""
        newest: dict[str, ContainerRecord] = {}
        for container in self.containers:
            if container.sandbox_id == self.newest.id:
                newest.setdefault(container.spec.metadata.name, container)
        return tuple(newest.values())

    @property
    def running(self) -> frozenset[str]:
        """The names of the containers that run in the newest sandbox."""
        return frozenset(c.spec.metadata.name for c in self.current if c.state is ContainerState.RUNNING)

    @property
    def grace_s(self) -> int:
        """The longest time that kubelet gives the pod to end."""
        texts = (container.spec.annotations.get(_GRACE_ANNOTATION, "") for container in self.current)
        return max((int(text) for text in texts if text.isdecimal()), default=_DEFAULT_GRACE_S)

    @property
    def image_ids(self) -> frozenset[str]:
        """The images that the newest sandbox's containers are made of, or mount."""
        mounted = (mount.image.image_ref for c in self.current for mount in c.spec.mounts if mount.image)
        return frozenset(filter(None, (*(container.image_id for container in self.current), *mounted)))


def pods_of(sandboxes: Iterable[SandboxRecord], containers: Iterable[ContainerRecord]) -> dict[str, Pod]:
    """Return the pods by uid."""
    sandboxes_of: dict[str, list[SandboxRecord]] = {}
    uids: dict[str, str] = {}
    for sandbox in sandboxes:
        uids[sandbox.id] = sandbox.spec.metadata.uid
        sandboxes_of.setdefault(sandbox.spec.metadata.uid, []).append(sandbox)
    containers_of: dict[str, list[ContainerRecord]] = {}
    for container in containers:
        if container.sandbox_id in uids:
            containers_of.setdefault(uids[container.sandbox_id], []).append(container)
    return {
        uid: Pod(uid, _newest_first(members), _newest_first(containers_of.get(uid, ())))
        for uid, members in sandboxes_of.items()
    }


def _newest_first(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=lambda record: record.created_at_ns, reverse=True))
