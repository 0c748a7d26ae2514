"""The pod network with the reference plugins: real bridges, addresses and rules, and nothing left of them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cri_dockerd_py.errors import Unknown
from cri_dockerd_py.model.sandbox import PortMapping, Protocol
from cri_dockerd_py.network.netns import NetnsDir, is_netns
from cri_dockerd_py.network.netns_inspect import read_addresses, read_counters
from cri_dockerd_py.network.pod_network import CniSettings, PodNetwork
from cri_dockerd_py.network.pod_request import PodNetworkRequest
from tests.cni import PLUGIN_DIRECTORIES, CniNetwork, free_host_port
from tests.network import crashing_setup
from tests.processes import wait_until

BANDWIDTH = {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"}


@pytest.fixture(params=[False, True], ids=["ipv4", "dual"])
def cni(request: pytest.FixtureRequest) -> Iterator[CniNetwork]:
    network = CniNetwork(dual_stack=request.param)
    yield network
    network.close()


@pytest.fixture
def settings(cni: CniNetwork, tmp_path: Path) -> CniSettings:
    places = (str(cni.conf_dir), tuple(PLUGIN_DIRECTORIES), cni.cache_dir)
    return CniSettings(*places, lock_dir=tmp_path / "locks", timeout=60.0)


@pytest.fixture
async def network(settings: CniSettings, netns_dir: NetnsDir) -> PodNetwork:
    network = PodNetwork(settings, netns_dir)
    await network.start()
    assert network.status() == (True, "", "")
    return network


@pytest.fixture
async def request_(netns_dir: NetnsDir, sandbox_id: str) -> PodNetworkRequest:
    path = await netns_dir.create(sandbox_id)
    return PodNetworkRequest(sandbox_id, "web", "prod", "u-1", str(path))


def rules(text: str) -> list[str]:
    """Return the firewall rules of both families that mention `text`."""
    found = []
    for command in ("iptables-save", "ip6tables-save"):
        output = subprocess.run([command], capture_output=True, text=True, check=True).stdout
        found += [line for line in output.splitlines() if text in line]
    return found


def entries(path: Path) -> list[str]:
    """Return the names in a directory that need not be there."""
    return os.listdir(path) if path.exists() else []


def ports_of(cni: CniNetwork) -> list[str]:
    """Return the interfaces on the network's bridge."""
    return entries(Path(f"/sys/class/net/{cni.bridge}/brif"))


async def serve(netns_dir: NetnsDir, request: PodNetworkRequest, port: int) -> socket.socket:
    assert request.netns_path is not None
    address = ("::", port)
    return await netns_dir.inside(
        request.netns_path,
        lambda: socket.create_server(address, family=socket.AF_INET6, dualstack_ipv6=True),
    )


async def reach(host: str, port: int, listener: socket.socket) -> None:
    """Connect from the host and see the connection arrive at the pod's listener."""
    listener.settimeout(10)
    client = await asyncio.to_thread(socket.create_connection, (host, port), 10)
    accepted, _peer = await asyncio.to_thread(listener.accept)
    with client, accepted:
        accepted.sendall(b"hello")
        assert await asyncio.to_thread(client.recv, 5) == b"hello"


@pytest.mark.behaviour("NET-09", "NET-10", "NET-13")
async def test_a_pod_gets_addresses_and_gives_them_back(
    network: PodNetwork, cni: CniNetwork, netns_dir: NetnsDir, request_: PodNetworkRequest
) -> None:
    status = await network.setup(request_)
    assert request_.netns_path is not None
    inside = await netns_dir.inside(request_.netns_path, read_addresses)
    assert {item.address for item in inside if item.interface == "eth0" and item.is_global} == set(status.ips)
    assert [":" in ip for ip in status.ips] == [":" in subnet for subnet in cni.subnets]
    assert sorted(cni.leases()) == sorted(status.ips)
    assert set(await netns_dir.inside(request_.netns_path, read_counters)) == {"lo", "eth0"}
    with await serve(netns_dir, request_, 8000) as listener:
        for ip in status.ips:
            await reach(ip, 8000, listener)
    await network.check(request_)
    await network.teardown(request_)
    assert cni.leases() == ports_of(cni) == []
    assert [item.interface for item in await netns_dir.inside(request_.netns_path, read_addresses)] == ["lo", "lo"]


