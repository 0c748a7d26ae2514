"""CNI plugins for tests: shell scripts that write down how they were called and answer as told."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALL_VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
RESULT = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"}],
    "ips": [{"address": "10.9.8.7/24", "gateway": "10.9.8.1", "interface": 0}],
    "dns": {},
}

_SCRIPT = """#!/bin/sh
if [ "$CNI_COMMAND" = VERSION ]; then
  echo x >>{calls}/version-count
  {version}
fi
call={calls}/$(date +%s%N)-{kind}-$CNI_COMMAND
cat >$call.stdin
env | grep ^CNI_ >$call.env
mv $call.env $call
case $CNI_COMMAND in
{cases}
esac
"""


@dataclass(frozen=True)
class Call:
    """One recorded call of a fake plugin."""

    plugin: str
    command: str
    env: dict[str, str]
    stdin: dict[str, Any]


class FakePlugins:
    """A directory of fake plugins and a record of their calls."""

    def __init__(self, directory: Path) -> None:
        self.bin_dir = directory / "bin"
        self._calls_dir = directory / "calls"
        self.bin_dir.mkdir(parents=True)
        self._calls_dir.mkdir()

    def install(self, kind: str, *, versions: Sequence[str] = ALL_VERSIONS, version: str = "", **commands: str) -> Path:
        """Write a plugin; each keyword is a command with the shell text that answers it. ADD gives RESULT."""
        answer = version or f"printf '%s' '{json.dumps({'supportedVersions': list(versions)})}'; exit 0"
        commands.setdefault("ADD", prints(RESULT))
        cases = "\n".join(f"{command}) {text};;" for command, text in commands.items())
        text = _SCRIPT.format(calls=self._calls_dir, kind=kind, version=answer, cases=cases)
        path = self.bin_dir / kind
        draft = self.bin_dir / f".{kind}.draft"
        draft.write_text(text)
        draft.chmod(0o755)
        os.rename(draft, path)
        return path

    def calls(self) -> list[Call]:
        """Return the calls so far, VERSION left out, in order."""
        found = []
        for path in sorted(self._calls_dir.iterdir()):
            if path.suffix or path.name == "version-count":
                continue
            _time, kind, command = path.name.split("-", 2)
            env = dict(line.split("=", 1) for line in path.read_text().splitlines())
            found.append(Call(kind, command, env, json.loads(path.with_suffix(".stdin").read_text())))
        return found

    def steps(self) -> list[str]:
        """Return the calls so far as `plugin COMMAND`."""
        return [f"{call.plugin} {call.command}" for call in self.calls()]

    def version_count(self) -> int:
        """Return how often a VERSION was asked."""
        path = self._calls_dir / "version-count"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def forget(self) -> None:
        """Start the record anew."""
        for path in self._calls_dir.iterdir():
            path.unlink()


def prints(answer: object) -> str:
    """Return shell text that succeeds with a JSON answer."""
    return f"printf '%s' '{json.dumps(answer)}'"


def fails(code: int, message: str, details: str = "") -> str:
    """Return shell text that fails the way CNI wants it."""
    return f"{prints({'code': code, 'msg': message, 'details': details})}; exit 1"


def conflist(*plugins: dict[str, Any] | str, version: str = "1.0.0", name: str = "fake-net", **fields: Any) -> bytes:
    """Return a network list; a plugin may be given as its type alone."""
    whole = [{"type": plugin} if isinstance(plugin, str) else plugin for plugin in plugins]
    return json.dumps({"cniVersion": version, "name": name, "plugins": whole, **fields}).encode()
