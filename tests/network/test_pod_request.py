from __future__ import annotations

import pytest

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.sandbox import DnsConfig, PortMapping, Protocol
from cri_dockerd_py.network.pod_request import (
    PodNetworkRequest,
    capability_args,
    check_request,
    cni_args,
    parse_pod_cidrs,
)


def test_cni_args_have_their_order_and_the_uid() -> None:
    request = PodNetworkRequest("abc", "web", "prod", "u-1")
    assert ";".join(f"{key}={value}" for key, value in cni_args(request)) == (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u-1"
    )


@pytest.mark.parametrize(
    "request_",
    [
        PodNetworkRequest(""),
        PodNetworkRequest("../../x"),
        PodNetworkRequest("abc", pod_name="a;K8S_POD_UID=b"),
        PodNetworkRequest("abc", pod_namespace="a=b"),
        PodNetworkRequest("abc", pod_uid="a\nb"),
        PodNetworkRequest("abc", netns_path="/run/\0"),
    ],
)
def test_what_could_smuggle_is_refused(request_: PodNetworkRequest) -> None:
    with pytest.raises(InvalidArgument):
        check_request(request_)


@pytest.mark.behaviour("NET-05")
def test_only_ports_of_the_host_are_mapped() -> None:
    mappings = (
        PortMapping(Protocol.TCP, 80),
        PortMapping(Protocol.UDP, 53, 5353, "127.0.0.1"),
        PortMapping(Protocol.SCTP, 9, 9),
    )
    assert capability_args(PodNetworkRequest("a", port_mappings=mappings), ()) == {
        "portMappings": [
            {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
            {"hostPort": 9, "containerPort": 9, "protocol": "sctp", "hostIP": ""},
        ]
    }


def test_every_capability_that_there_is_a_value_for() -> None:
    request = PodNetworkRequest(
        "a",
        annotations={"kubernetes.io/egress-bandwidth": "1M", "x": "y"},
        dns=DnsConfig(("10.0.0.1",), ("a.b",), ("ndots:5",)),
        aliases=("web",),
        cgroup_path="/kubepods/pod1",
    )
    assert capability_args(request, ("10.0.0.0/24", "fd00::/64")) == {
        "bandwidth": {"egressRate": 1000000, "egressBurst": 2147483647},
        "dns": {"servers": ["10.0.0.1"], "searches": ["a.b"], "options": ["ndots:5"]},
        "ipRanges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]],
        "aliases": ["web"],
        "io.kubernetes.cri.pod-annotations": {"kubernetes.io/egress-bandwidth": "1M", "x": "y"},
        "cgroupPath": "/kubepods/pod1",
    }


@pytest.mark.parametrize(
    "mapping",
    [
        PortMapping(Protocol.TCP, 80, 70000),
        PortMapping(Protocol.TCP, 0, 80),
        PortMapping(Protocol.TCP, 80, -1),
        PortMapping(Protocol.TCP, 80, 80, "everywhere"),
    ],
)
def test_impossible_ports_are_refused(mapping: PortMapping) -> None:
    with pytest.raises(InvalidArgument, match="port mapping"):
        capability_args(PodNetworkRequest("a", port_mappings=(mapping,)), ())


@pytest.mark.parametrize(
    ("text", "cidrs"),
    [
        ("10.1.0.0/24", ("10.1.0.0/24",)),
        ("10.1.0.7/24", ("10.1.0.0/24",)),
        ("fd00:1::/64, 10.1.0.0/24", ("fd00:1::/64", "10.1.0.0/24")),
    ],
)
@pytest.mark.behaviour("STA-22")
def test_pod_cidrs(text: str, cidrs: tuple[str, ...]) -> None:
    assert parse_pod_cidrs(text) == cidrs


@pytest.mark.parametrize(
    "text", ["", "10.1.0.0/33", "x", "10.0.0.0/24,10.0.1.0/24", "10.0.0.0/24,", "1,2,3", "10.1.0.0"]
)
@pytest.mark.behaviour("STA-22")
def test_malformed_pod_cidrs(text: str) -> None:
    with pytest.raises(InvalidArgument, match="pod CIDR"):
        parse_pod_cidrs(text)
