"""The OCI spec of a sandbox's own process."""

from __future__ import annotations

from cri_dockerd_py.backends.containerd.oci.inputs import SandboxInputs


def sandbox_spec(inputs: SandboxInputs) -> dict[str, object]:
    """Return the spec; InvalidArgument for what cannot be."""
    raise NotImplementedError
