"""Running one CNI plugin: a short-lived process with a JSON text on stdin and a JSON answer on stdout.

The process is spawned by vfork and watched by the event loop through its pipes and a pidfd, so a call costs no
thread and no child watcher. Its input is a file in memory, hence nothing can deadlock on a full pipe. The answer is
complete when the plugin itself has ended, even if something that it left running still holds its output open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cri_dockerd_py.network import json_text
from cri_dockerd_py.network.json_text import JsonError
from cri_dockerd_py.network.settle import settle_call

_log = logging.getLogger(__name__)

_BUSY_ATTEMPTS = 6
_BUSY_PAUSE_S = 1.0
_GRACE_S = 5.0
_REAP_S = 5.0
_MAX_TEXT = 2048
_READ_BYTES = 65536
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CODE_UNKNOWN_CONTAINER = 3
CODE_TRY_AGAIN = 11
CODE_NOT_AVAILABLE = 50
CODE_LIMITED = 51


class PluginError(Exception):
    """A plugin failed: `code`, `message` and `details` are its own words (code 0: it gave none)."""

    def __init__(self, plugin: str, command: str, message: str, *, code: int = 0, details: str = "") -> None:
        super().__init__(plugin, command, message, code, details)
        self.plugin = plugin
        self.command = command
        self.message = message
        self.code = code
        self.details = details

    def __str__(self) -> str:
        details = f" ({self.details})" if self.details else ""
        code = f" [code {self.code}]" if self.code else ""
        return f"CNI plugin {self.plugin} failed {self.command}{code}: {self.message}{details}"


class PluginMissingError(PluginError):
    """The program is not there or cannot be executed."""


class PluginTimeoutError(PluginError):
    """The plugin did not end in time and was killed with all that it had started."""


@dataclass(frozen=True, slots=True)
class PluginCall:
    """One execution. `env` holds the CNI_ variables; `inherit_fd` stays open in the plugin (a held lock)."""

    program: str
    command: str
    env: Mapping[str, str]
    stdin: bytes
    timeout: float
    inherit_fd: int | None = field(default=None)

    @property
    def plugin(self) -> str:
        """The plugin's type."""
        return os.path.basename(self.program)


def find_plugin(kind: str, bin_dirs: Sequence[str]) -> str | None:
    """Return the path of a plugin's program: the first regular, executable file of that name."""
    for directory in bin_dirs:
        path = os.path.join(directory, kind)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


async def run_plugin(call: PluginCall) -> bytes:
    """Run a plugin to its end and return its stdout; PluginError when it fails, is missing or is too slow.

    A cancelled call gives the plugin a moment to end by itself: killed between two steps, it may leave what no DEL
    finds (host-local: an address reserved in nobody's name). A call whose time is over kills it at once.
    """
    deadline = asyncio.get_running_loop().time() + call.timeout
    grace = _GRACE_S
    child = await _spawn(call)
    try:
        async with asyncio.timeout_at(deadline):
            await child.ended.wait()
    except TimeoutError:
        grace = 0.0
        text = f"it did not end within {call.timeout:.0f} s and was killed"
        raise PluginTimeoutError(call.plugin, call.command, text) from None
    finally:
        await settle_call(child.close(grace), f"end CNI plugin {call.plugin}")
    return _answer(call, child)


async def _spawn(call: PluginCall) -> _Child:
    for attempt in range(1, _BUSY_ATTEMPTS + 1):
        try:
            return _Child(call)
        except OSError as error:
            if error.errno != errno.ETXTBSY or attempt == _BUSY_ATTEMPTS:
                raise PluginMissingError(
                    call.plugin, call.command, f"cannot execute {call.program}: {error}"
                ) from error
            await asyncio.sleep(_BUSY_PAUSE_S)  # the file is still being written by an installer
    raise AssertionError("unreachable")