@pytest.mark.behaviour("NET-06", "NET-08", "NET-13")
async def test_a_host_port_reaches_the_pod_until_it_goes(
    network: PodNetwork, netns_dir: NetnsDir, request_: PodNetworkRequest
) -> None:
    port = free_host_port()
    request = replace(request_, port_mappings=(PortMapping(Protocol.TCP, 8000, port), PortMapping(Protocol.TCP, 81)))
    status = await network.setup(request)
    with await serve(netns_dir, request, 8000) as listener:
        await reach("127.0.0.1", port, listener)
    assert rules(f"--dport {port} ")
    await network.teardown(PodNetworkRequest(request.sandbox_id))
    for ip in status.ips:
        assert rules(f"{ip}") == []
    assert rules(request.sandbox_id) == rules(f"--dport {port} ") == []
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port), 5)


@pytest.mark.behaviour("NET-13")
async def test_masquerading_goes_with_the_pod(
    network: PodNetwork, cni: CniNetwork, request_: PodNetworkRequest
) -> None:
    text = cni.conflist()
    plugins = text["plugins"]
    assert isinstance(plugins, list)
    plugins[0]["ipMasq"] = True
    cni.write_conflist("10-test.conflist", text)
    await network.setup(request_)
    assert rules(request_.sandbox_id)
    await network.teardown(request_)
    assert rules(request_.sandbox_id) == []


@pytest.mark.behaviour("NET-13")
async def test_nothing_is_kept_when_the_namespace_was_deleted(
    network: PodNetwork, cni: CniNetwork, netns_dir: NetnsDir, request_: PodNetworkRequest
) -> None:
    port = free_host_port()
    await network.setup(replace(request_, port_mappings=(PortMapping(Protocol.TCP, 80, port),)))
    await netns_dir.remove(request_.sandbox_id)
    await asyncio.to_thread(wait_until, lambda: not ports_of(cni), "the kernel taking the interface away")
    await network.teardown(request_)
    assert cni.leases() == rules(request_.sandbox_id) == rules(f"--dport {port} ") == []


