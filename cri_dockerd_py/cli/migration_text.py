"""Plans and migrations as text; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.cli.texts import counted, duration, size, table

#: The states of moves in the order in which people want to know of them.
_STATES = ("done", "settling", "leaving", "returning", "planned", "returned", "failed", "skipped")
_SHOWN_ID = 19  # sha256: and 12 digits


def plan(message: pb.Plan) -> str:
    """Return a plan for review."""
    parts = [f"From {message.source} to {message.target}, {message.max_unavailable} at a time."]
    rows = [(str(place), move.pod, _how(move)) for place, move in enumerate(message.moves, start=1)]
    parts.append(_section(f"{counted(len(rows), 'pod')} would move, in this order", rows))
    stays = [(stay.pod, stay.reason, stay.why) for stay in message.stays]
    parts.append(_section(f"{counted(len(stays), 'pod')} would stay on {message.source}", stays))
    images = [(_image_name(image), size(image.size_bytes), _image_state(image)) for image in message.images]
    copied = f", {size(message.copy_bytes)} to copy" if message.copy_bytes else ""
    parts.append(_section(f"{counted(len(images), 'image')} needed on {message.target}{copied}", images))
    parts.append(f"About {duration(message.estimate_seconds)}, if pods stop and start as quickly as most do.")
    return "\n\n".join(parts)


def summary(message: pb.Migration) -> str:
    """Return how a migration stands, in a few lines."""
    if not message.id:
        return "There was no migration on this node."
    what = "Rollback" if message.is_rollback else "Migration"
    lines = [f"{what} {message.id} from {message.source} to {message.target}: {message.state}{_took(message)}"]
    counts = Counter(move.state for move in message.moves)
    lines.append("  pods: " + (", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state]) or "none"))
    images = message.images
    if images.images_total:
        lines.append(f"  images: {images.images_done} of {images.images_total}{_bytes(images)}")
    if message.waiting:
        lines.append(f"  {message.waiting}")
    if message.reason:
        lines.append(f"  {message.reason}")
    troubled = [move for move in message.moves if move.state in ("returned", "failed", "skipped")]
    lines += [f"  {move.pod} {move.state}: {move.reason}" for move in troubled]
    return "\n".join(lines)


def finish_report(message: pb.FinishReport) -> str:
    """Return what a migration's end came to, and what to do next."""
    lines = []
    if message.buried:
        lines.append(f"{counted(message.buried, 'ended pod')} of {message.engine} kept as records in this service.")
    if not message.complete:
        lines.append(f"{message.engine} is still needed:")
        lines.append(table([(leftover.name, leftover.why) for leftover in message.leftovers]))
        return "\n".join(lines)
    lines += [
        f"Nothing of this node's pods is left on {message.engine}.",
        f'  1. Set backend = "{message.other}" in /etc/cri-dockerd-py/config.toml and restart the service.',
        f"  2. {message.engine} may then be stopped and uninstalled, if nothing else uses it; "
        f"its {counted(message.images, 'image')} ({size(message.images_bytes)}) go with its data directory.",
    ]
    return "\n".join(lines)


def _section(title: str, rows: Sequence[tuple[str, ...]]) -> str:
    return f"{title}:\n{table(rows)}" if rows else f"{title}."


def _how(move: pb.PlannedMove) -> str:
    alone = ", alone" if move.alone else ""
    return f"{move.rank}{alone}, grace {move.grace_seconds} s"


def _image_name(image: pb.PlannedImage) -> str:
    return image.names[0] if image.names else image.id[:_SHOWN_ID]


def _image_state(image: pb.PlannedImage) -> str:
    users = f"for {counted(image.pods, 'pod')}"
    if image.present:
        return f"{users}, there already"
    return f"{users}, on no engine: kubelet will pull it" if image.missing_at_source else users


def _took(message: pb.Migration) -> str:
    if not message.ended_at_ns:
        return ""
    return f" after {duration((message.ended_at_ns - message.began_at_ns) / 1e9)}"


def _bytes(images: pb.ImageProgress) -> str:
    if not images.bytes_total:
        return ""
    speed = f" at {size(images.bytes_done / images.seconds)}/s" if images.seconds > 1 else ""
    return f", {size(images.bytes_done)} of {size(images.bytes_total)} copied{speed}"
