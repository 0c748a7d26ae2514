"""Pods as the API describes them, and what kubelet makes of them for CRI."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb


@dataclass(frozen=True, slots=True)
class AppContainer:
    """A container of a pod; `volumes` are {name of an emptyDir: path inside}."""

    name: str
    image: str
    command: tuple[str, ...]
    pre_stop: tuple[str, ...] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AppPod:
    """A pod; `labels` default to those of a Deployment's pod."""

    name: str
    containers: tuple[AppContainer, ...]
    init_containers: tuple[AppContainer, ...] = ()
    namespace: str = "default"
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    restart_policy: str = "Always"
    grace_s: int = 10
    labels: Mapping[str, str] = field(default_factory=lambda: {"app": "web", "pod-template-hash": "5d4f"})
    host_ports: Mapping[int, int] = field(default_factory=dict)  # host port → container port
    host_network: bool = False

    def sandbox_config(self, directory: Path, attempt: int) -> pb.PodSandboxConfig:
        """Return what RunPodSandbox is asked for."""
        network = pb.NODE if self.host_network else pb.POD
        security = pb.LinuxSandboxSecurityContext(namespace_options=pb.NamespaceOption(network=network))
        return pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name=self.name, uid=self.uid, namespace=self.namespace, attempt=attempt),
            hostname="" if self.host_network else self.name,
            log_directory=str(self.log_directory(directory)),
            labels={**self.labels, **self._identity()},
            annotations={"kubernetes.io/config.source": "api", "kubernetes.io/config.seen": "2026-01-01T00:00:00Z"},
            port_mappings=[
                pb.PortMapping(protocol=pb.TCP, container_port=inside, host_port=outside)
                for outside, inside in self.host_ports.items()
            ],
            linux=pb.LinuxPodSandboxConfig(security_context=security),
        )

    def container_config(
        self, container: AppContainer, image_id: str, directory: Path, restarts: int
    ) -> pb.ContainerConfig:
        """Return what CreateContainer is asked for."""
        mounts = [
            pb.Mount(host_path=str(self.volume(directory, name)), container_path=path)
            for name, path in container.volumes.items()
        ]
        return pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=container.name, attempt=restarts),
            image=pb.ImageSpec(image=image_id, user_specified_image=container.image),
            command=list(container.command),
            envs=[pb.KeyValue(key=key, value=value.encode()) for key, value in container.env.items()],
            mounts=mounts,
            labels={**self._identity(), "io.kubernetes.container.name": container.name},
            annotations={
                "io.kubernetes.container.hash": "a1b2c3d4",
                "io.kubernetes.container.restartCount": str(restarts),
                "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
                "io.kubernetes.container.terminationMessagePolicy": "File",
                "io.kubernetes.pod.terminationGracePeriod": str(self.grace_s),
            },
            log_path=f"{container.name}/{restarts}.log",
            linux=pb.LinuxContainerConfig(),
        )

    def log_directory(self, directory: Path) -> Path:
        """Return where the pod's logs are."""
        return directory / "logs" / f"{self.namespace}_{self.name}_{self.uid}"

    def volume(self, directory: Path, name: str) -> Path:
        """Return the directory of an emptyDir."""
        return directory / "pods" / self.uid / "volumes" / "kubernetes.io~empty-dir" / name

    def _identity(self) -> dict[str, str]:
        return {
            "io.kubernetes.pod.name": self.name,
            "io.kubernetes.pod.namespace": self.namespace,
            "io.kubernetes.pod.uid": self.uid,
        }
