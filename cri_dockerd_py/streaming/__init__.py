"""Exec, attach and port-forward as kubelet, kubectl and crictl speak them; knows no engine."""
