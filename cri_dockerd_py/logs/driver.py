"""The log driver as the rest of the service sees it: start it, rotate a log, ask for its figures, stop it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from aiohttp import web

from cri_dockerd_py.errors import AlreadyExists
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.logs.docker_frames import DockerFrames
from cri_dockerd_py.logs.log_file import check_path
from cri_dockerd_py.logs.plugin_http import Info, make_app
from cri_dockerd_py.logs.pump import Pump
from cri_dockerd_py.logs.read_back import ReadRequest, frames, opened_tail
from cri_dockerd_py.logs.room import FifoKeeper, LogRoom, NoKeeper
from cri_dockerd_py.logs.state_lock import StateLock

logger = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_NAME = "cri-dockerd-py"
PLUGIN_DIR = Path("/run/docker/plugins")
LOG_PATH_LABEL = "io.kubernetes.container.logpath"
_KIND = "docker"
_FOLLOW_SECONDS = 0.25
_DRAIN_SECONDS = 5.0


def labelled_path(info: Mapping[str, Any]) -> tuple[str, str | None]:
    """The container's id and its log path, from dockershim's label in a StartLogging request."""
    return info["ContainerID"], (info.get("ContainerLabels") or {}).get(LOG_PATH_LABEL) or None


class LogDriver:
    """A Docker log driver that writes CRI log files.

    Containers are created with `LogConfig` as `log_config()` gives it. `inherited` are FIFOs that a descriptor store
    kept open, under the names of `open_fifos()`; `keeper` is told which to keep. `listener` is the plugin's listening
    socket when a service manager holds it: then dockerd finds us even while we restart.
    """

    def __init__(
        self,
        name: str = DEFAULT_NAME,
        *,
        state_dir: Path,
        plugin_dir: Path = PLUGIN_DIR,
        log_path: Callable[[Mapping[str, Any]], tuple[str, str | None]] = labelled_path,
        inherited: Mapping[str, int] | None = None,
        keeper: FifoKeeper | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self.name = name
        self.counters = Counters()
        self._socket_path = plugin_dir / f"{name}.sock"
        self._lock = StateLock(state_dir)
        self._log_path = log_path
        self._inherited = dict(inherited or {})
        self._listener = listener
        self._pump = Pump(f"logs-{name}")
        self._room = LogRoom(
            state_dir, self._pump, {_KIND: DockerFrames()}, self.counters, keeper if keeper is not None else NoKeeper()
        )
        self._runner: web.AppRunner | None = None
        self._made_socket = False
        self._stopping = False

    def log_config(self) -> dict[str, Any]:
        """The `HostConfig.LogConfig` of a container whose log is to come here."""
        return {"Type": self.name, "Config": {"cache-disabled": "true"}}

    async def start(self) -> None:
        """Go on with the logs of an earlier process, then answer dockerd."""
        self._lock.take()
        self._pump.start()
        try:
            await self._call(lambda: self._room.recover(self._inherited))
            await self._listen()
        except BaseException:
            await self.stop()
            raise

    async def _listen(self) -> None:
        runner = web.AppRunner(make_app(self), access_log=None, handle_signals=False, shutdown_timeout=_DRAIN_SECONDS)
        await runner.setup()
        self._runner = runner
        if self._listener is not None:
            await web.SockSite(runner, self._listener).start()
            return
        self._socket_path.parent.mkdir(0o700, parents=True, exist_ok=True)
        if _answers(self._socket_path):
            raise AlreadyExists(
                f"a log driver already listens at {self._socket_path}; give this instance another log driver name"
            )
        self._socket_path.unlink(missing_ok=True)
        await web.UnixSite(runner, str(self._socket_path)).start()
        self._socket_path.chmod(0o600)
        self._made_socket = True

    async def stop(self) -> None:
        """Stop where we are: whoever starts next with the same state directory goes on. May be called twice."""
        if not self._lock.held:
            return
        self._stopping = True
        if self._runner is not None:
            await self._runner.cleanup()
            if self._made_socket:
                # Docker asks whoever has a socket there before it lists volumes, and waits long for one who is gone.
                self._socket_path.unlink(missing_ok=True)
        await self._call(self._room.close)
        self._pump.stop()
        self._lock.release()

    async def reopen(self, container_id: str) -> None:
        """Rotation: when this returns, all further lines go to a new file at the log's path."""
        await self._call(lambda: self._room.reopen(container_id))

    async def forget(self, container_id: str) -> None:
        """The container was removed from the engine."""
        await self._call(lambda: self._room.forget(container_id))

    async def open_fifos(self) -> dict[str, int]:
        """The FIFOs that are open now, by the names under which `inherited` expects them."""
        return await self._call(self._room.fifos)

    def is_logging(self, container_id: str) -> bool:
        """Whether this container's log is open."""
        return container_id in self._room.known()

    def known(self) -> frozenset[str]:
        """All containers whose log is open; `forget` those that the engine no longer has."""
        return self._room.known()

    async def start_logging(self, fifo_path: str, info: Info) -> None:
        """See `LogPlugin`."""
        container_id, path = self._log_path(info)
        checked = None if path is None else check_path(path)
        await self._call(lambda: self._room.attach(container_id, checked, fifo_path, _KIND))

    async def stop_logging(self, fifo_path: str) -> None:
        """See `LogPlugin`."""
        await self._call(lambda: self._room.detach(fifo_path))

    async def read_logs(self, info: Info, config: dict[str, Any]) -> AsyncIterator[bytes]:
        """See `LogPlugin`."""
        container_id, path = self._log_path(info)
        if path is None:
            return
        request = ReadRequest.from_config(config)
        streams = await asyncio.to_thread(opened_tail, check_path(path), request.tail_lines)
        try:
            for stream in streams[:-1]:
                async for batch in _in_thread(stream, request):
                    yield batch
            while streams:
                more = request.follow and not self._stopping and self.is_logging(container_id)
                successor = _successor(Path(path), streams[-1]) if more else None
                async for batch in _in_thread(streams[-1], request):
                    yield batch
                if successor is not None:
                    streams.append(successor)
                elif more:
                    await asyncio.sleep(_FOLLOW_SECONDS)
                else:
                    break
        finally:
            for stream in streams:
                stream.close()

    async def _call(self, job: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._pump.submit(job))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


async def _in_thread(stream: IO[bytes], request: ReadRequest) -> AsyncIterator[bytes]:
    batches = frames(stream, request)
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        yield batch


def _successor(path: Path, stream: IO[bytes]) -> IO[bytes] | None:
    """The file that rotation has put in the place of the one being read."""
    try:
        if os.stat(path).st_ino != os.fstat(stream.fileno()).st_ino:
            return path.open("rb")
    except OSError:
        pass
    return None
