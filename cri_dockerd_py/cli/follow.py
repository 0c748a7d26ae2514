"""A migration while it goes on: live on a terminal, a line for each change elsewhere, or JSON."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.cli import texts
from cri_dockerd_py.cli.migration_text import summary

if TYPE_CHECKING:
    from rich.console import RenderableType

_IN_FLIGHT = ("leaving", "settling", "returning")
_MARKS = {"done": "[green]✔[/]", "returned": "[yellow]↩[/]", "failed": "[red]✘[/]", "skipped": "[dim]-[/]"}
_IMAGES_EVERY_S = 2.0


class Follower(ABC):
    """Shows one state after the other; used as a context."""

    def open(self) -> AbstractContextManager[object]:
        """Return the context to show in."""
        return nullcontext()

    @abstractmethod
    def show(self, migration: pb.Migration) -> None:
        """Show what is so now."""

    def conclude(self, migration: pb.Migration) -> None:
        """Show how it ended."""
        print(summary(migration), flush=True)


def follower(output: str) -> Follower:
    """Return what fits the output that was asked for, and the terminal."""
    if output == "json":
        return JsonFollower()
    return LiveFollower() if sys.stdout.isatty() else PlainFollower()


class JsonFollower(Follower):
    """One JSON object a line."""

    def show(self, migration: pb.Migration) -> None:
        print(texts.json_line(migration), flush=True)

    def conclude(self, migration: pb.Migration) -> None:
        """Say no more: the last line has it all."""


class PlainFollower(Follower):
    """One line for each change."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._images_told = 0.0

    def show(self, migration: pb.Migration) -> None:
        self._tell("", " ".join(filter(None, (migration.state, migration.waiting))))
        images = migration.images
        if migration.state == "images" and time.monotonic() - self._images_told >= _IMAGES_EVERY_S:
            self._images_told = time.monotonic()
            done = f"{images.images_done} of {images.images_total}"
            self._tell("images", f"{done}, {texts.size(images.bytes_done)} of {texts.size(images.bytes_total)}")
        for move in migration.moves:
            if move.state != "planned":
                self._tell(move.pod, ": ".join(filter(None, (move.state, move.reason))))

    def _tell(self, subject: str, text: str) -> None:
        if text and self._told.get(subject) != text:
            self._told[subject] = text
            print(f"{time.strftime('%H:%M:%S')} {subject}{' ' if subject else ''}{text}", flush=True)


class LiveFollower(Follower):
    """A picture that changes in place."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(refresh_per_second=8, transient=True)

    def open(self) -> AbstractContextManager[object]:
        """Draw for as long as the context lasts."""
        return self._live

    def show(self, migration: pb.Migration) -> None:
        self._live.update(_picture(migration))


def _picture(migration: pb.Migration) -> RenderableType:
    from rich.console import Group
    from rich.markup import escape

    parts: list[Any] = [f"[bold]{migration.source} → {migration.target}[/]  {migration.state}"]
    images = migration.images
    if migration.state == "images" and images.bytes_total:
        parts.append(_bar("images", images.bytes_done, images.bytes_total, escape(_image_text(images))))
    ended = [move for move in migration.moves if move.state in _MARKS]
    if migration.moves:
        parts.append(_bar("pods", len(ended), len(migration.moves), f"{len(ended)} of {len(migration.moves)}"))
    now = time.time()
    for move in migration.moves:
        if move.state in _IN_FLIGHT:
            age = texts.duration(max(now - move.began_at_ns / 1e9, 0))
            parts.append(f"  [cyan]…[/] {escape(move.pod)}  {move.state}  [dim]{age}[/]")
    for move in sorted(ended, key=lambda move: move.ended_at_ns)[-5:]:
        reason = f"  [dim]{escape(move.reason)}[/]" if move.reason else ""
        parts.append(f"  {_MARKS[move.state]} {escape(move.pod)}{reason}")
    if migration.waiting:
        parts.append(f"  [yellow]{escape(migration.waiting)}[/]")
    return Group(*parts)


def _bar(title: str, done: int, total: int, text: str) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    row = Table.grid(padding=(0, 1))
    row.add_row(f"  {title:<7}", ProgressBar(total=max(total, 1), completed=done, width=40), text)
    return row


def _image_text(images: pb.ImageProgress) -> str:
    speed = f"  {texts.size(images.bytes_done / images.seconds)}/s" if images.seconds > 0.5 else ""
    return f"{texts.size(images.bytes_done)} of {texts.size(images.bytes_total)}{speed}  {images.current}"
