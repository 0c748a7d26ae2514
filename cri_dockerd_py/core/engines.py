"""The engines that are served, each with its health, and which of them gets the next pod.

Objects know their engine by name; new pods go to the default engine unless their uid is pinned to another one.
Default and pins are in the database and change at run time; neither moves what exists already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cri_dockerd_py.backends.base import Engine
from cri_dockerd_py.core.health import EngineHealth
from cri_dockerd_py.errors import InvalidArgument, Unavailable
from cri_dockerd_py.model.node import EngineInfo
from cri_dockerd_py.store.choices import Choices


@dataclass(slots=True)
class Side:
    """One engine: its rooms, whether it answers, and its facts since it was first reached."""

    engine: Engine
    health: EngineHealth = field(init=False)
    info: EngineInfo | None = None
    #: Whether all that the engine has is in memory.
    known: bool = False
    #: Whether that is what an earlier process saw last, since the engine was not reached by this one.
    assumed: bool = False
    #: The inventory's generation when the snapshot was asked for that is being compared now.
    reading_since: int | None = None

    def __post_init__(self) -> None:
        self.health = EngineHealth(self.engine.name)

    @property
    def name(self) -> str:
        """The engine's name, which its objects' records carry."""
        return self.engine.name

    def check_handler(self, handler: str) -> None:
        """Raise InvalidArgument unless the engine has this runtime handler (the empty name is its default)."""
        known = [candidate.name for candidate in self.info.runtime_handlers] if self.info else []
        if handler not in known:
            names = ", ".join(repr(name) for name in known if name) or "none"
            raise InvalidArgument(
                f"no runtime handler {handler!r} is configured on {self.name}; configured are {names}"
            )


class Engines:
    """Maps names to sides; there is at least one. The first is the default until another one is chosen."""

    def __init__(self, engines: Sequence[Engine], choices: Choices) -> None:
        self._sides = {engine.name: Side(engine) for engine in engines}
        self._choices = choices
        self._default = engines[0].name
        self._pins: dict[str, str] = {}
        #: Called with the name of the default engine when it is another one.
        self.on_default: list[Callable[[str], None]] = []

    async def restore(self) -> None:
        """Take over what was chosen before; an engine that is not served any more is no default."""
        chosen = await self._choices.load()
        self._pins = dict(chosen.pins)
        if chosen.default_engine in self._sides:
            self._default = chosen.default_engine

    async def settle_runtime_name(self) -> str:
        """Return the first default engine that this node ever had: that name must not change when engines do."""
        return await self._choices.settle_runtime_name(self._default)

    # --- finding

    def __iter__(self) -> Iterator[Side]:
        return iter(self._sides.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The engines that are served."""
        return tuple(self._sides)

    @property
    def all_known(self) -> bool:
        """Whether all that any engine has is in memory."""
        return all(side.known for side in self)

    def read_since(self, generation: int) -> int:
        """Return the generation from which on changes matter to a comparison that is under way on any engine."""
        return min((side.reading_since for side in self if side.reading_since is not None), default=generation)

    def of(self, name: str) -> Side:
        """Return the side that holds objects of this engine; Unavailable when that engine is not served (now)."""
        side = self._sides.get(name)
        if side is None:
            served = ", ".join(self._sides)
            raise Unavailable(f"this object lives on {name}, which is not served: add it to the backend ({served})")
        return side

    def for_pod(self, pod_uid: str) -> Side:
        """Return the side where the pod's next sandbox is made."""
        return self._sides.get(self._pins.get(pod_uid, ""), self.default)

    # --- choosing

    @property
    def default(self) -> Side:
        """The engine of new pods."""
        return self._sides[self._default]

    async def set_default(self, name: str) -> None:
        """Make new pods on this engine from now on, also after a restart; InvalidArgument when it is not served."""
        self._require(name)
        await self._choices.set_default_engine(name)
        self._default = name
        for listener in self.on_default:
            listener(name)

    @property
    def pins(self) -> Mapping[str, str]:
        """Pods, by uid, whose next sandbox is made on a certain engine, whatever the default is."""
        return self._pins

    async def pin(self, pod_uid: str, name: str) -> None:
        """Make the pod's next sandboxes on this engine, also after a restart; InvalidArgument when it is not served."""
        self._require(name)
        await self._choices.pin(pod_uid, name)
        self._pins[pod_uid] = name

    async def unpin(self, pod_uid: str) -> None:
        """Let the pod's next sandboxes be made on the default engine again; done already is done."""
        await self._choices.unpin(pod_uid)
        self._pins.pop(pod_uid, None)

    def _require(self, name: str) -> None:
        if name not in self._sides:
            raise InvalidArgument(f"no engine {name!r} is served; served are: {', '.join(self._sides)}")
