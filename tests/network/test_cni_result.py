from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.model.sandbox import DnsConfig
from cri_dockerd_py.network.cni_conf import VERSIONS
from cri_dockerd_py.network.cni_result import PodNetworkStatus, ResultError, convert_result, parse_status

OLD: dict[str, Any] = {
    "cniVersion": "0.2.0",
    "ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]},
    "ip6": {"ip": "fd00::5/64"},
    "dns": {"nameservers": ["10.1.0.1"], "domain": "local", "search": ["a.b"], "options": ["ndots:2"]},
}
MIDDLE: dict[str, Any] = {
    "cniVersion": "0.4.0",
    "interfaces": [{"name": "veth1"}, {"name": "eth0", "mac": "aa", "sandbox": "/run/netns/x"}],
    "ips": [
        {"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
        {"version": "6", "address": "fd00::5/64", "interface": 1},
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
    "dns": {},
}
NEW: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "eth0", "mac": "aa", "mtu": 1400, "sandbox": "/run/netns/x", "socketPath": "/s"}],
    "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}],
    "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "table": 5, "scope": 0}],
}


def status(raw: dict[str, Any], default: str = "") -> PodNetworkStatus:
    return parse_status(raw, ifname="eth0", network_name="net", default=default)


@pytest.mark.parametrize(
    ("raw", "ips"),
    [(OLD, ("10.1.0.5", "fd00::5")), (MIDDLE, ("10.1.0.5", "fd00::5")), (NEW, ("10.1.0.5",))],
)
@pytest.mark.behaviour("NET-10")
def test_addresses_of_every_form(raw: dict[str, Any], ips: tuple[str, ...]) -> None:
    assert status(raw).ips == ips
    for version in VERSIONS:
        assert status(convert_result(raw, version)).ips == ips


def test_the_results_order_is_kept() -> None:
    raw = {**MIDDLE, "ips": MIDDLE["ips"][::-1]}
    assert status(raw).ips == ("fd00::5", "10.1.0.5")


def test_a_result_without_a_version_takes_the_configurations() -> None:
    bare = {key: value for key, value in OLD.items() if key != "cniVersion"}
    assert status(bare, "0.2.0").ips == ("10.1.0.5", "fd00::5")
    assert status(bare).ips == ("10.1.0.5", "fd00::5")


def test_addresses_of_the_hosts_interfaces_are_left_out() -> None:
    ips = [{"address": "10.0.0.1/24", "interface": 0}, {"address": "10.0.0.2/24", "interface": 1}]
    assert status({**MIDDLE, "ips": ips}).ips == ("10.0.0.2",)


def test_a_second_interface_of_the_pod_counts_only_without_the_first() -> None:
    interfaces = [{"name": "eth0", "sandbox": "/x"}, {"name": "net1", "sandbox": "/x"}]
    ips = [{"address": "10.0.1.2/24", "interface": 1}, {"address": "10.0.0.2/24", "interface": 0}]
    assert status({**NEW, "interfaces": interfaces, "ips": ips}).ips == ("10.0.0.2",)
    assert status({**NEW, "interfaces": interfaces, "ips": ips[:1]}).ips == ("10.0.1.2",)


def test_results_that_name_no_sandbox_still_have_addresses() -> None:
    assert status({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}).ips == ("10.0.0.2",)
    host_only = {"interfaces": [{"name": "veth"}], "ips": [{"address": "10.0.0.2/24", "interface": 0}]}
    assert status({"cniVersion": "1.0.0", **host_only}).ips == ("10.0.0.2",)


def test_dns_with_the_domain_first() -> None:
    assert status(OLD).dns == DnsConfig(("10.1.0.1",), ("local", "a.b"), ("ndots:2",))


def test_up_from_the_old_form() -> None:
    assert convert_result(OLD, "1.0.0") == {
        "cniVersion": "1.0.0",
        "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
        "dns": OLD["dns"],
    }


def test_down_to_the_old_form() -> None:
    converted = convert_result(MIDDLE, "0.2.0")
    routes = [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]
    assert converted["ip4"] == {"ip": "10.1.0.5/16", "gateway": "10.1.0.1", "routes": routes}
    assert converted["ip6"] == {"ip": "fd00::5/64"}
    assert not {"ips", "interfaces", "routes"} & converted.keys()


def test_the_family_is_written_only_before_1_0() -> None:
    assert [ip["version"] for ip in convert_result(NEW, "0.3.1")["ips"]] == ["4"]
    assert all("version" not in ip for ip in convert_result(MIDDLE, "1.0.0")["ips"])


def test_fields_of_1_1_are_left_out_below_it() -> None:
    converted = convert_result(NEW, "1.0.0")
    assert converted["interfaces"] == [{"name": "eth0", "mac": "aa", "sandbox": "/run/netns/x"}]
    assert converted["routes"] == [{"dst": "0.0.0.0/0"}]
    assert convert_result(NEW, "1.1.0")["interfaces"] == NEW["interfaces"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cniVersion": "7.0.0"}, "unknown"),
        ({"ips": [{"address": "10.0.0.1.2/24"}]}, "not an IP"),
        ({"ips": [{"address": "$(reboot)"}]}, "not an IP"),
        ({"ips": [{}]}, "not an IP"),
        ({"ips": [{"address": "fe80::1%eth0/64"}]}, "zone"),
        ({"ips": [{"address": "10.0.0.1/24", "interface": 5}]}, "interface 5"),
        ({"ips": [{"address": "10.0.0.1/24", "interface": True}]}, "interface True"),
        ({"ips": "10.0.0.1"}, "not a list"),
        ({"interfaces": [{"name": 1}]}, "not a string"),
        ({"ips": [{"address": "10.0.0.1/24"}] * 1025}, "1025 ips"),
        ({"dns": {"nameservers": [1]}}, "not a list of strings"),
    ],
)
def test_nonsense_is_refused_with_its_place(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ResultError, match=reason):
        status({**NEW, **change})


ADDRESSES = st.one_of(st.ip_addresses(v=4).map(lambda ip: f"{ip}/24"), st.ip_addresses(v=6).map(lambda ip: f"{ip}/64"))


@given(st.lists(ADDRESSES, min_size=1, max_size=6), st.sampled_from(VERSIONS[2:]), st.sampled_from(VERSIONS[2:]))
def test_conversion_between_list_forms_loses_nothing(addresses: list[str], one: str, other: str) -> None:
    raw = convert_result({"cniVersion": "1.0.0", "ips": [{"address": address} for address in addresses]}, one)
    assert convert_result(convert_result(raw, other), one) == raw
    assert status(raw).ips == tuple(dict.fromkeys(address.split("/")[0] for address in addresses))


@given(
    st.dictionaries(
        st.sampled_from(["cniVersion", "ips", "ip4", "interfaces", "routes", "dns"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.sampled_from(VERSIONS) | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["address", "interface", "ip", "name", "dst"]), inner, max_size=3)
            ),
        ),
    ),
    st.sampled_from(VERSIONS),
)
def test_any_object_is_a_result_or_the_error(raw: dict[str, Any], version: str) -> None:
    for call in (lambda: status(raw), lambda: json.dumps(convert_result(raw, version))):
        with contextlib.suppress(ResultError):
            call()
