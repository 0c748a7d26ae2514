"""The process of a container, and processes beside it (CRE-08, CRE-10, CRE-11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import ContainerSpec

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TERM = "TERM=xterm"


def arguments(spec: ContainerSpec, image: ImageConfig) -> list[str]:
    """Return the command line; the request's command drops both of the image's."""
    if spec.command:
        return [*spec.command, *spec.args]
    entrypoint = [] if image.entrypoint == ("",) else image.entrypoint
    line = [*entrypoint, *(spec.args or image.cmd)]
    if not line:
        raise InvalidArgument(f"container {spec.metadata.name}: neither the request nor the image has a command")
    return line


def working_directory(asked: str, image: ImageConfig) -> str:
    """Return where the process begins, always absolute."""
    directory = asked or image.working_dir or "/"
    return directory if directory.startswith("/") else f"/{directory}"


def environment(spec: ContainerSpec, image: ImageConfig, hostname: str, extra: Sequence[str] = ()) -> list[str]:
    """Return `name=value` texts, each name once; what a device adds (`extra`) wins over the request."""
    own = [f"{name}={_checked(name, value)}" for name, value in spec.envs]
    terminal = [_TERM] if spec.tty else []
    return merged_environment([_PATH, *terminal, f"HOSTNAME={hostname}", *image.env, *own, *extra])


def merged_environment(entries: Iterable[str]) -> list[str]:
    """Return the last entry of each name in the order in which the names came; one without `=` takes its name away."""
    values: dict[str, str] = {}
    for entry in entries:
        name, equals, _ = entry.partition("=")
        if equals and name:
            values[name] = entry
        else:
            values.pop(name, None)
    return list(values.values())


def exec_process(process: Mapping[str, object], command: Sequence[str], *, tty: bool) -> dict[str, object]:
    """Return the process of an exec: that of the container, with another command and terminal (USR-06)."""
    changed = {key: value for key, value in process.items() if key not in ("consoleSize", "commandLine")}
    changed |= {"args": list(command), "terminal": tty}
    env = process.get("env")
    entries = [str(entry) for entry in env] if isinstance(env, list) else []
    if tty and not any(entry.startswith("TERM=") for entry in entries):
        entries.append(_TERM)
    changed["env"] = entries
    return changed


def _checked(name: str, value: str) -> str:
    if not name or "=" in name:
        raise InvalidArgument(f"environment variable {name[:80]!r}: a name is not empty and has no =")
    if "\0" in name or "\0" in value:
        raise InvalidArgument(f"environment variable {name[:80]!r} has a NUL, which no environment can hold")
    try:
        value.encode()
        name.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(
            f"environment variable {name[:80]!r} is not UTF-8: containerd cannot carry it; encode the value"
        ) from None
    return value
