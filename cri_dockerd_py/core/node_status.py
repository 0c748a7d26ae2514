"""What Version, Status and RuntimeConfig say, from memory.

With several engines they are about the default one, where the next pod will be made: kubelet stops syncing all pods of
a node whose RuntimeReady is false, and the scheduler sends it no more, which is right exactly as long as no pod can be
made. Another engine that is away is told in the verbose status; its pods' calls fail by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cri_dockerd_py.core.engines import Engines, Side
from cri_dockerd_py.errors import Unavailable
from cri_dockerd_py.model.node import CgroupDriver, Condition, EngineInfo, RuntimeHandler
from cri_dockerd_py.network.pod_network import PodNetwork

_RUNTIME_API_VERSION = "v1"


class NodeStatus:
    """Facts about the node; `runtime_name` is set before anybody asks."""

    def __init__(
        self,
        engines: Engines,
        network: PodNetwork,
        effective_settings: Callable[[], Mapping[str, object]],
    ) -> None:
        self.runtime_name = ""
        self._engines = engines
        self._network = network
        self._effective_settings = effective_settings

    def conditions(self) -> tuple[Condition, ...]:
        """Return RuntimeReady and NetworkReady, with the reason when false (STA-10)."""
        health = self._engines.default.health
        if health.ready:
            runtime = Condition("RuntimeReady", True)
        else:
            runtime = Condition("RuntimeReady", False, "EngineNotReady", f"{health.engine_name}: {health.reason}")
        ready, reason, message = self._network.status()
        network = Condition("NetworkReady", ready, "" if ready else reason, "" if ready else message)
        return runtime, network

    def handlers(self) -> tuple[RuntimeHandler, ...]:
        """Return the runtime handlers, the default one under the empty name among them (STA-15)."""
        info = self._engines.default.info
        return info.runtime_handlers if info else ()

    def supplemental_groups_policy(self) -> bool:
        """Whether the Strict policy is kept."""
        info = self._engines.default.info
        return info is not None and info.supplemental_groups_policy

    def version(self) -> tuple[str, str, str]:
        """Return runtime name, runtime version and API version; Unavailable until an engine has told its version.

        The name does not change on a node, whatever becomes the default engine: container ids are made of it.
        """
        if (info := self._info()) is None:
            health = self._engines.default.health
            raise Unavailable(f"{health.engine_name} has not been reached yet ({health.reason})")
        return self.runtime_name, info.version, _RUNTIME_API_VERSION

    def cgroup_driver(self) -> CgroupDriver | None:
        """Return the driver that kubelet must use too, None while unknown."""
        info = self._info()
        return info.cgroup_driver if info else None

    def _info(self) -> EngineInfo | None:
        """Return the default engine's facts, or another one's before it was reached: kubelet must be able to start."""
        sides = (self._engines.default, *self._engines)
        return next((side.info for side in sides if side.info is not None), None)

    def update_pod_cidr(self, cidr: str) -> None:
        """Take over the node's pod CIDR, one or two with a comma between them; empty changes nothing (STA-22)."""
        if cidr:
            self._network.update_pod_cidr(cidr)

    def verbose(self) -> Mapping[str, object]:
        """Return what `crictl info` shows beside the conditions (STA-18)."""
        default = self._engines.default
        view: dict[str, object] = {"config": self._effective_settings(), "engine": _shown(default)}
        if len(self._engines.names) > 1:
            view["engines"] = [_shown(side) for side in self._engines]
            view["defaultEngine"] = default.name
            if problem := self.disagreement():
                view["disagreement"] = problem
        return view

    def disagreement(self) -> str:
        """Return why pods cannot be moved freely between the engines, empty when nothing is known against it."""
        drivers = {side.name: side.info.cgroup_driver.value for side in self._engines if side.info is not None}
        if len(set(drivers.values())) < 2:
            return ""
        found = ", ".join(f"{name}: {driver}" for name, driver in drivers.items())
        return f"the engines have different cgroup drivers ({found}), and kubelet knows only one: set them to the same"


def _shown(side: Side) -> Mapping[str, object]:
    engine: dict[str, object] = {"name": side.name, "ready": side.health.ready}
    if not side.health.ready:
        engine["reason"] = side.health.reason
    if side.info is not None:
        engine |= {
            "version": side.info.version,
            "apiVersion": side.info.api_version,
            "cgroupDriver": side.info.cgroup_driver.value,
            "cgroupVersion": side.info.cgroup_version,
            "rootDir": side.info.root_dir,
        }
    return engine
