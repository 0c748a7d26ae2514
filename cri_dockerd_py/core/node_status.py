"""What Version, Status and RuntimeConfig say, from memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cri_dockerd_py.core.health import EngineHealth
from cri_dockerd_py.errors import Unavailable
from cri_dockerd_py.model.node import CgroupDriver, Condition, EngineInfo, RuntimeHandler
from cri_dockerd_py.network.pod_network import PodNetwork

_RUNTIME_API_VERSION = "v1"


class NodeStatus:
    """Facts about the node; `info` is set when an engine has been reached."""

    def __init__(
        self,
        runtime_name: str,
        health: EngineHealth,
        network: PodNetwork,
        effective_settings: Callable[[], Mapping[str, object]],
    ) -> None:
        self._runtime_name = runtime_name
        self._health = health
        self._network = network
        self._effective_settings = effective_settings
        self.info: EngineInfo | None = None

    def conditions(self) -> tuple[Condition, ...]:
        """Return RuntimeReady and NetworkReady, with the reason when false (STA-10)."""
        if self._health.ready:
            runtime = Condition("RuntimeReady", True)
        else:
            message = f"{self._health.engine_name}: {self._health.reason}"
            runtime = Condition("RuntimeReady", False, "EngineNotReady", message)
        ready, reason, message = self._network.status()
        network = Condition("NetworkReady", ready, "" if ready else reason, "" if ready else message)
        return runtime, network

    def handlers(self) -> tuple[RuntimeHandler, ...]:
        """Return the runtime handlers, the default one under the empty name among them (STA-15)."""
        return self.info.runtime_handlers if self.info else ()

    def supplemental_groups_policy(self) -> bool:
        """Whether the Strict policy is kept."""
        return self.info is not None and self.info.supplemental_groups_policy

    def version(self) -> tuple[str, str, str]:
        """Return runtime name, runtime version and API version; Unavailable until an engine has told its version."""
        if self.info is None:
            raise Unavailable(f"{self._health.engine_name} has not been reached yet ({self._health.reason})")
        return self._runtime_name, self.info.version, _RUNTIME_API_VERSION

    def cgroup_driver(self) -> CgroupDriver | None:
        """Return the driver that kubelet must use too, None while unknown."""
        return self.info.cgroup_driver if self.info else None

    def update_pod_cidr(self, cidr: str) -> None:
        """Take over the node's pod CIDR, one or two with a comma between them; empty changes nothing (STA-22)."""
        if cidr:
            self._network.update_pod_cidr(cidr)

    def verbose(self) -> Mapping[str, object]:
        """Return what `crictl info` shows beside the conditions (STA-18)."""
        engine: dict[str, object] = {"name": self._health.engine_name, "ready": self._health.ready}
        if self.info is not None:
            engine |= {
                "version": self.info.version,
                "apiVersion": self.info.api_version,
                "cgroupDriver": self.info.cgroup_driver.value,
                "cgroupVersion": self.info.cgroup_version,
                "rootDir": self.info.root_dir,
            }
        return {"config": self._effective_settings(), "engine": engine}
