"""All that pods can leave behind, found from the outside, and the figures of the service's process."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tests.behaviour.traces import traces
from tests.soak.node import SoakNode

SETTLE_WITHIN_S = 60.0
_PAUSE_S = 1.0
_CGROUPS = Path("/sys/fs/cgroup")
_RUNTIME_STATES = Path("/run/containerd/runc")
#: Sockets of each of its lives, and marks of namespaces that it sweeps only once a minute, and not over a restart.
_DOCKERS_OWN = frozenset({"libnetwork", "netns"})
_HIDDEN_BUNDLE = re.compile(r"^(.*\.task/[^/]+/)?\.[0-9a-f]{64}(/|$)")
_NOT_OF_PODS = {"pins", "choices", "migrations", "moves"}
#: figure of the process → by how much it may grow over a run: pools of threads fill up, the interpreter keeps memory.
ALLOWED_GROWTH = {"MiB of memory": 24.0, "descriptors": 6.0, "threads": 12.0, "loop tasks": 4.0, "children": 0.0}
#: Kinds that no pod need have: what only lives for a moment, and what only some engines make.
_RARE = re.compile(
    r"(containerd: )?(leases|records of the sandbox store|downloads|files of the CRI plugin|files of pods)"
    r"|rows of (intents|kept_\w+|withheld|image_\w+)|Docker's (networks|volumes|images)|containerd's (images|content)"
)

Things = Mapping[str, frozenset[str]]
Figures = Mapping[str, float]


def figures(node: SoakNode) -> Figures:
    """Return the size of the service's process."""
    pid = node.server.daemon.pid
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "MiB of memory": int(status["VmRSS"].split()[0]) / 1024,
        **_descriptors(Path(f"/proc/{pid}/fd")),
        "threads": float(status["Threads"]),
        "loop tasks": node.metric("loop_tasks"),
        "children": float(sum(stat[1] == str(pid) for _, stat in _processes())),
    }


def _descriptors(directory: Path) -> Figures:
    """Return how many there are, and of what."""
    kinds = Counter({"sockets": 0, "pipes": 0, "files": 0})
    for link in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            kinds[_kind(link, os.readlink(link))] += 1
    return {"descriptors": float(kinds.total()), **{f"  {kind}": float(count) for kind, count in kinds.items()}}


def _kind(link: Path, target: str) -> str:
    if target.startswith("anon_inode:"):
        return target.removeprefix("anon_inode:").strip("[]")
    return "sockets" if link.is_socket() else "pipes" if link.is_fifo() else "files"


def things(node: SoakNode, ids: Iterable[str]) -> Things:
    """Return what there is of pods, by kind; `ids` are those of all pods and containers that ever were."""
    known = frozenset(ids)
    parts: list[Callable[[], Mapping[str, Iterable[str]]]] = [lambda: traces(node.server)]
    if len(node.engines) > 1:
        parts.append(lambda: {f"containerd: {kind}": items for kind, items in node.containerd.left().items()})
    if "docker" in node.engines:
        parts.append(lambda: _docker(node))
    if "containerd" in node.engines:
        parts.append(lambda: _containerd(node))
    parts += [
        lambda: _database(node.server.root_dir / "state.db"),
        lambda: _of_the_kernel(node, known),
        lambda: {"pipes kept by the service manager": list(node.manager.kept)},
        lambda: {"files of the service": _below((node.server.root_dir, node.server.state_dir))},
        lambda: {
            "files of engines": _below(
                (engine.directory / name for engine in node.engines.values() for name in ("exec", "c-state")),
                _DOCKERS_OWN,
            )
        },
    ]
    return {kind: items for part in parts for kind, items in _whole(part).items()}


def _whole(part: Callable[[], Mapping[str, Iterable[str]]]) -> Things:
    """Look again for as long as something goes while it is looked at."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return {kind: frozenset(items) for kind, items in part().items()}


def _of_the_kernel(node: SoakNode, known: frozenset[str]) -> dict[str, Iterable[str]]:
    return {
        "cgroups": _cgroups(known),
        "states of the runtime": [str(path) for path in _RUNTIME_STATES.glob("*/*") if path.name in known],
        "mounts": [
            line.split()[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if any(f" {directory}/" in line for directory in node.directories())
        ],
        "processes": _strangers(node),
    }


def _below(folders: Iterable[Path], without: frozenset[str] = frozenset()) -> list[str]:
    return [path for folder in folders for path in _files(folder, without)]


def grown(before: Things, after: Things) -> dict[str, list[str]]:
    """Return what is there that was not before, by kind."""
    return {kind: sorted(items - before[kind]) for kind, items in after.items() if items - before[kind]}


def left_over(node: SoakNode, ids: Iterable[str], baseline: Things) -> dict[str, list[str]]:
    """Wait until nothing is there that was not before, and return what stays for too long."""
    known, deadline_s = frozenset(ids), time.monotonic() + SETTLE_WITHIN_S
    while (extra := grown(baseline, things(node, known))) and time.monotonic() < deadline_s:
        time.sleep(_PAUSE_S)
    return extra


def dockers_own(node: SoakNode, left: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return those of the things left that a Docker which ends in the middle of a step forgets for good."""
    files = f"{node.docker.directory}/" if "docker" in node.engines else ""
    signs = {
        "Docker's layers": "",
        "Docker's directories": "",
        "files of engines": files,
        "processes": "-namespace moby ",
        "mounts": "-init/merged",
    }
    return {
        kind: own
        for kind, items in left.items()
        if kind in signs and (own := [item for item in items if signs[kind] in item])
    }


