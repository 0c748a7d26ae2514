"""CNI: a configuration, and the programs that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok
from cri_dockerd_py.network.cni_conf_dir import ConfDir
from cri_dockerd_py.network.cni_exec import find_plugin

AREA = "network"


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
            "install the cluster's network add-on, or containernetworking-plugins and a file in "
            f"{settings.cni_conf_dir}",
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
            "apt-get install iptables",
        )


def _has_packet_filter(patient: Patient) -> bool:
    directories = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin")
    return any(find_plugin(name, [str(patient.root) + d for d in directories]) for name in ("iptables", "nft"))
