"""ContainerConfig to ContainerSpec."""

from __future__ import annotations

from collections.abc import Iterable

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.cri.decode.image import image_spec
from cri_dockerd_py.cri.decode.mounts import devices, mounts
from cri_dockerd_py.cri.decode.resources import resources
from cri_dockerd_py.cri.decode.security import container_security
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import ContainerMetadata, ContainerSpec

_SIGNALS = frozenset(pb.Signal.values())
_CDI_LIMIT = 1024


def container_spec(request: pb.CreateContainerRequest) -> ContainerSpec:
    """Return what CreateContainer asks for; the sandbox's own spec is the one that RunPodSandbox got (CRE-01)."""
    if not request.HasField("config"):
        fields.missing("config", "give the container's config")
    config = request.config
    if not config.HasField("metadata"):
        fields.missing("config.metadata", "give the container's name and attempt")
    if not config.HasField("image"):
        fields.missing("config.image", "name the container's image")
    return ContainerSpec(
        metadata=ContainerMetadata(fields.name("config.metadata.name", config.metadata.name), config.metadata.attempt),
        image=image_spec("config.image", config.image),
        command=fields.arguments("config.command", config.command),
        args=fields.arguments("config.args", config.args),
        working_dir=fields.absolute_path("config.working_dir", config.working_dir) if config.working_dir else "",
        envs=_envs(config.envs),
        mounts=mounts("config.mounts", config.mounts),
        devices=devices("config.devices", config.devices),
        cdi_devices=_cdi_devices(config.CDI_devices),
        labels=fields.text_map("config.labels", config.labels),
        annotations=fields.text_map("config.annotations", config.annotations),
        log_path=fields.confined_relative_path("config.log_path", config.log_path),
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        stop_signal=_stop_signal(config.stop_signal),
        resources=resources("config.linux.resources", config.linux.resources),
        security=container_security("config.linux.security_context", config.linux.security_context),
    )


def _cdi_devices(given: Iterable[pb.CDIDevice]) -> tuple[str, ...]:
    return fields.words("config.CDI_devices", (device.name for device in given), count=_CDI_LIMIT)


def _envs(given: Iterable[pb.KeyValue]) -> tuple[tuple[str, str], ...]:
    return tuple(_env(f"config.envs[{index}]", env) for index, env in enumerate(given))


def _env(field: str, env: pb.KeyValue) -> tuple[str, str]:
    if not env.key or "=" in env.key or "\0" in env.key:
        fields.refuse(f"{field}.key", env.key, "give a name without '=' and NUL")
    if b"\0" in env.value:  # the value may be a secret, so it is not shown
        raise InvalidArgument(f"{field} ({fields.shown(env.key)}): the value has a NUL, which no environment can hold")
    return env.key, env.value.decode("utf-8", "surrogateescape")


def _stop_signal(value: int) -> int:
    if value not in _SIGNALS:
        fields.refuse("config.stop_signal", value, "use a value of the CRI enumeration Signal")
    return value
