"""Namespace options and id mappings, as they were asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.model.security import IdMapping, NamespaceOptions, UserNamespace


def namespace_options(options: NamespaceOptions) -> pb.NamespaceOption:
    """Return the options (NSP-01)."""
    return pb.NamespaceOption(
        network=cast("pb.NamespaceMode", options.network),
        pid=cast("pb.NamespaceMode", options.pid),
        ipc=cast("pb.NamespaceMode", options.ipc),
        target_id=options.target_id,
        userns_options=None if options.userns is None else _user_namespace(options.userns),
    )


def id_mappings(mappings: Iterable[IdMapping]) -> list[pb.IDMapping]:
    """Return the mappings."""
    return [
        pb.IDMapping(host_id=mapping.host_id, container_id=mapping.container_id, length=mapping.length)
        for mapping in mappings
    ]


def _user_namespace(userns: UserNamespace) -> pb.UserNamespace:
    return pb.UserNamespace(
        mode=cast("pb.NamespaceMode", userns.mode),
        uids=id_mappings(userns.uids),
        gids=id_mappings(userns.gids),
    )
