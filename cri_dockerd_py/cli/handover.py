"""`handover`: the pods go to containerd's own CRI plugin, and go on running."""

from __future__ import annotations

import argparse
from typing import Any


def add_verbs(verbs: Any, chosen: str) -> None:
    """Add the verb; it gets its flags when it is chosen."""
    handover = verbs.add_parser(
        "handover",
        help="give all pods on containerd to its own CRI plugin, while they run",
        description="For leaving this service: stop it, run this, enable the CRI plugin in containerd's configuration, "
        "restart containerd, and point kubelet at containerd's socket. Pods go on running. May be repeated.",
    )
    handover.set_defaults(run=_handover)
    if chosen == "handover":
        from cri_dockerd_py.cli.setting_flags import add_setting_flags

        add_setting_flags(handover)


def _handover(arguments: argparse.Namespace) -> int:
    import asyncio

    from cri_dockerd_py.cli.setting_flags import load
    from cri_dockerd_py.daemon.handover import hand_over

    count = asyncio.run(hand_over(load(arguments).settings, print))
    print(f"{count} pods are ready for containerd's CRI plugin: enable it, and restart containerd")
    return 0
