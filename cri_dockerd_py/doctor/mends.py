"""Commands that mend: a line to paste that stops at the first step which fails, with a comment where one must judge."""

from __future__ import annotations

import re
import shlex

from cri_dockerd_py.doctor.finding import Patient
from cri_dockerd_py.settings.load import DEFAULT_CONFIG_FILE

UNIT = "cri-dockerd-py"
_SOCKET = "unix:///run/cri-dockerd-py.sock"
_TOOLS = {
    "debian": "apt-get",
    "ubuntu": "apt-get",
    "fedora": "dnf",
    "rhel": "dnf",
    "centos": "dnf",
    "amzn": "dnf",
    "suse": "zypper",
}
_INSTALL = {"apt-get": "apt-get install -y", "dnf": "dnf install -y", "zypper": "zypper install -y"}
_UPGRADE = {
    "apt-get": "apt-get update && apt-get install -y --only-upgrade",
    "dnf": "dnf upgrade -y",
    "zypper": "zypper update -y",
}
_DOCKER_CONFIG = "/etc/docker/daemon.json"


def package_tool(patient: Patient) -> str:
    """Return the program that installs this distribution's packages, empty when that is not known."""
    told = dict(re.findall(r"^(ID|ID_LIKE)=[\"']?([^\"'\n]*)", patient.text("/etc/os-release"), re.MULTILINE))
    words = f"{told.get('ID', '')} {told.get('ID_LIKE', '')}".split()
    return next((_TOOLS[word] for word in words if word in _TOOLS), "")


def install(patient: Patient, package: str) -> str:
    """Return the command that installs a package."""
    return _with_tool(patient, _INSTALL, package)


def upgrade(patient: Patient, package: str) -> str:
    """Return the command that upgrades a package which is installed."""
    return _with_tool(patient, _UPGRADE, package)


def _with_tool(patient: Patient, commands: dict[str, str], package: str) -> str:
    tool = package_tool(patient)
    if tool:
        return f"{commands[tool]} {package}"
    verb = "install" if commands is _INSTALL else "upgrade"
    return f"# {verb} {package} with this distribution's package manager"


def served_endpoint(patient: Patient) -> str:
    """Return where this service is reached, also where systemd holds its socket."""
    endpoint = patient.settings.container_runtime_endpoint
    return _SOCKET if endpoint == "fd://" else endpoint


def replace_in(file: str, old: str, new: str) -> str:
    """Return the command that puts `new` where `file` has `old`, word for word; neither spans lines."""
    return substitute_in(file, _literally(old), new)


def substitute_in(file: str, pattern: str, new: str) -> str:
    """Return the command that puts `new` where `file` has what sed's basic pattern matches."""
    replacement = re.sub(r"[\\&#]", r"\\\g<0>", new)
    return f"sed -i {shlex.quote(f's#{pattern}#{replacement}#g')} {shlex.quote(file)}"


def _literally(text: str) -> str:
    return re.sub(r"[\\.*^$\[\]#]", r"\\\g<0>", text)


def set_in_docker(statement: str) -> str:
    """Return the command that changes Docker's configuration `d` by a Python statement, keeping what else is in it."""
    lines = (
        "import json, pathlib",
        f'p = pathlib.Path("{_DOCKER_CONFIG}")',
        'd = json.loads(p.exists() and p.read_text() or "{}")',
        statement,
        "p.parent.mkdir(exist_ok=True)",
        "p.write_text(json.dumps(d, indent=2))",
    )
    return f"python3 -c {shlex.quote('; '.join(lines))}"


def set_in_service(name: str, value: str) -> str:
    """Return the command that changes a setting of this service in its file; tables stay behind it."""
    line, others = f'1i {name} = "{value}"', f"/^ *#* *{name} *=/d"
    return f"sed -i -e {shlex.quote(line)} -e {shlex.quote(others)} {DEFAULT_CONFIG_FILE}"
