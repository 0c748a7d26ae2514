"""What keeps two instances on one node apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

_DIGITS = 8


def instance_name(root_dir: Path) -> str:
    """Return a short name that is the same for every process with this root directory."""
    return hashlib.sha256(str(root_dir).encode()).hexdigest()[:_DIGITS]
