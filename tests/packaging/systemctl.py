#!/usr/bin/python3 -IS
"""A systemctl without systemd: it keeps what is active in files below /srv/systemd, and what it was told in `calls`.

Units are enabled and masked as they are for the real one, by links; presets are left to the real one where it is.
"""

import os
import sys
from pathlib import Path

STATE = Path("/srv/systemd")
UNITS = Path("/etc/systemd/system")


def enabled(unit: str) -> str:
    """Return what is-enabled prints."""
    if (UNITS / unit).is_symlink() and os.readlink(UNITS / unit) == "/dev/null":
        return "masked"
    return "enabled" if list(UNITS.glob(f"*.wants/{unit}")) else "disabled"


def start(unit: str, wait: bool) -> bool:
    """Start a unit; return whether that went well, as far as the caller waits for it."""
    if enabled(unit) == "masked":
        return False
    if (STATE / "broken").exists() and unit.endswith(".service"):
        (STATE / unit).unlink(missing_ok=True)
        return not wait
    (STATE / unit).touch()
    return True


def main(words: list[str]) -> bool:
    """Do what the words say; return whether all of it went well."""
    options = [word for word in words if word.startswith("-")]
    verb, *units = [word for word in words if not word.startswith("-")]
    active = [unit for unit in units if (STATE / unit).exists()]
    if verb == "is-enabled":
        states = [enabled(unit) for unit in units]
        if "--quiet" not in options:
            print(*states, sep="\n")
        return set(states) == {"enabled"}
    if verb == "is-active":
        return active == units
    with (STATE / "calls").open("a") as calls:
        print(verb, *(["--no-block"] if "--no-block" in options else []), *units, file=calls)
    if verb == "stop":
        for unit in active:
            (STATE / unit).unlink()
    elif verb in ("start", "try-restart"):
        wait = "--no-block" not in options
        return all(start(unit, wait) for unit in (units if verb == "start" else active))
    return verb in ("stop", "daemon-reload")


if __name__ == "__main__":
    if "preset" in sys.argv:
        os.execv("/usr/bin/systemctl", ["systemctl", *sys.argv[1:]])
    sys.exit(not main(sys.argv[1:]))
