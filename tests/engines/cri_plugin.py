"""Settings of containerd's own CRI plugin, for tests that need its pods."""

from __future__ import annotations

from tests.cni import PLUGIN_DIRECTORIES, CniNetwork

PULL_STALL_SECONDS = 5
_PLUGIN = "plugins.'io.containerd.grpc.v1.cri'"


def plugin_config(pause_image: str, network: CniNetwork) -> str:
    """Return the plugin's part of containerd's configuration: a pause image, a pod network, two runtime handlers."""
    handlers = "".join(
        f"[{_PLUGIN}.containerd.runtimes.{name}]\nruntime_type = 'io.containerd.runc.v2'\n"
        for name in ("runc", "second")
    )
    return (
        f"[{_PLUGIN}]\nsandbox_image = '{pause_image}'\nrestrict_oom_score_adj = true\n"
        f"image_pull_progress_timeout = '{PULL_STALL_SECONDS}s'\n"
        f"[{_PLUGIN}.cni]\nbin_dir = '{PLUGIN_DIRECTORIES[0]}'\nconf_dir = '{network.conf_dir}'\n"
        f"[{_PLUGIN}.containerd]\nsnapshotter = 'overlayfs'\ndefault_runtime_name = 'runc'\n{handlers}"
    )
