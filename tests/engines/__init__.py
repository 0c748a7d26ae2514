"""Real engines for tests, each with its own directories, socket and containerd."""

from tests.engines.base import RealEngine
from tests.engines.containerd import ContainerdEngine, ContainerdNode
from tests.engines.docker import DockerEngine, DockerOptions
from tests.engines.registry import RegistryServer
from tests.processes import wait_until

__all__ = [
    "ContainerdEngine",
    "ContainerdNode",
    "DockerEngine",
    "DockerOptions",
    "RealEngine",
    "RegistryServer",
    "wait_until",
]
