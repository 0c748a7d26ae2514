"""The steps of the demo."""

from __future__ import annotations

import contextlib
import platform
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import grpc

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py._generated.runtime_v1 import api_pb2_grpc as cri_grpc
from cri_dockerd_py.demo.registry import serve_image
from cri_dockerd_py.demo.report import Report
from cri_dockerd_py.errors import CriError, NotFound, Unavailable
from cri_dockerd_py.pause.archive import BuiltImage, LayerFile, build_image
from cri_dockerd_py.pause.image import pause_image
from cri_dockerd_py.settings import Settings

BUSYBOX = Path("/bin/busybox")
REPOSITORY, TAG = "cri-dockerd-py/demo", "1"
CALL_TIMEOUT_SECONDS = 60.0
LOG_TIMEOUT_SECONDS = 10.0
_SCRIPT = 'echo "hello from pod $(hostname)"; trap "exit 0" TERM; while :; do sleep 1 & wait $!; done'
_DEFAULT_SOCKET = "unix:///run/cri-dockerd-py.sock"


def run(settings: Settings, keep: bool = False) -> int:
    """Run the demo against the socket that the settings name; return the exit code."""
    # With socket activation the settings do not know the path; systemd's unit has the default one.
    endpoint = settings.container_runtime_endpoint.replace("fd://", _DEFAULT_SOCKET)
    report = Report()
    try:
        channel = grpc.insecure_channel(endpoint.replace("unix://", "unix:"))
        with channel, contextlib.ExitStack() as cleanup:
            Demo(channel, report, cleanup, endpoint).walk()
            if keep:
                cleanup.pop_all()
    except grpc.RpcError as error:
        print(f"the demo failed: {error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    except CriError as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    print(f"done in {report.total_seconds():.1f} s; {'the pod is left running' if keep else 'nothing is left behind'}")
    return 0


class Demo:
    """One walk: every step that makes something pushes its removal."""

    def __init__(self, channel: grpc.Channel, report: Report, cleanup: contextlib.ExitStack, endpoint: str) -> None:
        self._runtime = cri_grpc.RuntimeServiceStub(channel)
        self._images = cri_grpc.ImageServiceStub(channel)
        self._report = report
        self._cleanup = cleanup
        self._endpoint = endpoint
        self._log_dir = Path(tempfile.mkdtemp(prefix="cri-demo-"))
        cleanup.callback(self._remove_logs)

    def walk(self) -> None:
        """Take all steps."""
        self._ask_version()
        image = self._pull_image()
        config = self._sandbox_config()
        pod_id = self._run_pod(config)
        self._show_address(pod_id)
        container_id = self._start_container(pod_id, config, image)
        if BUSYBOX.exists():
            self._read_log()
            self._exec(container_id)

    def _ask_version(self) -> None:
        with self._report.step(f"ask {self._endpoint} who it is") as step:
            try:
                version = self._runtime.Version(cri.VersionRequest(), timeout=CALL_TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                raise Unavailable(f"nothing serves at {self._endpoint}; start it with: make serve") from error
            status = self._runtime.Status(cri.StatusRequest(), timeout=CALL_TIMEOUT_SECONDS).status
            step.show(f"{version.runtime_name} {version.runtime_version}, CRI {version.runtime_api_version}")
            step.show(*(f"{item.type}: {item.status} {item.message}".rstrip() for item in status.conditions))

    def _pull_image(self) -> str:
        with self._report.step("make an image and pull it from a registry inside this process") as step:
            with serve_image(_demo_image(), REPOSITORY, TAG) as reference:
                request = cri.PullImageRequest(image=cri.ImageSpec(image=reference))
                image_ref = str(self._images.PullImage(request, timeout=CALL_TIMEOUT_SECONDS).image_ref)
            self._undo("remove the image", lambda: self._remove_image(reference))
            step.show(f"{reference} is {image_ref}")
        return image_ref

    def _run_pod(self, config: cri.PodSandboxConfig) -> str:
        with self._report.step(f"run pod {config.metadata.namespace}/{config.metadata.name}") as step:
            request = cri.RunPodSandboxRequest(config=config)
            pod_id = str(self._runtime.RunPodSandbox(request, timeout=CALL_TIMEOUT_SECONDS).pod_sandbox_id)
            self._undo("stop and remove the pod", lambda: self._remove_pod(pod_id))
            step.show(pod_id)
        return pod_id

    def _show_address(self, pod_id: str) -> None:
        with self._report.step("ask for the pod's address") as step:
            request = cri.PodSandboxStatusRequest(pod_sandbox_id=pod_id)
            network = self._runtime.PodSandboxStatus(request, timeout=CALL_TIMEOUT_SECONDS).status.network
            if not network.ip:
                raise NotFound("the pod has no address; see the CNI configuration in cni_conf_dir")
            step.show(network.ip, *(address.ip for address in network.additional_ips))

    def _start_container(self, pod_id: str, sandbox: cri.PodSandboxConfig, image: str) -> str:
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name="hello", attempt=0),
            image=cri.ImageSpec(image=image),
            command=["/bin/sh", "-c", _SCRIPT] if BUSYBOX.exists() else [],
            log_path="hello/0.log",
            linux=cri.LinuxContainerConfig(),
        )
        with self._report.step("create and start a container") as step:
            request = cri.CreateContainerRequest(pod_sandbox_id=pod_id, config=config, sandbox_config=sandbox)
            container_id = str(self._runtime.CreateContainer(request, timeout=CALL_TIMEOUT_SECONDS).container_id)
            self._undo("stop and remove the container", lambda: self._remove_container(container_id))
            start = cri.StartContainerRequest(container_id=container_id)
            self._runtime.StartContainer(start, timeout=CALL_TIMEOUT_SECONDS)
            step.show(container_id)
        return container_id

    def _read_log(self) -> None:
        path = self._log_dir / "hello" / "0.log"
        with self._report.step("read its log, as kubelet does") as step:
            deadline = time.monotonic() + LOG_TIMEOUT_SECONDS
            while not (path.exists() and path.read_text()):
                if time.monotonic() > deadline:
                    raise NotFound(f"no line came to {path} within {LOG_TIMEOUT_SECONDS:g} s")
                time.sleep(0.01)
            step.show(*path.read_text().splitlines())

    def _exec(self, container_id: str) -> None:
        command = ["/bin/sh", "-c", "id; ip -o address show eth0 2>/dev/null || ip -o address"]
        with self._report.step("run a command in it") as step:
            request = cri.ExecSyncRequest(container_id=container_id, cmd=command, timeout=10)
            answer = self._runtime.ExecSync(request, timeout=CALL_TIMEOUT_SECONDS)
            step.show(*answer.stdout.decode(errors="replace").splitlines(), f"exit code {answer.exit_code}")
            if answer.exit_code != 0:
                raise NotFound(f"the command failed: {answer.stderr.decode(errors='replace')}")

    def _sandbox_config(self) -> cri.PodSandboxConfig:
        uid = str(uuid.uuid4())
        return cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=f"demo-{uid[:8]}", uid=uid, namespace="default", attempt=0),
            hostname="demo",
            log_directory=str(self._log_dir),
            linux=cri.LinuxPodSandboxConfig(),
        )

    def _undo(self, title: str, action: Callable[[], object]) -> None:
        def step() -> None:
            with self._report.step(title):
                action()

        self._cleanup.callback(step)

    def _remove_container(self, container_id: str) -> None:
        stop = cri.StopContainerRequest(container_id=container_id, timeout=5)
        self._runtime.StopContainer(stop, timeout=CALL_TIMEOUT_SECONDS)
        remove = cri.RemoveContainerRequest(container_id=container_id)
        self._runtime.RemoveContainer(remove, timeout=CALL_TIMEOUT_SECONDS)

    def _remove_pod(self, pod_id: str) -> None:
        self._runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=pod_id), timeout=CALL_TIMEOUT_SECONDS)
        remove = cri.RemovePodSandboxRequest(pod_sandbox_id=pod_id)
        self._runtime.RemovePodSandbox(remove, timeout=CALL_TIMEOUT_SECONDS)

    def _remove_image(self, reference: str) -> None:
        request = cri.RemoveImageRequest(image=cri.ImageSpec(image=reference))
        self._images.RemoveImage(request, timeout=CALL_TIMEOUT_SECONDS)

    def _remove_logs(self) -> None:
        for path in sorted(self._log_dir.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self._log_dir.rmdir()


def _demo_image() -> BuiltImage:
    """Return an image of the machine's busybox or, where there is none, of the pause process alone."""
    if not BUSYBOX.exists():
        return pause_image(platform.machine())
    applets = ("sh", "echo", "hostname", "id", "ip", "sleep")
    files = {"bin/": LayerFile(), "tmp/": LayerFile(mode=0o1777), "bin/busybox": LayerFile(BUSYBOX.read_bytes())}
    files |= {f"bin/{applet}": LayerFile(link_target="busybox") for applet in applets}
    return build_image(files, {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}, _architecture())


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
