"""The pod network room: network namespaces, CNI plugin chains and resolv.conf.

It needs root, and its failures need undoing, so both are kept in this one small room. It knows nothing of
containers, engines or CRI messages: a pod is an id, a name and the path of a network namespace.

`pod_network.PodNetwork` is the door: set up, tear down, check, collect garbage, say whether the network is ready.
Behind it, from pure to effectful:

- `json_text`, `cni_conf`, `cni_result`, `pod_request`, `bandwidth`, `resolv_conf`: text and values in, values out;
- `cni_cache`: libcni's result files, so that whoever set a pod up, any of us can tear it down;
- `cni_exec`, `cni_versions`, `cni_chain`: one plugin process, what it supports, and a list of them in order;
- `cni_attach`: the steps of attaching and detaching a pod, with the record before and after;
- `cni_conf_dir`: which configuration is in force, followed without watching;
- `netns`, `netns_owner`, `netns_inspect`, `syscalls`: pinned namespaces, and reading inside them;
- `locks`, `slots`, `settle`: one operation at a time on a pod, also across a crash of this process, and not too many.

The order that keeps a node clean: the namespace is pinned before ADD, and the cache file that DEL needs is
written before ADD too (without a result), so a crash at any step leaves enough behind for `sweep`.
"""
