"""Namespace options and id mappings (NSP-01 to NSP-08)."""

from __future__ import annotations

from collections.abc import Iterable

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.ids import check_id
from cri_dockerd_py.model.security import IdMapping, NamespaceMode, NamespaceOptions, UserNamespace

_POD_OR_NODE = (NamespaceMode.POD, NamespaceMode.NODE)
_IDS = 2**32
_MAPPINGS_LIMIT = 340  # the kernel's limit of lines in uid_map


def sandbox_namespaces(field: str, given: pb.NamespaceOption) -> NamespaceOptions:
    """Return a sandbox's options; mode TARGET is for containers."""
    options = _options(field, given)
    if options.pid is NamespaceMode.TARGET:
        fields.refuse(f"{field}.pid", "TARGET", "a sandbox has POD, CONTAINER or NODE; TARGET is for containers")
    own_users = options.userns is not None and options.userns.mode is NamespaceMode.POD
    if own_users and options.network is NamespaceMode.NODE:
        raise InvalidArgument(
            f"{field}: a user namespace cannot be combined with the node's network here (the feature "
            "user_namespaces_host_network is not offered); use one of the two"
        )
    return options


def container_namespaces(field: str, given: pb.NamespaceOption) -> NamespaceOptions:
    """Return a container's options; mode TARGET needs the id of the container to join."""
    options = _options(field, given)
    if options.pid is NamespaceMode.TARGET:
        check_id(f"container (in {field}.target_id)", options.target_id)
    return options


def id_mappings(field: str, given: Iterable[pb.IDMapping]) -> tuple[IdMapping, ...]:
    """Return mappings that stay within 32 bits."""
    mappings = tuple(given)
    if len(mappings) > _MAPPINGS_LIMIT:
        raise InvalidArgument(f"{field}: {len(mappings)} mappings; the kernel takes at most {_MAPPINGS_LIMIT}")
    return tuple(_id_mapping(f"{field}[{index}]", mapping) for index, mapping in enumerate(mappings))


def _options(field: str, given: pb.NamespaceOption) -> NamespaceOptions:
    return NamespaceOptions(
        network=_pod_or_node(f"{field}.network", given.network),
        pid=fields.member(f"{field}.pid", given.pid, NamespaceMode),
        ipc=_pod_or_node(f"{field}.ipc", given.ipc),
        target_id=fields.plain(f"{field}.target_id", given.target_id, limit=fields.NAME_LIMIT),
        userns=_userns(f"{field}.userns_options", given.userns_options) if given.HasField("userns_options") else None,
    )


def _pod_or_node(field: str, given: int) -> NamespaceMode:
    mode = fields.member(field, given, NamespaceMode)
    if mode not in _POD_OR_NODE:
        fields.refuse(field, mode.name, "use POD or NODE")
    return mode


def _userns(field: str, given: pb.UserNamespace) -> UserNamespace:
    mode = _pod_or_node(f"{field}.mode", given.mode)
    if mode is NamespaceMode.NODE:
        if given.uids or given.gids:
            raise InvalidArgument(f"{field}: mode NODE has no user namespace, so leave uids and gids empty")
        return UserNamespace(mode)
    uids, gids = _whole(f"{field}.uids", given.uids), _whole(f"{field}.gids", given.gids)
    return UserNamespace(mode, uids, gids)


def _whole(field: str, given: Iterable[pb.IDMapping]) -> tuple[IdMapping, ...]:
    mappings = id_mappings(field, given)
    if len(mappings) != 1 or mappings[0].container_id != 0:
        raise InvalidArgument(f"{field}: give exactly one mapping, and let it begin at container_id 0")
    return mappings


def _id_mapping(field: str, given: pb.IDMapping) -> IdMapping:
    if not given.length or max(given.host_id, given.container_id) + given.length > _IDS:
        fields.refuse(f"{field}.length", given.length, "map at least one id, and none beyond 32 bits")
    return IdMapping(given.host_id, given.container_id, given.length)
