"""Room on the disks that pods, images and records need."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cri_dockerd_py.doctor.engines import containerd_facts, docker_info
from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning
from cri_dockerd_py.doctor.mends import served_endpoint

AREA = "disk"
_SCARCE, _FULL = 0.15, 0.05
_DOCKER, _CONTAINERD, _LOGS = "/var/lib/docker", "/var/lib/containerd", "/var/log/pods"


def check_disk(patient: Patient) -> Iterable[Finding]:
    """Ask the engines where they keep images and containers, and look at the room there and in our own places."""
    backend = patient.settings.backend
    info = docker_info(patient) if backend != "containerd" else None
    known = containerd_facts(patient) if backend != "docker" else None
    docker_root = str((info or {}).get("DockerRootDir") or _DOCKER)
    yield from check_room(patient, (docker_root, str(known[0].root) if known else _CONTAINERD))


def check_room(patient: Patient, engine_roots: Sequence[str]) -> Iterable[Finding]:
    """Look at bytes and inodes of each file system once."""
    on: dict[int, list[str]] = {}
    engine_roots = [root for root in engine_roots if patient.exists(root)]
    for place in (*engine_roots, _LOGS, str(patient.settings.root_dir), str(patient.settings.state_dir)):
        on.setdefault(_existing(patient, place).stat().st_dev, []).append(place)
    for places in on.values():
        yield _room(patient, list(dict.fromkeys(places)), engine_roots)


def _room(patient: Patient, places: Sequence[str], engine_roots: Sequence[str]) -> Finding:
    numbers = os.statvfs(_existing(patient, places[0]))
    free_bytes = numbers.f_bavail / numbers.f_blocks if numbers.f_blocks else 1.0
    free_inodes = numbers.f_favail / numbers.f_files if numbers.f_files else 1.0
    kind, free = min((("space", free_bytes), ("inodes", free_inodes)), key=lambda pair: pair[1])
    verb = "is" if kind == "space" else "are"
    what = f"{free:.0%} of the {kind} that {_listed(places)} {'is' if len(places) == 1 else 'are'} on {verb} free"
    if free < _FULL:
        return failure(AREA, what, "pods, logs and records cannot be written", make_room(patient, places, engine_roots))
    if free < _SCARCE:
        why = "kubelet begins to remove images and to evict pods"
        return warning(AREA, what, why, make_room(patient, places, engine_roots))
    return ok(AREA, what)


def make_room(patient: Patient, places: Iterable[str], engine_roots: Iterable[str]) -> str:
    """Return the command that removes what is not needed in these places, or else shows what is large there."""
    steps, notes = [], []
    if set(places) & set(engine_roots):
        steps.append(f"crictl --runtime-endpoint {served_endpoint(patient)} rmi --prune")
        notes.append("images that no pod uses")
    if _LOGS in places:
        steps.append(f"find {_LOGS} -name '*.log.*' -delete")
        notes.append("logs that kubelet has rotated")
    if steps:
        return f"{' && '.join(steps)}  # removes {' and '.join(notes)}"
    place = _existing(patient, next(iter(places))).relative_to(patient.root)
    return f'du -xh --max-depth=2 "$(stat -c %m /{place})" | sort -h | tail -n 20  # shows what is large'


def _listed(places: Sequence[str]) -> str:
    return places[0] if len(places) == 1 else f"{', '.join(places[:-1])} and {places[-1]}"


def _existing(patient: Patient, place: str) -> Path:
    path = patient.root / place.lstrip("/")
    while not path.exists():
        path = path.parent
    return path
