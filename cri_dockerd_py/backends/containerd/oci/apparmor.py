"""Which AppArmor profile a process gets (AAR-01 to AAR-05), and the text of the default one."""

from __future__ import annotations

from collections.abc import Collection

from cri_dockerd_py.backends.containerd.oci.facts import HostFacts
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import ProfileType, SecurityProfile

DEFAULT_PROFILE = "cri-containerd.apparmor.d"
_LOCALHOST = "localhost/"


def apparmor_profile(
    profile: SecurityProfile | None, facts: HostFacts, loaded: Collection[str] | None, *, privileged: bool
) -> str:
    """Return the profile's name, empty for none; `loaded` are the kernel's profiles, None when not known."""
    kind = ProfileType.RUNTIME_DEFAULT if profile is None else profile.kind
    if not facts.apparmor:
        if profile is None or kind is ProfileType.UNCONFINED:
            return ""
        raise InvalidArgument("an AppArmor profile is asked for, and this node has no AppArmor")
    if profile is not None and kind is ProfileType.LOCALHOST:
        return _local(profile.localhost_ref.removeprefix(_LOCALHOST), loaded)
    return "" if privileged or kind is ProfileType.UNCONFINED else DEFAULT_PROFILE


def default_profile_text(*, tunables: bool, abstractions: bool, own_profile: str = "unconfined") -> str:
    """Return the default profile for apparmor_parser.

    `tunables` and `abstractions` say whether the host has those include files; `own_profile` is the engine's own.
    """
    peers = dict.fromkeys(["unconfined", "runc", "crun", own_profile])
    lines = [
        "#include <tunables/global>" if tunables else "@{PROC}=/proc/",
        f"profile {DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {{",
        *(["  #include <abstractions/base>"] if abstractions else []),
        *(f"  signal (receive) peer={peer}," for peer in peers),
        *_RULES.splitlines()[1:],
        "}",
    ]
    return "\n".join(lines) + "\n"


def _local(name: str, loaded: Collection[str] | None) -> str:
    if loaded is not None and name not in loaded:
        raise InvalidArgument(f"AppArmor profile {name!r} is not loaded on this node: load it with apparmor_parser")
    return name


# The patterns deny /proc/* but numbers and sys, /proc/sys/* but kernel, and /proc/sys/kernel/* but shm*.
_RULES = f"""
  network,
  capability,
  file,
  umount,
  signal (send,receive) peer={DEFAULT_PROFILE},
  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/kcore rwklx,
  deny mount,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
  ptrace (trace,read,tracedby,readby) peer={DEFAULT_PROFILE},"""
