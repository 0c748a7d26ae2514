"""The service under test as a process of its own, and a client of its socket."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py._generated.runtime_v1 import api_pb2_grpc as cri_grpc
from tests.cni import PLUGIN_DIRECTORIES, CniNetwork
from tests.engines import RealEngine
from tests.images import BUSYBOX
from tests.processes import PLUGIN_SOCKETS, Daemon, erase, private_directory, wait_until

PROGRAM = Path(sys.executable).parent / "cri-dockerd-py"
CALL_TIMEOUT_SECONDS = 60.0
_serial = itertools.count()


class CriServer:
    """`cri-dockerd-py serve` on an engine, with directories and a socket of its own; later flags win."""

    def __init__(
        self,
        engine: RealEngine,
        network: CniNetwork,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = private_directory("s")
        self.socket = self.directory / "cri.sock"
        self.root_dir = self.directory / "root"
        self.state_dir = self.directory / "state"
        self.log_dir = self.directory / "logs"
        self.log_driver = self.directory.name
        self.engine = engine
        self.network = network
        options = {
            "container-runtime-endpoint": f"unix://{self.socket}",
            **engine.service_options,
            "root-dir": self.root_dir,
            "state-dir": self.state_dir,
            "cni-conf-dir": network.conf_dir,
            "cni-bin-dir": ",".join(PLUGIN_DIRECTORIES),
            "cni-cache-dir": network.cache_dir,
            "cri-dockerd-root-directory": self.directory / "foreign",
            "log-driver-name": self.log_driver,
            "registry-config-path": self.directory / "certs.d",
            "config": self.directory / "config.toml",
            "log-level": "debug",
        }
        (self.directory / "config.toml").write_text(engine.service_config)
        self.flags = [*(f"--{name}={value}" for name, value in options.items()), *flags]
        self.daemon = Daemon([str(PROGRAM), "serve", *self.flags], self.directory / "serve.log", environment)

    def start(self) -> None:
        """Start the service and wait until it answers Version."""
        self.daemon.start(self._answers)

    def stop(self) -> int:
        """Stop the service with SIGTERM and return its exit code."""
        return self.daemon.stop()

    def kill(self) -> None:
        """End the service with SIGKILL."""
        self.daemon.kill()

    def restart(self) -> None:
        """Kill the service and start it again."""
        self.kill()
        self.start()

    def run(self, verb: str) -> str:
        """Run another verb of the program with the same settings, and return what it prints."""
        done = subprocess.run([str(PROGRAM), verb, *self.flags], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"{verb} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def client(self) -> CriClient:
        """Return a new client of this service."""
        return CriClient(self.socket, self.log_dir)

    def close(self) -> None:
        """Stop the service and remove its directories."""
        self.stop()
        (PLUGIN_SOCKETS / f"{self.log_driver}.sock").unlink(missing_ok=True)
        erase(self.directory)

    def _answers(self) -> bool:
        with contextlib.closing(self.client()) as client, contextlib.suppress(grpc.RpcError):
            client.runtime.Version(cri.VersionRequest(), timeout=2.0)
            return True
        return False


class CriClient:
    """Stubs for both services on one socket, and the few steps that most tests take."""

    def __init__(self, socket: Path, log_dir: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.use_local_subchannel_pool", 1)])
        self._log_dir = log_dir
        self.runtime = cri_grpc.RuntimeServiceStub(self._channel)
        self.images = cri_grpc.ImageServiceStub(self._channel)
        older = _OlderNames(self._channel)
        self.runtime_v1alpha2 = cri_grpc.RuntimeServiceStub(older)
        self.images_v1alpha2 = cri_grpc.ImageServiceStub(older)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def sandbox_config(self, name: str = "", **fields: Any) -> cri.PodSandboxConfig:
        """Return the config of a new pod with a name and uid of its own."""
        name = name or f"pod-{next(_serial)}"
        uid = str(uuid.uuid4())
        metadata = cri.PodSandboxMetadata(name=name, uid=uid, namespace="cri-test", attempt=0)
        log_directory = self._log_dir / f"cri-test_{name}_{uid}"
        log_directory.mkdir(parents=True)
        defaults = {"metadata": metadata, "log_directory": str(log_directory), "linux": cri.LinuxPodSandboxConfig()}
        return cri.PodSandboxConfig(**{**defaults, **fields})

    def container_config(self, *command: str, image: str = BUSYBOX, **fields: Any) -> cri.ContainerConfig:
        """Return the config of a new container; without a command it sleeps until it is stopped."""
        name = f"container-{next(_serial)}"
        defaults = {
            "metadata": cri.ContainerMetadata(name=name, attempt=0),
            "image": cri.ImageSpec(image=image),
            "command": list(command) or ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"],
            "log_path": f"{name}/0.log",
            "linux": cri.LinuxContainerConfig(),
        }
        return cri.ContainerConfig(**{**defaults, **fields})

    def run_pod(self, config: cri.PodSandboxConfig | None = None, runtime_handler: str = "") -> str:
        """Run a pod and return its id."""
        request = cri.RunPodSandboxRequest(config=config or self.sandbox_config(), runtime_handler=runtime_handler)
        return self.runtime.RunPodSandbox(request, timeout=CALL_TIMEOUT_SECONDS).pod_sandbox_id

    def remove_pod(self, pod_id: str) -> None:
        """Stop and remove a pod, as kubelet does."""
        self.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=pod_id), timeout=CALL_TIMEOUT_SECONDS)
        self.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=pod_id), timeout=CALL_TIMEOUT_SECONDS)

    def create_container(
        self, pod_id: str, config: cri.ContainerConfig, sandbox_config: cri.PodSandboxConfig | None = None
    ) -> str:
        """Create a container and return its id."""
        request = cri.CreateContainerRequest(pod_sandbox_id=pod_id, config=config, sandbox_config=sandbox_config)
        return self.runtime.CreateContainer(request, timeout=CALL_TIMEOUT_SECONDS).container_id

    def start_container(
        self, pod_id: str, config: cri.ContainerConfig, sandbox_config: cri.PodSandboxConfig | None = None
    ) -> str:
        """Create and start a container and return its id."""
        container_id = self.create_container(pod_id, config, sandbox_config)
        self.runtime.StartContainer(cri.StartContainerRequest(container_id=container_id), timeout=CALL_TIMEOUT_SECONDS)
        return container_id

    def container_status(self, container_id: str) -> cri.ContainerStatus:
        """Return the status of a container."""
        return self.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container_id), timeout=10).status

    def pod_status(self, pod_id: str) -> cri.PodSandboxStatus:
        """Return the status of a pod."""
        return self.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod_id), timeout=10).status

    def wait_exited(self, container_id: str, timeout: float = 30.0) -> cri.ContainerStatus:
        """Wait until a container has exited and return its status."""

        def exited() -> bool:
            return self.container_status(container_id).state == cri.CONTAINER_EXITED

        wait_until(exited, f"the end of container {container_id}", timeout)
        return self.container_status(container_id)

    def exec_sync(self, container_id: str, *command: str, timeout: int = 10) -> cri.ExecSyncResponse:
        """Run a command in a container."""
        request = cri.ExecSyncRequest(container_id=container_id, cmd=list(command), timeout=timeout)
        return self.runtime.ExecSync(request, timeout=CALL_TIMEOUT_SECONDS)


class _OlderNames:
    """A channel that calls the same methods under `runtime.v1alpha2`, as older kubelets do."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._channel.unary_unary(method.replace("/runtime.v1.", "/runtime.v1alpha2."), *arguments, **options)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._channel.unary_stream(method.replace("/runtime.v1.", "/runtime.v1alpha2."), *arguments, **options)
