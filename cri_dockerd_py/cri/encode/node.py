"""Version, Status and RuntimeConfig (STA)."""

from __future__ import annotations

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.encode.text import clean
from cri_dockerd_py.model.node import CgroupDriver, Condition, RuntimeHandler

#: The version of the kubelet runtime API, the same since the beginning; kubelet refuses any other (STA-02).
KUBELET_API_VERSION = "0.1.0"


def version(runtime_name: str, runtime_version: str, runtime_api_version: str) -> pb.VersionResponse:
    """Return the answer to Version, whatever version was asked for."""
    return pb.VersionResponse(
        version=KUBELET_API_VERSION,
        runtime_name=runtime_name,
        runtime_version=runtime_version,
        runtime_api_version=runtime_api_version,
    )


def status(
    conditions: tuple[Condition, ...], handlers: tuple[RuntimeHandler, ...], supplemental_groups_policy: bool
) -> pb.StatusResponse:
    """Return conditions, handlers and features."""
    return pb.StatusResponse(
        status=pb.RuntimeStatus(conditions=[_condition(condition) for condition in conditions]),
        runtime_handlers=[_handler(handler) for handler in handlers],
        features=pb.RuntimeFeatures(supplemental_groups_policy=supplemental_groups_policy),
    )


def runtime_config(driver: CgroupDriver) -> pb.RuntimeConfigResponse:
    """Return the cgroup driver (STA-20)."""
    wire_driver = pb.SYSTEMD if driver is CgroupDriver.SYSTEMD else pb.CGROUPFS
    return pb.RuntimeConfigResponse(linux=pb.LinuxRuntimeConfiguration(cgroup_driver=wire_driver))


def _condition(condition: Condition) -> pb.RuntimeCondition:
    return pb.RuntimeCondition(
        type=condition.type, status=condition.status, reason=condition.reason, message=clean(condition.message)
    )


def _handler(handler: RuntimeHandler) -> pb.RuntimeHandler:
    features = pb.RuntimeHandlerFeatures(
        recursive_read_only_mounts=handler.recursive_read_only_mounts, user_namespaces=handler.user_namespaces
    )
    return pb.RuntimeHandler(name=handler.name, features=features)
