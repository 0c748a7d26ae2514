"""Images and registry credentials in engine-neutral form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image of the store. `id` is the one string that names it everywhere (CST-05); tags and digests are normalised.

    Exactly one of `uid` and `username` is set when the image names a user (IMG-09). `zstd` tells of layers that the
    store keeps packed with zstd, which not every engine can unpack.
    """

    id: str
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    size_bytes: int
    uid: int | None = None
    username: str = ""
    pinned: bool = False
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    zstd: bool = False


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """Credentials of one pull, decoded from every CRI form; never kept, never shown."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server_address: str = ""


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """What one store uses of the file system that holds `mountpoint`."""

    timestamp_ns: int
    mountpoint: str
    used_bytes: int
    inodes_used: int
