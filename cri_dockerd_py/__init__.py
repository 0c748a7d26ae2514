"""A Kubernetes CRI server for Docker Engine and containerd."""

__version__ = "0.1.0"
