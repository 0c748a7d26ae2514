"""`cri-dockerd-py doctor`: what of this node would keep pods from running well, why, and what mends it."""

from __future__ import annotations

from cri_dockerd_py.doctor.examine import examine
from cri_dockerd_py.doctor.finding import Finding, Level

__all__ = ["Finding", "Level", "examine"]
