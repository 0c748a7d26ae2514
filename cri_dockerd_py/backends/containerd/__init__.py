"""Pods on containerd, without its CRI plugin."""
