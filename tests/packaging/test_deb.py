"""The Debian package's scripts, run by dpkg on a copy of this machine; only systemctl is a stand-in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deb_package import REPOSITORY, pack, with_higher_version

SERVICE = "cri-dockerd-py.service"
SOCKETS = ("cri-dockerd-py.socket", "cri-dockerd-py-logs.socket")
UNITS = {SERVICE, *SOCKETS}
FRESH_START = [f"start {' '.join(SOCKETS)}", f"start --no-block {SERVICE}"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What the copy's programs write stays in `upper`.
ENTER = """
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
mount --bind /proc "$0/root/proc"
mount --bind /dev "$0/root/dev"
exec chroot "$0/root" "$@"
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The package and a newer one, both without the program."""
    directory = tmp_path_factory.mktemp("deb")
    root = directory / "root"
    shutil.copytree(REPOSITORY / "systemd", root / "lib/systemd/system")
    (root / "etc/cri-dockerd-py").mkdir(parents=True)
    shutil.copy(REPOSITORY / "packaging/config.toml", root / "etc/cri-dockerd-py")
    package = pack(root, directory)
    return package, with_higher_version(package, directory)


class Copy:
    """A copy of this machine, with a systemd that runs nothing but remembers."""

    def __init__(self, directory: Path, packages: tuple[Path, Path]) -> None:
        self._directory = directory
        for name in ("upper", "work", "root"):
            (directory / name).mkdir()
        self.upper = directory / "upper"
        self.state = self.upper / "srv/systemd"
        self.put("usr/local/bin/systemctl", Path(__file__).with_name("systemctl.py").read_text())
        for name, package in zip(("package.deb", "newer.deb"), packages, strict=True):
            shutil.copy(package, self.upper / "srv" / name)
        self.run("sh", "-c", "rm -f /usr/sbin/policy-rc.d && mkdir -p /run/systemd/system")

    def put(self, name: str, text: str) -> None:
        """Write a program."""
        path = self.upper / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(parents=True, exist_ok=True)
        # What was removed is a device to the file system below.
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *command: str) -> str:
        """Run a command and return what it prints, also to standard error."""
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", ENTER, str(self._directory), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def dpkg(self, *words: str) -> str:
        """Run dpkg and return what it prints."""
        return self.run("dpkg", "--force-depends,unsafe-io", *words)

    def install(self, name: str = "package.deb") -> str:
        """Install a package, see that it is configured, and return what dpkg prints."""
        printed = self.dpkg("--install", f"/srv/{name}")
        assert self.run("dpkg-query", "-f", "${Status}", "-W", "cri-dockerd-py") == "install ok installed"
        return printed

    def calls(self) -> list[str]:
        """Return what systemctl was told to do since this was last asked."""
        file = self.state / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.write_text("")
        return [line for line in lines if line != "daemon-reload"]

    def active(self) -> set[str]:
        """Return the active units."""
        return {path.name for path in self.state.iterdir()} & UNITS

    def links(self) -> set[str]:
        """Return the links that enable units of ours, or mask them."""
        return {
            path.name
            for folder in ("etc/systemd/system", "var/lib/systemd")
            for path in (self.upper / folder).rglob("cri-dockerd-py*")
            if path.is_symlink() or path.is_file()
        }

    def enabled(self) -> set[str]:
        """Return the units that start with the machine."""
        return {path.name for path in (self.upper / "etc/systemd/system").glob("*.wants/cri-dockerd-py*")}

    def disable(self) -> None:
        """Do what `systemctl disable --now` does."""
        for path in (self.upper / "etc/systemd/system").glob("*.wants/cri-dockerd-py*"):
            path.unlink()
        self.stop()

    def stop(self) -> None:
        """Stop all units, as an admin does."""
        self.run("systemctl", "stop", *sorted(UNITS))
        self.calls()


@pytest.fixture
def copy(tmp_path: Path, packages: tuple[Path, Path]) -> Copy:
    return Copy(tmp_path, packages)


def test_a_new_installation_starts(copy: Copy) -> None:
    copy.install()
    assert copy.calls() == FRESH_START
    assert copy.active() == copy.enabled() == UNITS


def test_an_upgrade_restarts_the_service_alone(copy: Copy) -> None:
    copy.install()
    copy.calls()
    copy.install("newer.deb")
    assert copy.calls() == [f"try-restart {SERVICE}"]
    assert copy.active() == copy.enabled() == UNITS


def test_an_upgrade_does_not_start_what_is_stopped(copy: Copy) -> None:
    copy.install()
    copy.stop()
    copy.install("newer.deb")
    assert copy.active() == set()
    assert copy.enabled() == UNITS


def test_an_installation_after_a_removal_starts(copy: Copy) -> None:
    copy.install()
    copy.calls()
    copy.dpkg("--remove", "cri-dockerd-py")
    (stop,) = copy.calls()
    assert set(stop.split()) == {"stop", *UNITS}
    copy.install()
    assert copy.calls() == FRESH_START
    assert copy.active() == copy.enabled() == UNITS
    # And then there is no trace of the removal.
    copy.install("newer.deb")
    assert copy.calls() == [f"try-restart {SERVICE}"]


def test_what_is_disabled_stays_so(copy: Copy) -> None:
    copy.install()
    copy.disable()
    copy.install("newer.deb")
    assert copy.active() == copy.enabled() == set()
    copy.dpkg("--remove", "cri-dockerd-py")
    copy.install("newer.deb")
    assert copy.active() == copy.enabled() == set()


def test_what_is_masked_is_no_failure(copy: Copy) -> None:
    copy.run("mkdir", "-p", "/etc/systemd/system")
    for unit in UNITS:
        copy.run("ln", "-s", "/dev/null", f"/etc/systemd/system/{unit}")
    copy.install()
    copy.install("newer.deb")
    assert copy.active() == set()
    copy.dpkg("--purge", "cri-dockerd-py")
    assert copy.links() == UNITS


def test_a_service_that_does_not_start_is_told_of(copy: Copy) -> None:
    copy.install()
    (copy.state / "broken").touch()
    printed = copy.install("newer.deb")
    assert "did not start again; journalctl -u cri-dockerd-py says why" in printed
    assert copy.active() == set(SOCKETS)


def test_policy_is_asked(copy: Copy) -> None:
    copy.put("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    copy.install()
    copy.install("newer.deb")
    assert copy.calls() == []
    assert copy.enabled() == UNITS


def test_without_systemd_units_are_enabled_and_not_started(copy: Copy) -> None:
    copy.run("rmdir", "/run/systemd/system")
    copy.install()
    assert copy.calls() == []
    assert copy.enabled() == UNITS
    copy.dpkg("--purge", "cri-dockerd-py")
    assert copy.links() == set()


def test_purging_leaves_nothing(copy: Copy) -> None:
    copy.install()
    copy.run("mkdir", "-p", "/var/lib/cri-dockerd-py/pods", "/run/cri-dockerd-py/admin")
    copy.dpkg("--purge", "cri-dockerd-py")
    assert copy.links() == copy.active() == set()
    assert copy.run("sh", "-c", "ls -d /etc/cri* /var/lib/cri-dockerd* /run/cri-dockerd* 2>/dev/null || true") == ""
