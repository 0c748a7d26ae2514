"""The pod's network: DNS files, addresses, host ports."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Cri, Pod, eventually, host_pids
from tests.cni import CniNetwork, free_host_port

SERVE = "mkdir -p /www && echo served >/www/index.html && exec httpd -f -p {port} -h /www"


def fetch(host: str, port: int) -> bytes:
    """Return the first page of an HTTP server, or nothing when none answers."""
    connection = http.client.HTTPConnection(host, port, timeout=3)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/index.html")
        return connection.getresponse().read()
    return b""


@pytest.mark.behaviour("NET-01", "NET-03")
def test_dns_settings_are_written_in_order(new_pod: Callable[..., Pod]) -> None:
    dns = pb.DNSConfig(
        servers=["10.10.10.10", "10.10.10.11"],
        searches=["google.com", "svc.cluster.local"],
        options=["ndots:8", "edns0"],
    )
    pod = new_pod(dns_config=dns)
    wanted = [
        "nameserver 10.10.10.10",
        "nameserver 10.10.10.11",
        "search google.com svc.cluster.local",
        "options ndots:8 edns0",
    ]
    for _ in range(2):
        text = pod.start().sh("cat /etc/resolv.conf")
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        assert sorted(lines, key=lambda line: line.split()[0]) == sorted(wanted, key=lambda line: line.split()[0])
        assert lines.index(wanted[0]) < lines.index(wanted[1])


@pytest.mark.behaviour("NET-02")
def test_hosts_dns_settings_are_the_default(pod: Pod) -> None:
    def meaningful(text: str) -> list[str]:
        return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]

    assert meaningful(pod.start().sh("cat /etc/resolv.conf")) == meaningful(Path("/etc/resolv.conf").read_text())


@pytest.mark.behaviour("NET-02")
def test_empty_dns_settings_give_an_empty_file(new_pod: Callable[..., Pod]) -> None:
    text = new_pod(dns_config=pb.DNSConfig()).start().sh("cat /etc/resolv.conf")
    assert not [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.behaviour("NET-03", "MNT-05")
def test_callers_files_win_over_the_runtimes(pod: Pod, host_directory: Path) -> None:
    paths = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"]
    mounts = []
    for path in paths:
        source = host_directory / Path(path).name
        source.write_text(f"mine: {path}\n")
        mounts.append(pb.Mount(container_path=path, host_path=str(source)))
    container = pod.start(mounts=mounts)
    for path in paths:
        assert container.sh(f"cat {path}") == f"mine: {path}"


@pytest.mark.behaviour("NET-04")
def test_hosts_file_knows_localhost(pod: Pod, host_pod: Pod) -> None:
    assert "localhost" in pod.start().sh("cat /etc/hosts")
    assert "localhost" in host_pod.start().sh("cat /etc/hosts")


@pytest.mark.behaviour("NET-09", "NET-10", "NET-11", "NSP-05")
def test_pod_is_reachable_from_the_host_and_from_another_pod(pod: Pod, new_pod: Callable[..., Pod]) -> None:
    pod.start("sh", "-c", SERVE.format(port=80))
    network = pod.status().network
    for address in [network.ip, *(item.ip for item in network.additional_ips)]:
        ip_address(address)
    assert eventually(lambda: fetch(network.ip, 80), bool, "a page") == b"served\n"
    assert new_pod().start().sh(f"wget -q -O - http://{network.ip}/index.html") == "served"
    assert network.ip in pod.start().sh("ip addr show eth0")


@pytest.mark.behaviour("NET-05", "NET-06", "NET-08")
def test_host_port_reaches_the_pod_and_is_free_after_its_stop(new_pod: Callable[..., Pod]) -> None:
    port = free_host_port()
    mappings = [pb.PortMapping(container_port=80, host_port=port), pb.PortMapping(container_port=9090)]
    for _ in range(2):
        pod = new_pod(port_mappings=mappings)
        pod.start("sh", "-c", SERVE.format(port=80))
        assert eventually(lambda: fetch("127.0.0.1", port), bool, "a page over loopback") == b"served\n"
        pod.stop()
        assert fetch("127.0.0.1", port) == b""
        rules = subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True, check=True).stdout
        assert not re.search(rf"\b{port}\b", rules)


@pytest.mark.behaviour("NET-06")
def test_one_port_can_be_mapped_for_two_protocols_and_addresses(new_pod: Callable[..., Pod]) -> None:
    port = free_host_port()
    pod = new_pod(
        port_mappings=[
            pb.PortMapping(container_port=80, host_port=port, host_ip="127.0.0.1"),
            pb.PortMapping(container_port=53, host_port=port, protocol=pb.UDP),
        ]
    )
    container = pod.start("sh", "-c", SERVE.format(port=80))
    assert eventually(lambda: fetch("127.0.0.1", port), bool, "a page") == b"served\n"
    with udp_echo(host_pids(container.id)[0], 53):
        assert eventually(lambda: ping_udp("127.0.0.1", port), bool, "an answer over UDP") == b"ping"


ECHO = """
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", {port}))
while True:
    udp.sendto(*udp.recvfrom(100))
