"""The rooms of core, put together; the edge is handed one of these."""

from __future__ import annotations

from dataclasses import dataclass

from cri_dockerd_py.core.containers import Containers
from cri_dockerd_py.core.events import Events
from cri_dockerd_py.core.images import Images
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.node_status import NodeStatus
from cri_dockerd_py.core.sandboxes import Sandboxes
from cri_dockerd_py.core.sessions import Sessions
from cri_dockerd_py.core.stats import Stats


@dataclass(frozen=True, slots=True)
class Node:
    """What a CRI node does, by subject."""

    sandboxes: Sandboxes
    containers: Containers
    execution: Sessions
    images: Images
    inventory: Inventory
    stats: Stats
    events: Events
    status: NodeStatus
