"""Security contexts as Docker's SecurityOpt, capabilities, paths and namespaces."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from cri_dockerd_py.backends.docker.client import Version
from cri_dockerd_py.backends.docker.facts import DaemonFacts
from cri_dockerd_py.backends.profiles import loaded_apparmor_profiles, read_seccomp_document
from cri_dockerd_py.errors import InvalidArgument, Unimplemented
from cri_dockerd_py.model.security import (
    Capabilities,
    ContainerSecurity,
    NamespaceMode,
    NamespaceOptions,
    ProfileType,
    SecurityProfile,
    SelinuxOptions,
)

_ALL = "ALL"
#: Engine 20.10 may have been built without knowing these, and refuses what it does not know.
_NEW_CAPABILITIES = frozenset({"BPF", "CHECKPOINT_RESTORE", "PERFMON"})
_NEW_CAPABILITIES_API = (1, 42)
_LOCALHOST = "localhost/"
NO_NEW_PRIVILEGES = "no-new-privileges"


def selinux_options(options: SelinuxOptions | None) -> list[str]:
    """Return the `label=` options in dockershim's order."""
    if options is None:
        return []
    parts = (("user", options.user), ("role", options.role), ("type", options.type), ("level", options.level))
    return [f"label={name}:{value}" for name, value in parts if value]


def apparmor_options(profile: SecurityProfile | None, facts: DaemonFacts, loaded: frozenset[str] | None) -> list[str]:
    """Return the AppArmor option; `loaded` are the kernel's profiles, None when they cannot be read (AAR-01 to 05)."""
    if profile is None or (profile.kind is ProfileType.UNCONFINED and not facts.has("apparmor")):
        return []
    if not facts.has("apparmor"):
        raise InvalidArgument("an AppArmor profile is asked for, and this node has no AppArmor")
    if profile.kind is ProfileType.RUNTIME_DEFAULT:
        return []
    if profile.kind is ProfileType.UNCONFINED:
        return ["apparmor=unconfined"]
    name = profile.localhost_ref.removeprefix(_LOCALHOST)
    if loaded is not None and name not in loaded:
        raise InvalidArgument(f"AppArmor profile {name!r} is not loaded on this node: load it with apparmor_parser")
    return [f"apparmor={name}"]


def seccomp_options(security: ContainerSecurity, facts: DaemonFacts, profile_json: str) -> list[str]:
    """Return the seccomp option; `profile_json` is the text of a Localhost profile (SCC-01 to SCC-08)."""
    profile = security.seccomp
    if security.privileged or profile is None or profile.kind is ProfileType.UNCONFINED:
        return ["seccomp=unconfined"]
    if not facts.has("seccomp"):
        raise InvalidArgument("a seccomp profile is asked for, and the kernel or Docker on this node has no seccomp")
    if profile.kind is ProfileType.LOCALHOST:
        return [f"seccomp={profile_json}"]
    if facts.seccomp_off_by_default:
        if facts.api < (1, 42):
            raise InvalidArgument("seccomp RuntimeDefault is asked for, and Docker's daemon.json has switched it off")
        return ["seccomp=builtin"]
    return []


async def read_seccomp_profile(profile: SecurityProfile | None) -> str:
    """Return the compact JSON of a Localhost profile, whole, "" for the other kinds."""
    if profile is None or profile.kind is not ProfileType.LOCALHOST:
        return ""
    document = await asyncio.to_thread(read_seccomp_document, profile.localhost_ref.removeprefix(_LOCALHOST))
    return json.dumps(document, separators=(",", ":"))


async def read_apparmor_profiles(profile: SecurityProfile | None) -> frozenset[str] | None:
    """Return the names of the profiles that the kernel has, None when that is not needed or cannot be read."""
    if profile is None or profile.kind is not ProfileType.LOCALHOST:
        return None
    return await asyncio.to_thread(loaded_apparmor_profiles)


def capability_fields(
    capabilities: Capabilities, grantable: frozenset[str] | None = None, api: Version = (1, 51)
) -> dict[str, Any]:
    """Return CapAdd and CapDrop such that Docker's rules give CRI's result: adds before drops, ALL first (CAP-01).

    Where Docker itself lacks capabilities, as in a nested cluster, ALL stands for those that it has.
    """
    if capabilities.add_ambient:
        raise Unimplemented(
            f"ambient capabilities ({', '.join(capabilities.add_ambient)}): Docker Engine cannot set them; "
            f"run the process as root with only these capabilities added instead"
        )
    add = [name.upper() for name in capabilities.add]
    drop = [name.upper() for name in capabilities.drop]
    singles = [name for name in add if name != _ALL and name not in drop]
    if _ALL in drop:
        return {"CapAdd": singles, "CapDrop": [_ALL]}
    if _ALL in add and grantable is not None:
        unknown = _NEW_CAPABILITIES if api < _NEW_CAPABILITIES_API else ()
        return {"CapAdd": sorted(grantable.difference(drop, unknown)), "CapDrop": [_ALL]}
    if _ALL in add:
        return {"CapAdd": [_ALL], "CapDrop": drop}
    return {"CapAdd": singles, "CapDrop": drop}


def path_fields(security: ContainerSecurity) -> dict[str, Any]:
    """Return the masked and read-only paths: exactly those asked for, and none in a privileged container (CAP-07)."""
    if security.privileged:
        return {"MaskedPaths": None, "ReadonlyPaths": None}
    return {"MaskedPaths": list(security.masked_paths), "ReadonlyPaths": list(security.readonly_paths)}


def namespace_fields(options: NamespaceOptions, sandbox_id: str) -> dict[str, Any]:
    """Return a container's namespace modes; network and IPC are always the sandbox's, which may have the node's."""
    refuse_user_namespace(options)
    pod = f"container:{sandbox_id}"
    pid = {
        NamespaceMode.POD: pod,
        NamespaceMode.CONTAINER: "",
        NamespaceMode.NODE: "host",
        NamespaceMode.TARGET: f"container:{options.target_id}",
    }[options.pid]
    uts = "host" if options.network is NamespaceMode.NODE else ""
    return {"NetworkMode": pod, "IpcMode": pod, "PidMode": pid, "UTSMode": uts}


def refuse_user_namespace(options: NamespaceOptions) -> None:
    """Docker Engine maps ids for the whole daemon or not at all."""
    if options.userns is not None and options.userns.mode is NamespaceMode.POD:
        raise Unimplemented(
            "a user namespace per pod: Docker Engine cannot do it; set hostUsers: true in the pod, or use containerd"
        )
