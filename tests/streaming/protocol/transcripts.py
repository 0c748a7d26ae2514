"""Recorded sessions between Kubernetes' own clients and servers, to be decoded, encoded and replayed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRANSCRIPTS = json.loads((Path(__file__).parent.parent / "transcripts.json").read_text())


@dataclass(frozen=True)
class Scenario:
    """One recorded connection."""

    name: str
    raw: dict[str, Any]

    def __str__(self) -> str:
        return self.name

    @property
    def is_websocket(self) -> bool:
        return self.name.startswith("ws-")

    def frames(self, direction: str) -> list[tuple[bytes, dict[str, Any]]]:
        """Return the frames of a direction: bytes and what they mean."""
        return [
            (bytes.fromhex(frame["hex"]), frame["frame"])
            for frame in self.raw["frames"]
            if frame["dir"] == direction and "hex" in frame
        ]

    def bytes_of(self, direction: str) -> bytes:
        return b"".join(raw for raw, _ in self.frames(direction))


SCENARIOS = [Scenario(raw["name"], raw) for raw in TRANSCRIPTS["scenarios"]]
SPDY_SCENARIOS = [scenario for scenario in SCENARIOS if not scenario.is_websocket]
WEBSOCKET_SCENARIOS = [scenario for scenario in SCENARIOS if scenario.is_websocket]
TUNNELS = [scenario for scenario in WEBSOCKET_SCENARIOS if "tunnel" in scenario.name]


def scenario(name: str) -> Scenario:
    """Return one by name."""
    return next(known for known in SCENARIOS if known.name == name)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut bytes into pieces of the given sizes, over and over again."""
    pieces, position, turn = [], 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[position : position + size])
        position, turn = position + size, turn + 1
    return pieces
