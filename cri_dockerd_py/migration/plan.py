"""What a migration would do: which pods move and in which order, which stay and why, which images go; pure.

A plan is a value: it can be printed, reviewed, and carried out later, when every pod is looked at once more.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument
from cri_dockerd_py.migration.facts import PodFacts
from cri_dockerd_py.migration.obstacles import Obstacle, obstacle_to
from cri_dockerd_py.migration.order import Rank, matches, ordered
from cri_dockerd_py.migration.pods import Pod
from cri_dockerd_py.migration.port import EngineFacts
from cri_dockerd_py.model.image import ImageRecord

#: What a move takes where none has been measured: a quick stop, and a start.
TYPICAL_MOVE_S = 5.0
TYPICAL_COPY_BYTES_PER_S = 200e6


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the caller wants. `pods`, `exclude` and `last` are namespace/name patterns; no `pods` means all.

    A pod that `pods` names without a wildcard moves also where its restart policy is not known.
    """

    target: str
    pods: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    max_unavailable: int = 1

    def __post_init__(self) -> None:
        """Refuse what can never be."""
        if self.max_unavailable < 1:
            raise InvalidArgument(f"max-unavailable is {self.max_unavailable}: at least one pod has to move at a time")

    @property
    def is_whole_node(self) -> bool:
        """Whether new pods are to go to the target as well."""
        return not self.pods


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A pod that moves."""

    uid: str
    namespace: str
    name: str
    sandbox_id: str
    rank: Rank
    alone: bool
    grace_s: int


@dataclass(frozen=True, slots=True)
class Stay:
    """A pod that stays where it is, and why."""

    uid: str
    namespace: str
    name: str
    obstacle: Obstacle


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image that pods on the source need on the target; an `unreadable` one cannot be used there."""

    id: str
    names: tuple[str, ...]
    size_bytes: int
    pods: int
    present: bool
    missing_at_source: bool = False
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan; `moves` are in order."""

    source: str
    target: str
    moves: tuple[PlannedMove, ...]
    stays: tuple[Stay, ...]
    images: tuple[PlannedImage, ...]
    options: PlanOptions

    @property
    def copy_bytes(self) -> int:
        """The size of the images that are not on the target yet."""
        return sum(image.size_bytes for image in self.images if not image.present and not image.unreadable)

    def estimate_s(self, *, move_s: float = TYPICAL_MOVE_S, bytes_per_s: float = TYPICAL_COPY_BYTES_PER_S) -> float:
        """Return about how long it takes, by what a move takes and how fast images are copied."""
        alone = sum(move.alone for move in self.moves)
        waves = alone + math.ceil((len(self.moves) - alone) / self.options.max_unavailable)
        return self.copy_bytes / bytes_per_s + waves * move_s


def make_plan(
    options: PlanOptions,
    engines: Iterable[EngineFacts],
    pods: Iterable[Pod],
    images: Mapping[str, Mapping[str, ImageRecord]],
    facts: Mapping[str, PodFacts] | None = None,
    moved_before: Collection[str] = (),
) -> Plan:
    """Return the plan; `images` are by engine and id, `moved_before` are uids of pods that are known to come back.

    FailedPrecondition when there is no engine to move from or to.
    """
    facts = facts or {}
    source, target = source_and_target(options.target, engines)
    here = [pod for pod in pods if pod.engine == source.name]
    needed = needed_images(here, images.get(source.name, {}), images.get(target.name, {}), target)
    unreadable = {image.id for image in needed if image.unreadable}
    moves: list[PlannedMove] = []
    stays: list[Stay] = []
    for pod, place in ordered(here, facts, options.last):
        trusted = pod.full_name in options.pods or pod.uid in moved_before
        obstacle = _not_chosen(pod, options) or obstacle_to(pod, target, facts, trusted=trusted)
        if obstacle is None and pod.image_ids & unreadable:
            obstacle = Obstacle.IMAGE_FORMAT
        if obstacle is None:
            moves.append(_planned(pod, place.rank, place.alone))
        else:
            stays.append(Stay(pod.uid, pod.namespace, pod.name, obstacle))
    return Plan(source.name, target.name, tuple(moves), tuple(stays), needed, options)


def source_and_target(target: str, engines: Iterable[EngineFacts]) -> tuple[EngineFacts, EngineFacts]:
    """Return the engine to leave and the one to go to."""
    known = {engine.name: engine for engine in engines}
    if target not in known:
        raise InvalidArgument(f"{target!r} is no engine of this node; it has {', '.join(sorted(known)) or 'none'}")
    others = [engine for name, engine in known.items() if name != target]
    if len(others) != 1:
        raise FailedPrecondition(
            f"a migration needs two engines, and this service has {', '.join(sorted(known))}: "
            "start it with --backend=both, or with auto where both answer"
        )
    return others[0], known[target]


def _not_chosen(pod: Pod, options: PlanOptions) -> Obstacle | None:
    if matches(pod, options.exclude) or (options.pods and not matches(pod, options.pods)):
        return Obstacle.NOT_CHOSEN
    return None


def _planned(pod: Pod, rank: Rank, alone: bool) -> PlannedMove:
    return PlannedMove(pod.uid, pod.namespace, pod.name, pod.newest.id, rank, alone, pod.grace_s)


def needed_images(
    pods: Iterable[Pod],
    at_source: Mapping[str, ImageRecord],
    at_target: Mapping[str, ImageRecord],
    target: EngineFacts,
) -> tuple[PlannedImage, ...]:
    """Return the images of pods' containers, the largest first, and whether they are on the target."""
    users: dict[str, int] = {}
    for pod in pods:
        for image_id in pod.image_ids:
            users[image_id] = users.get(image_id, 0) + 1
    planned = [_image(image_id, count, at_source, at_target, target) for image_id, count in users.items()]
    return tuple(sorted(planned, key=lambda image: (-image.size_bytes, image.id)))


def _image(
    image_id: str,
    pods: int,
    at_source: Mapping[str, ImageRecord],
    at_target: Mapping[str, ImageRecord],
    target: EngineFacts,
) -> PlannedImage:
    record = at_source.get(image_id) or at_target.get(image_id)
    names = () if record is None else (*record.repo_tags, *record.repo_digests)
    there = at_target.get(image_id)
    # An image without one of its names would be pulled by that name.
    present = there is not None and set(names) <= {*there.repo_tags, *there.repo_digests}
    size_bytes = 0 if record is None else record.size_bytes
    missing = image_id not in at_source and not present
    unreadable = not present and record is not None and record.zstd and not target.zstd_layers
    return PlannedImage(image_id, names, size_bytes, pods, present, missing, unreadable)
