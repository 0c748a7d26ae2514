"""Docker names of sandboxes and containers, as dockershim and cri-dockerd write and read them."""

from __future__ import annotations

from dataclasses import dataclass

from cri_dockerd_py.model.container import ContainerMetadata
from cri_dockerd_py.model.sandbox import PodMetadata

SANDBOX_FIELD = "POD"
_PREFIX = "k8s"
_DELIMITER = "_"
_FIELDS = (6, 7)
_ATTEMPT_LIMIT = 2**32


@dataclass(frozen=True, slots=True)
class ParsedName:
    """What a name tells: the fields of the container and of its pod; `attempt` belongs to the object named."""

    container: str
    pod: str
    namespace: str
    uid: str
    attempt: int

    @property
    def sandbox_metadata(self) -> PodMetadata:
        """The identity of the sandbox that has this name."""
        return PodMetadata(self.pod, self.uid, self.namespace, self.attempt)

    @property
    def container_metadata(self) -> ContainerMetadata:
        """The identity of the container that has this name."""
        return ContainerMetadata(self.container, self.attempt)


def sandbox_name(pod: PodMetadata) -> str:
    """Return the name of a sandbox's container."""
    return _join(SANDBOX_FIELD, pod, pod.attempt)


def container_name(container: ContainerMetadata, pod: PodMetadata) -> str:
    """Return the name of a container of a pod."""
    return _join(container.name, pod, container.attempt)


def parse_name(name: str) -> ParsedName | None:
    """Return what a name says, None when it is not of this form; a seventh, random field is ignored."""
    fields = name.removeprefix("/").split(_DELIMITER)
    if len(fields) not in _FIELDS or fields[0] != _PREFIX:
        return None
    attempt = fields[5]
    if not (attempt.isascii() and attempt.isdigit()) or int(attempt) >= _ATTEMPT_LIMIT:
        return None
    return ParsedName(fields[1], fields[2], fields[3], fields[4], int(attempt))


def _join(first: str, pod: PodMetadata, attempt: int) -> str:
    return _DELIMITER.join((_PREFIX, first, pod.name, pod.namespace, pod.uid, str(attempt)))
