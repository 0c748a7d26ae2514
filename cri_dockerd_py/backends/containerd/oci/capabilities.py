"""The capability sets of a process (CAP-01, CAP-02, CAP-04)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cri_dockerd_py.model.security import Capabilities

_ALL = "ALL"
_PREFIX = "CAP_"
#: What a container has that asks for nothing.
DEFAULT = frozenset(
    f"{_PREFIX}{name}"
    for name in """
    AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID
    SYS_CHROOT
    """.split()
)


def default_sets(held: Collection[str]) -> dict[str, list[str]]:
    """Return the default sets; `held` are the capabilities that the engine can pass on."""
    return _sets(DEFAULT.intersection(held), frozenset())


def capability_sets(
    wish: Capabilities, held: Collection[str], *, privileged: bool, default: Collection[str] = DEFAULT
) -> dict[str, list[str]]:
    """Return the five sets: ALL first, then single adds, then single drops; a privileged process has all that are held.

    The inheritable set is that of ambient capabilities, which makes them outlive an exec by a user other than root.
    """
    if privileged:
        return _sets(frozenset(held), frozenset())
    base = frozenset(default).intersection(held)
    if _ALL in wish.add:
        base = frozenset(held)
    if _ALL in wish.drop:
        base = frozenset()
    dropped = _named(wish.drop)
    ambient = frozenset(held) if _ALL in wish.add_ambient else _named(wish.add_ambient)
    return _sets((base | _named(wish.add) | ambient) - dropped, ambient - dropped)


def _named(names: Sequence[str]) -> frozenset[str]:
    return frozenset(f"{_PREFIX}{name.upper().removeprefix(_PREFIX)}" for name in names if name != _ALL)


def _sets(effective: frozenset[str], ambient: frozenset[str]) -> dict[str, list[str]]:
    sets = {"bounding": effective, "effective": effective, "permitted": effective}
    return {
        **{name: sorted(capabilities) for name, capabilities in sets.items()},
        "inheritable": sorted(ambient),
        "ambient": sorted(ambient),
    }
