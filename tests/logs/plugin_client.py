"""Plays dockerd: makes FIFOs and calls the log driver over its socket."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import aiohttp

from cri_dockerd_py.logs.driver import LOG_PATH_LABEL


class Engine:
    """The engine's side of the protocol for one driver."""

    def __init__(self, socket_path: Path, fifo_dir: Path) -> None:
        self._socket_path = socket_path
        self._fifo_dir = fifo_dir
        self.writers: dict[str, int] = {}

    async def call(self, method: str, body: object) -> Any:
        """POST and decode the answer."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket_path))) as session,
            session.post(f"http://plugin/{method}", json=body) as response,
        ):
            assert response.status == 200
            return await response.json(content_type=None)

    async def read(self, container_id: str, path: Path, **config: object) -> bytes:
        """The body of a ReadLogs call."""
        body = {"Info": info(container_id, path), "Config": config}
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket_path))) as session,
            session.post("http://plugin/LogDriver.ReadLogs", json=body) as response,
        ):
            return await response.read()

    def make_fifo(self) -> str:
        """A FIFO that is held open for writing."""
        path = str(self._fifo_dir / secrets.token_hex(32))
        os.mkfifo(path, 0o700)
        self.writers[path] = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        return path

    async def start(self, container_id: str, path: Path | None, fifo: str | None = None) -> str:
        """Make a FIFO and hand it over."""
        fifo = fifo or self.make_fifo()
        answer = await self.call("LogDriver.StartLogging", {"File": fifo, "Info": info(container_id, path)})
        assert answer == {"Err": ""}
        return fifo

    async def stop(self, fifo: str) -> None:
        """End a log as dockerd does."""
        assert await self.call("LogDriver.StopLogging", {"File": fifo}) == {"Err": ""}
        self.die(fifo)
        os.unlink(fifo)

    def print(self, fifo: str, data: bytes) -> None:
        """Write frames."""
        assert os.write(self.writers[fifo], data) == len(data)

    def die(self, *fifos: str) -> None:
        """Close FIFOs without a word."""
        for fifo in fifos or list(self.writers):
            os.close(self.writers.pop(fifo))


def info(container_id: str, path: Path | None) -> dict[str, object]:
    """The `Info` of a container."""
    labels = {} if path is None else {LOG_PATH_LABEL: str(path)}
    return {"ContainerID": container_id, "ContainerLabels": labels, "Config": {"cache-disabled": "true"}}


def numbers(path: Path) -> list[int]:
    """The numbers in a log file."""
    return [int(line.split(b" ")[3]) for line in path.read_bytes().splitlines()]
