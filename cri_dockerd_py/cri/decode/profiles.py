"""Seccomp and AppArmor profiles from their new and their old fields; the new one wins (SCC-07, AAR-05)."""

from __future__ import annotations

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import ProfileType, SecurityProfile

_KINDS = {
    pb.SecurityProfile.RuntimeDefault: ProfileType.RUNTIME_DEFAULT,
    pb.SecurityProfile.Unconfined: ProfileType.UNCONFINED,
    pb.SecurityProfile.Localhost: ProfileType.LOCALHOST,
}
_LOCALHOST = "localhost/"
_OLD_NAMES = {
    "runtime/default": ProfileType.RUNTIME_DEFAULT,
    "docker/default": ProfileType.RUNTIME_DEFAULT,
    "unconfined": ProfileType.UNCONFINED,
}


def seccomp(context: str, given: pb.SecurityProfile | None, old: str) -> SecurityProfile | None:
    """Return the seccomp profile; a local one is the absolute path of a JSON file."""
    field = f"{context}.seccomp" if given is not None else f"{context}.seccomp_profile_path"
    profile = _profile(field, given, old)
    if profile is not None and profile.kind is ProfileType.LOCALHOST:
        return SecurityProfile(profile.kind, fields.confined_absolute_path(field, profile.localhost_ref))
    return profile


def apparmor(context: str, given: pb.SecurityProfile | None, old: str) -> SecurityProfile | None:
    """Return the AppArmor profile; a local one is the name of a loaded profile."""
    field = f"{context}.apparmor" if given is not None else f"{context}.apparmor_profile"
    profile = _profile(field, given, old)
    if profile is not None and profile.kind is ProfileType.LOCALHOST:
        fields.plain(field, profile.localhost_ref)
    return profile


def _profile(field: str, given: pb.SecurityProfile | None, old: str) -> SecurityProfile | None:
    if given is not None:
        return _new(field, given)
    return _old(field, old) if old else None


def _new(field: str, given: pb.SecurityProfile) -> SecurityProfile:
    kind = _KINDS.get(given.profile_type)
    if kind is None:
        fields.refuse(f"{field}.profile_type", int(given.profile_type), "use RuntimeDefault, Unconfined or Localhost")
    if kind is ProfileType.LOCALHOST:
        return _local(field, given.localhost_ref)
    if given.localhost_ref:
        raise InvalidArgument(f"{field}.localhost_ref is set for a profile of another type: use it with Localhost only")
    return SecurityProfile(kind)


def _old(field: str, value: str) -> SecurityProfile:
    if value.startswith(_LOCALHOST):
        return _local(field, value)
    kind = _OLD_NAMES.get(value)
    if kind is None:
        fields.refuse(field, value, "use runtime/default, unconfined or localhost/<profile>")
    return SecurityProfile(kind)


def _local(field: str, reference: str) -> SecurityProfile:
    profile = reference.removeprefix(_LOCALHOST)
    if not profile:
        fields.missing(f"{field}.localhost_ref", "a profile of type Localhost needs its path or name")
    return SecurityProfile(ProfileType.LOCALHOST, profile)
