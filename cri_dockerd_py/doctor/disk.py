"""Room on the disks that pods, images and records need."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning

AREA = "disk"
_SCARCE, _FULL = 0.15, 0.05
_PLACES = ("/var/lib/docker", "/var/lib/containerd", "/var/log/pods")


def check_disk(patient: Patient) -> Iterable[Finding]:
    """Look at bytes and inodes of each file system once."""
    seen: set[int] = set()
    for place in (str(patient.settings.root_dir), str(patient.settings.state_dir), *_PLACES):
        path = _existing(patient.root / place.lstrip("/"))
        device = path.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield _room(path, place)


def _room(path: Path, place: str) -> Finding:
    numbers = os.statvfs(path)
    free_bytes = numbers.f_bavail / numbers.f_blocks if numbers.f_blocks else 1.0
    free_inodes = numbers.f_favail / numbers.f_files if numbers.f_files else 1.0
    kind, free = min((("space", free_bytes), ("inodes", free_inodes)), key=lambda pair: pair[1])
    what = f"{free:.0%} of the {kind} that {place} is on {'is' if kind == 'space' else 'are'} free"
    if free < _FULL:
        return failure(AREA, what, "pods, logs and records cannot be written", "remove images: crictl rmi --prune")
    if free < _SCARCE:
        why = "kubelet begins to remove images and to evict pods"
        return warning(AREA, what, why, "remove images (crictl rmi --prune), or make the disk larger")
    return ok(AREA, what)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