def bundles_in_removal(left: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return what a killed containerd has of bundles that it was removing: hidden, and never looked at again."""
    return {
        kind: own for kind, items in left.items() if (own := [item for item in items if _HIDDEN_BUNDLE.search(item)])
    }


def kept_by_leases(left: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return what a pull that broke off has left for the next one, until a lease expires."""
    leases = [
        kind for kind, items in left.items() if kind.endswith("leases") and all("pull-kept" in one for one in items)
    ]
    kinds = (*leases, "containerd's content", "containerd's layers") if leases else ()
    return {kind: left[kind] for kind in kinds if kind in left}


def unseen(seen: Sequence[Things], baseline: Things) -> list[str]:
    """Return the kinds of which never anything was there beside the baseline."""
    kinds = {kind for now in seen for kind in now if now[kind] - baseline[kind]}
    return sorted(kind for kind in baseline if kind not in kinds and not _RARE.fullmatch(kind))


def settled(node: SoakNode, ids: Iterable[str]) -> Things:
    """Return what there is once it does not change any more."""
    known = frozenset(ids)
    before, deadline_s = things(node, known), time.monotonic() + SETTLE_WITHIN_S
    while time.monotonic() < deadline_s:
        time.sleep(2 * _PAUSE_S)
        now = things(node, known)
        if now == before:
            return now
        before = now
    raise TimeoutError(f"the node does not settle within {SETTLE_WITHIN_S:.0f} s")


def _docker(node: SoakNode) -> dict[str, Iterable[str]]:
    docker = node.docker
    return {
        "Docker's networks": [network["Name"] for network in docker.client.api.networks()],
        "Docker's volumes": [one["Name"] for one in docker.client.api.volumes()["Volumes"] or []],
        "Docker's images": [image["Id"] for image in docker.client.api.images(all=True)],
        "Docker's layers": [path.name for path in docker.data_root.glob("overlay2/*") if path.name != "l"],
        "Docker's directories": [path.name for path in docker.data_root.glob("containers/*")],
    }


def _containerd(node: SoakNode) -> dict[str, Iterable[str]]:
    ctr = node.containerd.ctr
    return {
        "containerd's images": ctr("images", "ls", "--quiet").split(),
        "containerd's content": ctr("content", "ls", "--quiet").split(),
        "containerd's layers": [line.split()[0] for line in ctr("snapshots", "ls").splitlines()[1:]],
    }


def _database(path: Path) -> dict[str, Iterable[str]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return {
            f"rows of {table}": [str(row[0]) for row in database.execute(f"SELECT * FROM {table}")]
            for table in tables
            if table not in _NOT_OF_PODS
        }


def _cgroups(ids: frozenset[str]) -> list[str]:
    found = []
    for directory, names, _ in os.walk(_CGROUPS):
        for name in names:
            if name.removeprefix("docker-").removeprefix("cri-containerd-").removesuffix(".scope") in ids:
                found.append(f"{directory}/{name}")
    return found


def _strangers(node: SoakNode) -> list[str]:
    """Return processes that were started with a path of this node, or by the service, and are none of its daemons."""
    pids, service = node.daemon_pids(), str(node.server.daemon.pid)
    paths = [f"{directory}/".encode() for directory in node.directories()]
    found = []
    for pid, stat in _processes():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if pid not in pids and (stat[1] == service or any(path in command for path in paths)):
                found.append(f"{pid} {stat[0]} {command.replace(bytes(1), b' ').decode(errors='replace')[:200]}")
    return found


def _processes() -> Iterable[tuple[int, list[str]]]:
    """Yield every process with its state and parent."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(process.name), (process / "stat").read_text().rpartition(")")[2].split()[:2]


def _files(folder: Path, without: frozenset[str] = frozenset()) -> Iterable[str]:
    """Yield all paths below a directory, without those of mounted file systems and of directories of these names."""
    for directory, names, files in os.walk(folder):
        names[:] = [
            name for name in names if name not in without and not os.path.ismount(os.path.join(directory, name))
        ]
        yield from (os.path.join(directory, name) for name in (*names, *files))
