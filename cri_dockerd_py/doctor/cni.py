"""CNI: a configuration, and the programs that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok
from cri_dockerd_py.doctor.mends import install, package_tool
from cri_dockerd_py.network.cni_conf_dir import ConfDir
from cri_dockerd_py.network.cni_exec import find_plugin

AREA = "network"
_DNF_PLUGINS = "/usr/libexec/cni"


def check_cni(patient: Patient) -> Iterable[Finding]:
    """Load the configuration as the service does, and ask its plugins for their versions."""
    settings = patient.settings
    bin_dirs = [str(path) for path in settings.cni_bin_dir]
    conf_dir = ConfDir(str(settings.cni_conf_dir), bin_dirs)
    asyncio.run(conf_dir.refresh())
    if conf_dir.current is None:
        yield failure(
            AREA,
            conf_dir.problem,
            "kubelet keeps the node NotReady, and pods get no network",
            f"{_install_plugins(patient, bin_dirs[0])}  # and install the cluster's network add-on, which puts its "
            f"plugins into {bin_dirs[0]} and its configuration into {settings.cni_conf_dir}",
        )
        return
    loaded = conf_dir.current
    plugins = ", ".join(plugin.type for plugin in loaded.conf.plugins)
    yield ok(AREA, f"CNI network {loaded.conf.name} ({plugins}) from {loaded.path}")
    ports = next((p for p in loaded.conf.plugins if "portMappings" in p.capabilities), None)
    if ports is not None and ports.type == "portmap" and not _has_packet_filter(patient):
        yield failure(
            AREA,
            "neither iptables nor nft is installed",
            "pods with host ports do not start: the portmap plugin calls it",
            install(patient, "iptables"),
        )


def _install_plugins(patient: Patient, bin_dir: str) -> str:
    """Return the command that installs the usual plugins where they are looked for."""
    tool = package_tool(patient)
    command = install(patient, "cni-plugins" if tool == "zypper" else "containernetworking-plugins")
    if tool == "dnf":
        command += f" && mkdir -p {bin_dir} && ln -sf {_DNF_PLUGINS}/* {bin_dir}/"
    return command


def _has_packet_filter(patient: Patient) -> bool:
    directories = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin")
    return any(find_plugin(name, [str(patient.root) + d for d in directories]) for name in ("iptables", "nft"))
