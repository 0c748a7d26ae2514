"""The pod's resolv.conf: its text, and writing it so that containers that have it mounted see the change."""

from __future__ import annotations

import os
from pathlib import Path

from cri_dockerd_py.errors import InvalidArgument, NotFound
from cri_dockerd_py.model.sandbox import DnsConfig

_HOST_RESOLV_CONF = Path("/etc/resolv.conf")


def render_resolv_conf(dns: DnsConfig | None, host_text: str) -> str:
    """Return the text: the host's when nothing was asked, else exactly what was asked, which may be nothing."""
    if dns is None:
        return host_text
    lines = [f"nameserver {_word('server', server)}" for server in dns.servers]
    if dns.searches:
        lines.append("search " + " ".join(_word("search domain", domain) for domain in dns.searches))
    if dns.options:
        lines.append("options " + " ".join(_word("option", option) for option in dns.options))
    return "".join(f"{line}\n" for line in lines)


def write_pod_resolv_conf(path: Path, dns: DnsConfig | None) -> None:
    """Write what a pod asked for, or the host's settings, into an existing file. Blocking; use a thread."""
    write_resolv_conf(path, render_resolv_conf(dns, _HOST_RESOLV_CONF.read_text() if dns is None else ""))


def write_resolv_conf(path: Path, text: str) -> None:
    """Replace the content of an existing file in place: it is a bind mount's source, so it must stay the same inode."""
    data = text.encode()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise NotFound(f"{path} is not there: the sandbox's files were removed, make the sandbox anew") from error
    with os.fdopen(fd, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        file.truncate(len(data))


def _word(what: str, text: str) -> str:
    if not text or not text.isprintable() or any(character.isspace() for character in text):
        raise InvalidArgument(f"DNS {what} {text[:80]!r} cannot stand in resolv.conf: it must be one printable word")
    return text
