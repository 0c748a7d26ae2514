"""A small stand-in for kubelet: it keeps pods running through a CRI socket as kubelet does (cri-behaviours, 11).

A sync of a pod lists what there is of it, decides from that alone, and acts: a sandbox that is gone or NOTREADY gets
its containers stopped with preStop and grace, and a successor with the next attempt; a container that has ended comes
back by its restart policy. Dead containers and sandboxes are collected, one dead container a name is kept. What it does
not do: probes, cgroups of pods, mirror pods, volumes other than emptyDir.
"""

from tests.kubelet.kubelet import Kubelet
from tests.kubelet.spec import AppContainer, AppPod

__all__ = ["AppContainer", "AppPod", "Kubelet"]
