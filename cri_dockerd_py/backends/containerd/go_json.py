"""CRI messages as Go's encoder writes them into records: snake_case names, zero values left out, enums as numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from cri_dockerd_py.model.resources import HugepageLimit, Resources
from cri_dockerd_py.model.security import (
    Capabilities,
    IdMapping,
    NamespaceMode,
    NamespaceOptions,
    ProfileType,
    SecurityProfile,
    SelinuxOptions,
    UserNamespace,
)

Document = Mapping[str, Any]
Item = TypeVar("Item")

_PROFILE_NUMBERS = {ProfileType.RUNTIME_DEFAULT: 0, ProfileType.UNCONFINED: 1, ProfileType.LOCALHOST: 2}
_PROFILES = {number: kind for kind, number in _PROFILE_NUMBERS.items()}
_LEGACY_LOCALHOST = "localhost/"
_LEGACY_DEFAULTS = frozenset({"runtime/default", "docker/default"})
_RESOURCE_FIELDS = {
    "cpu_period": "cpu_period_us",
    "cpu_quota": "cpu_quota_us",
    "cpu_shares": "cpu_shares",
    "memory_limit_in_bytes": "memory_limit_bytes",
    "oom_score_adj": "oom_score_adj",
    "cpuset_cpus": "cpuset_cpus",
    "cpuset_mems": "cpuset_mems",
    "memory_swap_limit_in_bytes": "memory_swap_limit_bytes",
}


def filled(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not zero or empty."""
    return {name: value for name, value in fields.items() if value or (value == {} and name.startswith("run_as_"))}


def message(document: Document, name: str) -> Document:
    """Return a field that holds a message, empty when it is absent."""
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}


def each(document: Document, name: str, read: Callable[[Any], Item]) -> tuple[Item, ...]:
    """Return a repeated field, every item read by `read`."""
    return tuple(read(item) for item in document.get(name) or ())


def texts(document: Document, name: str) -> tuple[str, ...]:
    """Return a repeated field of texts."""
    return each(document, name, str)


def text_map(document: Document, name: str) -> dict[str, str]:
    """Return a field that maps texts to texts."""
    return {str(key): str(value) for key, value in (document.get(name) or {}).items()}


def wrap_int(value: int | None) -> dict[str, int] | None:
    """Return an Int64Value: absent, empty for 0, or with its value."""
    if value is None:
        return None
    return {"value": value} if value else {}


def unwrap_int(document: Document, name: str) -> int | None:
    """Return the number in an Int64Value, None when it is absent."""
    value = document.get(name)
    return int(value.get("value", 0)) if isinstance(value, Mapping) else None


# --- resources


def encode_resources(resources: Resources) -> dict[str, Any]:
    """Return a LinuxContainerResources."""
    document = filled(**{name: getattr(resources, field) for name, field in _RESOURCE_FIELDS.items()})
    hugepages = [filled(page_size=limit.page_size, limit=limit.limit_bytes) for limit in resources.hugepage_limits]
    return document | filled(hugepage_limits=hugepages, unified=dict(resources.unified) or None)


def decode_resources(document: Document) -> Resources:
    """Read a LinuxContainerResources."""
    known = {field: document[name] for name, field in _RESOURCE_FIELDS.items() if document.get(name)}
    return Resources(
        **known,
        hugepage_limits=each(
            document,
            "hugepage_limits",
            lambda item: HugepageLimit(str(item.get("page_size", "")), int(item.get("limit", 0))),
        ),
        unified=text_map(document, "unified"),
    )


# --- security


def encode_namespaces(options: NamespaceOptions) -> dict[str, Any]:
    """Return a NamespaceOption."""
    return filled(
        network=int(options.network),
        pid=int(options.pid),
        ipc=int(options.ipc),
        target_id=options.target_id,
        userns_options=_encode_userns(options.userns) if options.userns else None,
    )


def decode_namespaces(document: Document) -> NamespaceOptions:
    """Read a NamespaceOption."""
    userns = document.get("userns_options")
    return NamespaceOptions(
        network=NamespaceMode(document.get("network", 0)),
        pid=NamespaceMode(document.get("pid", 0)),
        ipc=NamespaceMode(document.get("ipc", 0)),
        target_id=str(document.get("target_id", "")),
        userns=_decode_userns(userns) if isinstance(userns, Mapping) else None,
    )


def _encode_userns(userns: UserNamespace) -> dict[str, Any]:
    return {"mode": int(userns.mode)} | filled(uids=encode_mappings(userns.uids), gids=encode_mappings(userns.gids))


def _decode_userns(document: Document) -> UserNamespace:
    return UserNamespace(
        NamespaceMode(document.get("mode", 0)),
        each(document, "uids", decode_mapping),
        each(document, "gids", decode_mapping),
    )


def encode_mappings(mappings: Iterable[IdMapping]) -> list[dict[str, Any]]:
    """Return IDMappings."""
    return [filled(host_id=item.host_id, container_id=item.container_id, length=item.length) for item in mappings]


def decode_mapping(document: Document) -> IdMapping:
    """Read an IDMapping."""
    return IdMapping(
        int(document.get("host_id", 0)), int(document.get("container_id", 0)), int(document.get("length", 0))
    )


def encode_selinux(options: SelinuxOptions | None) -> dict[str, Any] | None:
    """Return an SELinuxOption, None where there is none."""
    if options is None:
        return None
    return filled(user=options.user, role=options.role, type=options.type, level=options.level)


def decode_selinux(document: Document) -> SelinuxOptions | None:
    """Read an SELinuxOption, None where it is empty."""
    parts = {part: str(document[part]) for part in ("user", "role", "type", "level") if document.get(part)}
    return SelinuxOptions(**parts) if parts else None


def encode_profile(profile: SecurityProfile | None) -> dict[str, Any] | None:
    """Return a SecurityProfile, None where there is none."""
    if profile is None:
        return None
    number = _PROFILE_NUMBERS[profile.kind]
    return {"profile_type": number} | filled(localhost_ref=profile.localhost_ref)


def decode_profile(document: object, legacy: object) -> SecurityProfile | None:
    """Read a SecurityProfile, or the text that older callers set in its place."""
    if isinstance(document, Mapping):
        kind = _PROFILES.get(document.get("profile_type", 0), ProfileType.RUNTIME_DEFAULT)
        return SecurityProfile(kind, str(document.get("localhost_ref", "")))
    text = str(legacy or "")
    if text.startswith(_LEGACY_LOCALHOST):
        return SecurityProfile(ProfileType.LOCALHOST, text.removeprefix(_LEGACY_LOCALHOST))
    if text in _LEGACY_DEFAULTS:
        return SecurityProfile(ProfileType.RUNTIME_DEFAULT)
    return SecurityProfile(ProfileType.UNCONFINED) if text == "unconfined" else None


def encode_capabilities(capabilities: Capabilities) -> dict[str, Any]:
    """Return a Capability."""
    return filled(
        add_capabilities=list(capabilities.add),
        drop_capabilities=list(capabilities.drop),
        add_ambient_capabilities=list(capabilities.add_ambient),
    )


def decode_capabilities(document: Document) -> Capabilities:
    """Read a Capability; names lose a `CAP_` that callers may have written."""

    def names(field: str) -> tuple[str, ...]:
        return tuple(name.upper().removeprefix("CAP_") for name in texts(document, field))

    return Capabilities(names("add_capabilities"), names("drop_capabilities"), names("add_ambient_capabilities"))
