"""Moves a node's pods from one engine to another, under a kubelet that goes on running."""
