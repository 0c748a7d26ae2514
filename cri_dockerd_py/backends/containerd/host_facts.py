"""What specs need to know of the host and of the engine's rights, read from /proc and /sys. Blocking; use a thread."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from cri_dockerd_py.backends.containerd.oci.facts import HostFacts, SelinuxContexts
from cri_dockerd_py.backends.rights import CAPABILITIES, engine_rights

_ROOT = Path("/")
_ARCHITECTURES = {
    "x86_64": "amd64",
    "i386": "386",
    "i686": "386",
    "aarch64": "arm64",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "mips64": "mips64le",
}
_CGROUP_OPTIONS = ("nsdelegate", "memory_recursiveprot")
_KERNEL = re.compile(r"(\d+)\.(\d+)")
_PAGES = re.compile(r"hugepages-(\d+)kB")
_WHOLE_HOST = ["0", "0", "4294967295"]


def read_host_facts(engine_pid: int = 0, *, selinux: bool = False, root: Path = _ROOT) -> HostFacts:
    """Return the facts; `engine_pid` is the daemon's whose children containers are, 0 for this process.

    SELinux is left alone unless `selinux` says otherwise.
    """
    cgroups = root / "sys/fs/cgroup"
    version = 2 if (cgroups / "cgroup.controllers").exists() else 1
    rights = engine_rights(engine_pid, proc=root / "proc")
    held = _all_capabilities(root) if rights.capabilities is None else rights.capabilities
    return HostFacts(
        kernel=kernel_version(_text(root / "proc/sys/kernel/osrelease")),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        cgroup_version=version,
        cgroup_mount_options=_cgroup_mount_options(root) if version == 2 else (),
        capabilities=frozenset(f"CAP_{name}" for name in held),
        least_oom_score_adj=rights.least_oom_score_adj,
        apparmor=_has_apparmor(root),
        seccomp="\nSeccomp:" in _text(root / "proc/self/status"),
        selinux=_selinux(root) if selinux else None,
        swap_accounting=_counts_swap(cgroups, root, version),
        hugepage_sizes=_hugepage_sizes(cgroups, root, version),
        systemd=(root / "run/systemd/system").is_dir(),
        in_user_namespace=_in_user_namespace(root, engine_pid),
        hostname=_text(root / "proc/sys/kernel/hostname").strip() or platform.node(),
    )


def kernel_version(release: str) -> tuple[int, int]:
    """Return the first two numbers of a kernel's release, zeros for what has none."""
    match = _KERNEL.match(release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _all_capabilities(root: Path) -> frozenset[str]:
    last = _text(root / "proc/sys/kernel/cap_last_cap").strip()
    return frozenset(CAPABILITIES[: int(last) + 1] if last.isdecimal() else CAPABILITIES)


def _has_apparmor(root: Path) -> bool:
    return (
        (root / "sys/kernel/security/apparmor").is_dir()
        and "container" not in os.environ
        and (root / "sbin/apparmor_parser").exists()
        and _text(root / "sys/module/apparmor/parameters/enabled").startswith("Y")
    )


def _selinux(root: Path) -> SelinuxContexts | None:
    """Return the policy's labels for containers, where SELinux runs."""
    if not (root / "sys/fs/selinux/enforce").exists():
        return None
    policy = _assignments(root / "etc/selinux/config").get("SELINUXTYPE", "targeted")
    contexts = _assignments(root / "etc/selinux" / policy / "contexts/lxc_contexts")
    return SelinuxContexts(
        contexts.get("process", "system_u:system_r:container_t:s0"),
        contexts.get("file", "system_u:object_r:container_file_t:s0"),
    )


def _assignments(path: Path) -> dict[str, str]:
    """Return the `name = "value"` lines of a file."""
    pairs = (line.partition("=") for line in _text(path).splitlines() if not line.startswith("#"))
    return {name.strip(): value.strip().strip('"') for name, equals, value in pairs if equals}


def _counts_swap(cgroups: Path, root: Path, version: int) -> bool:
    if version == 1:
        return (cgroups / "memory/memory.memsw.limit_in_bytes").exists()
    # The root cgroup has no limits, so a process there tells nothing
    own = _text(root / "proc/self/cgroup").partition("::/")[2].strip()
    if own:
        return (cgroups / own / "memory.swap.max").exists()
    return any(cgroups.glob("*/memory.swap.max"))


def _hugepage_sizes(cgroups: Path, root: Path, version: int) -> frozenset[str]:
    controllers = _text(cgroups / "cgroup.controllers").split()
    if not ("hugetlb" in controllers if version == 2 else (cgroups / "hugetlb").is_dir()):
        return frozenset()
    directory = root / "sys/kernel/mm/hugepages"
    matches = (_PAGES.fullmatch(name) for name in (os.listdir(directory) if directory.is_dir() else ()))
    return frozenset(_size(int(match[1])) for match in matches if match)


def _size(kib: int) -> str:
    """Return a page size as the kernel's cgroup files have it."""
    if kib >= 1 << 20:
        return f"{kib >> 20}GB"
    return f"{kib >> 10}MB" if kib >= 1 << 10 else f"{kib}KB"


def _cgroup_mount_options(root: Path) -> tuple[str, ...]:
    for line in _text(root / "proc/self/mountinfo").splitlines():
        place, _, rest = line.partition(" - ")
        kind, _, options = rest.partition(" ")
        if kind == "cgroup2" and place.split(" ")[4:5] == ["/sys/fs/cgroup"]:
            present = options.rpartition(" ")[2].split(",")
            return tuple(option for option in _CGROUP_OPTIONS if option in present)
    return ()


def _in_user_namespace(root: Path, pid: int) -> bool:
    mapping = _text(root / "proc" / (str(pid) if pid else "self") / "uid_map").split()
    return bool(mapping) and mapping != _WHOLE_HOST


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