class _Child:
    """A running plugin; `ended` is set when it has exited and its output is in `stdout` and `stderr`."""

    def __init__(self, call: PluginCall) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.too_long = False
        stdin = _memory_file(call.stdin)
        try:
            self._process = subprocess.Popen(
                [call.program],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={"PATH": _PATH, **os.environ, **call.env},
                process_group=0,
                pass_fds=() if call.inherit_fd is None else (call.inherit_fd,),
            )
        finally:
            os.close(stdin)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._pipes = {self._process.stdout.fileno(): self.stdout, self._process.stderr.fileno(): self.stderr}
        self._pidfd: int | None = None
        self._watch()

    @property
    def status(self) -> int:
        """The exit status, negative for a signal."""
        return self._process.returncode

    def _watch(self) -> None:
        for fd in self._pipes:
            os.set_blocking(fd, False)
            self._loop.add_reader(fd, self._read, fd)
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:  # kernels before 5.3
            name = f"CNI plugin process {self._process.pid}"
            threading.Thread(target=self._wait_in_thread, name=name, daemon=True).start()
        else:
            self._loop.add_reader(self._pidfd, self._on_exit)

    def _wait_in_thread(self) -> None:
        self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop may be closed by then
            self._loop.call_soon_threadsafe(self._on_exit)

    def _read(self, fd: int) -> None:
        buffer = self._pipes[fd]
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(fd)
        elif len(buffer) + len(data) > json_text.MAX_BYTES:
            self.too_long = True
            self._kill()
        else:
            buffer += data

    def _on_exit(self) -> None:
        if self._process.poll() is None or self.ended.is_set():
            return
        for fd, buffer in self._pipes.items():
            with contextlib.suppress(BlockingIOError):
                while len(buffer) <= json_text.MAX_BYTES and (data := os.read(fd, _READ_BYTES)):
                    buffer += data
        self._forget_exit()
        self.ended.set()

    async def _ends_within(self, seconds: float) -> bool:
        if not self.ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), seconds)
        return self.ended.is_set()

    def _forget_exit(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self, grace: float) -> None:
        """Wait `grace` seconds for the end, kill what still runs then, and let go of the pipes.

        What does not die even so is watched on, and reaped once it does.
        """
        if not await self._ends_within(grace):
            self._kill()
        if not await self._ends_within(_REAP_S):
            _log.warning("CNI plugin process %d does not die: it hangs in the kernel", self._process.pid)
        for fd in self._pipes:
            self._loop.remove_reader(fd)
        self._pipes.clear()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("cni-stdin")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _answer(call: PluginCall, child: _Child) -> bytes:
    if child.too_long or len(child.stdout) > json_text.MAX_BYTES:
        raise PluginError(call.plugin, call.command, f"it wrote more than {json_text.MAX_BYTES} bytes and was killed")
    if child.status == 0:
        if child.stderr:
            _log.debug("CNI plugin %s %s wrote on stderr: %s", call.plugin, call.command, _text(child.stderr))
        return bytes(child.stdout)
    raise _reported_error(call, child)


def _reported_error(call: PluginCall, child: _Child) -> PluginError:
    ended = f"exit status {child.status}" if child.status > 0 else f"killed by signal {-child.status}"
    try:
        fields = json_text.load_object(bytes(child.stdout), "its answer")
    except JsonError:
        text = _text(child.stderr) or _text(child.stdout) or "it gave no reason"
        return PluginError(call.plugin, call.command, f"{text} ({ended})")
    code = fields.get("code")
    return PluginError(
        call.plugin,
        call.command,
        _text(str(fields.get("msg") or "").encode("utf-8", "replace")) or _text(child.stderr) or ended,
        code=code if isinstance(code, int) else 0,
        details=_text(str(fields.get("details") or "").encode("utf-8", "replace")),
    )


def _text(data: bytes | bytearray) -> str:
    return data[:_MAX_TEXT].decode("utf-8", "replace").strip()
