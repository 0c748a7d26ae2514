"""The OCI spec of a container."""

from __future__ import annotations

from cri_dockerd_py.backends.containerd.oci.inputs import ContainerInputs


def container_spec(inputs: ContainerInputs) -> dict[str, object]:
    """Return the spec; InvalidArgument for what cannot be."""
    raise NotImplementedError