async def test_bandwidth_and_tuning_in_the_chain(
    network: PodNetwork, cni: CniNetwork, netns_dir: NetnsDir, request_: PodNetworkRequest
) -> None:
    chained: list[dict[str, object]] = [
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}},
    ]
    cni.write_conflist("10-test.conflist", cni.conflist(plugins=chained))
    await network.setup(replace(request_, annotations=BANDWIDTH))
    assert request_.netns_path is not None
    shown = subprocess.run(
        ["nsenter", f"--net={request_.netns_path}", "cat", "/proc/sys/net/ipv4/conf/eth0/arp_filter"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "1\n"
    (port,) = ports_of(cni)
    shaped = subprocess.run(["tc", "qdisc", "show", "dev", port], capture_output=True, text=True, check=True).stdout
    assert "tbf" in shaped
    assert "rate 10Mbit" in shaped
    before = {name for name in os.listdir("/sys/class/net") if name.startswith("bwp")}
    await network.teardown(request_)
    assert len({name for name in os.listdir("/sys/class/net") if name.startswith("bwp")}) < len(before)
    assert cni.leases() == []


@pytest.mark.parametrize("cni", [False], indirect=True)
@pytest.mark.parametrize("delay", [0.0, 0.004, 0.008, 0.012, 0.02, 0.03, 0.045])
async def test_cancelled_at_any_moment_nothing_is_kept(
    network: PodNetwork, cni: CniNetwork, netns_dir: NetnsDir, request_: PodNetworkRequest, delay: float
) -> None:
    port = free_host_port()
    request = replace(request_, port_mappings=(PortMapping(Protocol.TCP, 80, port),))
    async with asyncio.TaskGroup() as group:
        job = group.create_task(network.setup(request))
        await asyncio.sleep(delay)
        job.cancel()
    await network.teardown(request)
    await netns_dir.remove(request.sandbox_id)
    assert cni.leases() == rules(request.sandbox_id) == rules(f"--dport {port} ") == []
    assert netns_dir.names() == []
    await asyncio.to_thread(wait_until, lambda: not ports_of(cni), "the kernel taking the interface away")


@pytest.mark.parametrize("cni", [False], indirect=True)
@pytest.mark.parametrize("delay", [0.0, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06])
async def test_killed_at_any_moment_the_next_start_clears_up(
    network: PodNetwork,
    cni: CniNetwork,
    netns_dir: NetnsDir,
    instance: str,
    settings: CniSettings,
    sandbox_id: str,
    delay: float,
) -> None:
    port = free_host_port()
    with crashing_setup.start(instance, settings, sandbox_id, port) as service:
        assert service.stdout is not None
        assert await asyncio.to_thread(service.stdout.readline) == b"attaching\n"
        await asyncio.sleep(delay)
        service.kill()
    await network.start()
    assert await network.sweep(lambda _: False) == [sandbox_id]
    assert cni.leases() == rules(sandbox_id) == rules(f"--dport {port} ") == []
    assert netns_dir.names() == entries(cni.cache_dir / "results") == entries(settings.lock_dir) == []
    await asyncio.to_thread(wait_until, lambda: not ports_of(cni), "the kernel taking the interface away")


@pytest.mark.parametrize("cni", [False], indirect=True)
async def test_a_failing_link_of_the_chain_keeps_nothing(
    network: PodNetwork, cni: CniNetwork, request_: PodNetworkRequest
) -> None:
    broken: list[dict[str, object]] = [{"type": "tuning", "sysctl": {"net.ipv4.no_such_thing": "1"}}]
    cni.write_conflist("10-test.conflist", cni.conflist(plugins=broken))
    with pytest.raises(Unknown, match="plugin tuning failed ADD"):
        await network.setup(replace(request_, port_mappings=(PortMapping(Protocol.TCP, 80, free_host_port()),)))
    assert cni.leases() == rules(request_.sandbox_id) == ports_of(cni) == []
    assert list((cni.cache_dir / "results").iterdir()) == []


@pytest.mark.parametrize("cni", [False], indirect=True)
async def test_the_namespace_of_a_process_of_cri_dockerds(
    network: PodNetwork, cni: CniNetwork, sandbox_id: str
) -> None:
    """Attached by way of /proc, as cri-dockerd does; the process is killed before the teardown."""
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo up; exec sleep 60"], stdout=subprocess.PIPE) as pause:
        assert pause.stdout is not None
        pause.stdout.readline()
        path = f"/proc/{pause.pid}/ns/net"
        request = PodNetworkRequest(sandbox_id, "web", "prod", "u-1", path)
        status = await network.setup(request)
        lo = subprocess.run(["nsenter", f"--net={path}", "ip", "-o", "link", "show", "lo"], capture_output=True)
        assert b"LOOPBACK,UP" in lo.stdout
        pause.kill()
    assert not is_netns(path)
    assert cni.leases() == list(status.ips)
    await network.teardown(request)
    assert cni.leases() == []


@pytest.mark.parametrize("cni", [False], indirect=True)
async def test_old_versions_of_the_specification(
    network: PodNetwork, cni: CniNetwork, request_: PodNetworkRequest
) -> None:
    ipam = {"type": "host-local", "dataDir": str(cni.ipam_dir), "subnet": cni.subnet}
    bridge = {"type": "bridge", "bridge": cni.bridge, "isGateway": True, "ipam": ipam}
    for version in ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0"):
        (cni.conf_dir / "10-test.conflist").unlink(missing_ok=True)
        cni.write_conflist("10-test.conf", {"cniVersion": version, "name": "old", **bridge})
        status = await network.setup(request_)
        assert cni.leases() == list(status.ips)
        assert status.raw_result["cniVersion"] == version
        cached = network.cached_status(request_.sandbox_id)
        assert cached is not None
        assert cached.ips == status.ips
        await network.teardown(request_)
        assert cni.leases() == []
