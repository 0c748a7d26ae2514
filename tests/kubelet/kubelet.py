"""The sync loop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py._generated.runtime_v1 import api_pb2_grpc as stubs
from tests.kubelet.collector import collect
from tests.kubelet.seen import Seen
from tests.kubelet.spec import AppContainer, AppPod

_CALL_S = 120.0
_UID = "io.kubernetes.pod.uid"
_WORKERS = 32
#: A service that is restarted is found again soon.
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class Kubelet:
    """Keeps pods running; `relist_s` is how often it looks, `socket` a path or an address. Used as a context."""

    def __init__(self, socket: Path | str, directory: Path, relist_s: float = 0.25, collect_s: float = 2.0) -> None:
        self.directory = directory
        self._relist_s = relist_s
        self._collect_s = collect_s
        target = f"unix:{socket}" if isinstance(socket, Path) else socket
        self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        self.runtime = stubs.RuntimeServiceStub(self._channel)
        self.images = stubs.ImageServiceStub(self._channel)
        self.pods: dict[str, AppPod] = {}
        self.pulled: list[str] = []
        self.events: list[str] = []
        self._deleted: set[str] = set()
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="pod-worker")
        self._loop = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def __enter__(self) -> Kubelet:
        self._loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._loop.join()
        self._pool.shutdown(cancel_futures=True)
        self._channel.close()

    # --- what the API server would tell it

    def add(self, *pods: AppPod) -> None:
        """Want pods."""
        for pod in pods:
            pod.log_directory(self.directory).mkdir(parents=True, exist_ok=True)
            self.pods[pod.uid] = pod

    def delete(self, pod: AppPod) -> None:
        """Want a pod no more."""
        self._deleted.add(pod.uid)

    # --- what tests look at

    def status(self, pod: AppPod) -> Seen:
        """Return all that is listed of a pod."""
        label = {_UID: pod.uid}
        sandboxes = self.runtime.ListPodSandbox(
            pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(label_selector=label)),
            timeout=_CALL_S,
            wait_for_ready=True,
        ).items
        containers = self.runtime.ListContainers(
            pb.ListContainersRequest(filter=pb.ContainerFilter(label_selector=label)), timeout=_CALL_S
        ).containers
        return Seen(
            sorted(self._sandbox_statuses(sandboxes), key=lambda one: -one.created_at),
            sorted(self._container_statuses(containers), key=lambda one: -one.created_at),
        )

    @property
    def busy(self) -> bool:
        """Whether it deals with a pod just now."""
        return bool(self._busy)

    def is_running(self, pod: AppPod) -> bool:
        """Whether the pod's newest sandbox is READY, and all of its containers run in it."""
        seen = self.status(pod)
        if seen.needs_sandbox():
            return False
        running = {container.metadata.name for container in seen.running}
        return {container.name for container in pod.containers} <= running

    def address(self, pod: AppPod) -> str:
        """Return the pod's address, empty when it has none now."""
        seen = self.status(pod)
        return "" if seen.needs_sandbox() else str(seen.sandboxes[0].network.ip)

    def _sandbox_statuses(self, sandboxes: Sequence[pb.PodSandbox]) -> Iterator[pb.PodSandboxStatus]:
        for sandbox in sandboxes:
            with _gone_is_fine():
                request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox.id)
                yield self.runtime.PodSandboxStatus(request, timeout=_CALL_S).status

    def _container_statuses(self, containers: Sequence[pb.Container]) -> Iterator[pb.ContainerStatus]:
        for container in containers:
            with _gone_is_fine():
                request = pb.ContainerStatusRequest(container_id=container.id)
                yield self.runtime.ContainerStatus(request, timeout=_CALL_S).status

    # --- the loop

    def _run(self) -> None:
        collected_at = time.monotonic()
        while not self._stop.wait(self._relist_s):
            with contextlib.suppress(grpc.RpcError):
                if not self._is_ready():
                    continue
                for pod in list(self.pods.values()):
                    self._begin_sync(pod)
                if time.monotonic() - collected_at >= self._collect_s:
                    collected_at = time.monotonic()
                    collect(self.runtime, {pod.uid for pod in self.pods.values()})

    def _is_ready(self) -> bool:
        conditions = self.runtime.Status(pb.StatusRequest(), timeout=10).status.conditions
        self.runtime.ListPodSandbox(pb.ListPodSandboxRequest(), timeout=10)
        return all(condition.status for condition in conditions)

    def _begin_sync(self, pod: AppPod) -> None:
        with self._lock:
            if pod.uid in self._busy:
                return
            self._busy.add(pod.uid)
        self._pool.submit(self._sync_in_thread, pod)

    def _sync_in_thread(self, pod: AppPod) -> None:
        try:
            self._sync(pod)
        except grpc.RpcError as error:
            self.events.append(f"{pod.name}: {error.code().name}: {error.details()}")
        finally:
            self._busy.discard(pod.uid)

    def _sync(self, pod: AppPod) -> None:
        seen = self.status(pod)
        if pod.uid in self._deleted:
            self._kill(pod, seen)
            self.pods.pop(pod.uid, None)
            return
        if not seen.needs_sandbox():
            self._start(pod, seen, seen.sandboxes[0].id, seen.to_start(pod, new_sandbox=False))
            return
        finished, wanted = seen.is_finished(pod), seen.to_start(pod, new_sandbox=True)
        if seen.sandboxes:
            self.events.append(f"{pod.name}: SandboxChanged")
            self._kill(pod, seen)
        if finished:
            return
        self._begin(pod, seen, wanted)

    # --- steps, which may also be taken alone for a pod that is not wanted

    def stop(self, pod: AppPod) -> None:
        """Stop a pod."""
        self._kill(pod, self.status(pod))

    def begin(self, pod: AppPod) -> None:
        """Start a pod in a new sandbox."""
        seen = self.status(pod)
        self._begin(pod, seen, seen.to_start(pod, new_sandbox=True))

    def _begin(self, pod: AppPod, seen: Seen, containers: Sequence[AppContainer]) -> None:
        self._purge_init(pod, seen)
        config = pod.sandbox_config(self.directory, seen.next_attempt())
        sandbox_id = self.runtime.RunPodSandbox(pb.RunPodSandboxRequest(config=config), timeout=240).pod_sandbox_id
        self._start(pod, seen, sandbox_id, containers)

    def _kill(self, pod: AppPod, seen: Seen) -> None:
        """Stop what runs, with preStop and grace, then every sandbox (RCR-12)."""
        hooks = {container.name: container.pre_stop for container in pod.containers}
        with ThreadPoolExecutor(max(len(seen.running), 1)) as pool:
            list(pool.map(lambda one: self._stop_container(one, hooks.get(one.metadata.name, ()), pod), seen.running))
        for sandbox in seen.sandboxes:
            self.runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=_CALL_S)

    def _stop_container(self, container: pb.ContainerStatus, hook: Sequence[str], pod: AppPod) -> None:
        if hook:
            request = pb.ExecSyncRequest(container_id=container.id, cmd=list(hook), timeout=pod.grace_s)
            with contextlib.suppress(grpc.RpcError):
                self.runtime.ExecSync(request, timeout=_CALL_S)
        stop = pb.StopContainerRequest(container_id=container.id, timeout=pod.grace_s)
        with _gone_is_fine():
            self.runtime.StopContainer(stop, timeout=_CALL_S + pod.grace_s)

    def _purge_init(self, pod: AppPod, seen: Seen) -> None:
        names = {container.name for container in pod.init_containers}
        for container in seen.containers:
            if container.metadata.name in names:
                self.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=container.id), timeout=_CALL_S)

    def _start(self, pod: AppPod, seen: Seen, sandbox_id: str, containers: Sequence[AppContainer]) -> None:
        for container in containers:
            restarts = max(seen.restarts(container.name), self._logged_restarts(pod, container))
            sandbox = pod.sandbox_config(self.directory, 0)
            image_id = self._image(container.image, sandbox)
            for name in container.volumes:
                pod.volume(self.directory, name).mkdir(parents=True, exist_ok=True)
            config = pod.container_config(container, image_id, self.directory, restarts)
            create = pb.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox)
            container_id = self.runtime.CreateContainer(create, timeout=_CALL_S).container_id
            self.runtime.StartContainer(pb.StartContainerRequest(container_id=container_id), timeout=_CALL_S)

    def _logged_restarts(self, pod: AppPod, container: AppContainer) -> int:
        """Return what the log directory tells, where the service tells of no container (RCR-17)."""
        logs = (pod.log_directory(self.directory) / container.name).glob("*.log")
        return max((int(log.stem) + 1 for log in logs if log.stem.isdecimal()), default=0)

    def _image(self, name: str, sandbox: pb.PodSandboxConfig) -> str:
        """Return the id of an image, which is pulled if it is not present."""
        spec = pb.ImageSpec(image=name, user_specified_image=name)
        found = self.images.ImageStatus(pb.ImageStatusRequest(image=spec), timeout=_CALL_S)
        if found.HasField("image"):
            return str(found.image.id)
        self.pulled.append(name)
        request = pb.PullImageRequest(image=spec, sandbox_config=sandbox)
        return str(self.images.PullImage(request, timeout=_CALL_S).image_ref)


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
