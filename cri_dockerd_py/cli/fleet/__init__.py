"""One node of a cluster's migration: a pod of a DaemonSet asks the node's service to migrate, and reports."""