"""


@contextlib.contextmanager
def udp_echo(pid: int, port: int) -> Iterator[None]:
    """Answer UDP in the network namespace of a process."""
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", ECHO.format(port=port)]
    with subprocess.Popen(command) as server:
        try:
            yield
        finally:
            server.kill()


def ping_udp(host: str, port: int) -> bytes:
    """Send a datagram and return the answer, or nothing when none comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, contextlib.suppress(OSError):
        udp.settimeout(0.5)
        udp.connect((host, port))
        udp.send(b"ping")
        return udp.recv(100)
    return b""


@pytest.mark.behaviour("NET-08", "RUN-06")
def test_address_and_host_port_are_given_back_when_a_run_fails(cri: Cri, network: CniNetwork) -> None:
    before = network.leases()
    port = free_host_port()
    config = cri.pod_config(
        port_mappings=[pb.PortMapping(container_port=80, host_port=port)],
        linux=pb.LinuxPodSandboxConfig(sysctls={"net.ipv4.no_such_setting": "1"}),
    )
    with contextlib.suppress(grpc.RpcError):
        cri.run_pod(config)
    assert config.metadata.uid not in {item.metadata.uid for item in cri.pods()}
    assert network.leases() == before


@pytest.mark.behaviour("NET-13", "STP-01", "STP-04")
@pytest.mark.parametrize("loss", ["none", "process", "network namespace"])
def test_address_is_given_back_by_stop(cri: Cri, network: CniNetwork, loss: str) -> None:
    pod = cri.run_pod()
    address = pod.ip()
    assert address in network.leases()
    if loss == "process":
        for pid in host_pids(pod.id):
            os.kill(pid, signal.SIGKILL)
    if loss == "network namespace":
        for pid in host_pids(pod.id):
            os.kill(pid, signal.SIGKILL)
        lost = [path for path in Path("/run/netns").iterdir() if _holds(path, address)]
        assert lost
        for path in lost:
            subprocess.run(["umount", str(path)], check=True)
            path.unlink()
    pod.stop()
    assert address not in network.leases()
    cri("RemovePodSandbox", pod_sandbox_id=pod.id)
    assert address not in network.leases()


def _holds(netns: Path, address: str) -> bool:
    command = ["nsenter", f"--net={netns}", "ip", "-o", "addr"]
    return f" {address}/" in subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.behaviour("NET-13", "RUN-17")
def test_nothing_is_leaked_over_many_pods(cri: Cri, network: CniNetwork) -> None:
    leases, ports = network.leases(), _bridge_ports(network)
    for _ in range(8):
        cri.run_pod().remove()
    assert network.leases() == leases
    assert _bridge_ports(network) == ports


def _bridge_ports(network: CniNetwork) -> list[str]:
    return sorted(path.name for path in Path(f"/sys/class/net/{network.bridge}/brif").iterdir())
