"""What Exec, Attach and PortForward answer; what is behind their URLs has tests of its own."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import grpc
import pytest

from tests.behaviour.client import Container, Cri, Pod, refused

_NO_CODE = pytest.mark.differs_from_containerd("it refuses an empty id without a code")
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT


def urls(cri: Cri, container: Container) -> dict[str, str]:
    """Return a URL of each kind by its first path element."""
    return {
        "exec": cri("Exec", container_id=container.id, cmd=["cat"], stdin=True, stdout=True).url,
        "attach": cri("Attach", container_id=container.id, stdout=True, stderr=True).url,
        "portforward": cri("PortForward", pod_sandbox_id=container.pod.id).url,
    }


@pytest.mark.behaviour("STR-01", "STR-02", "STR-03", "STR-04", "STR-05", "STR-09", "STR-10", "PFW-01")
def test_urls_can_be_dialled_and_carry_all_in_the_path(cri: Cri, container: Container) -> None:
    first, second = urls(cri, container), urls(cri, container)
    for kind, url in first.items():
        parts = urlsplit(url)
        assert parts.scheme in ("http", "https")
        assert parts.hostname in ("127.0.0.1", "::1", "localhost")
        assert parts.port
        assert not parts.query
        prefix, _, token = parts.path.removeprefix("/").rpartition("/")
        assert prefix.endswith(kind)
        assert len(token) >= 8
        assert url != second[kind]


@pytest.mark.behaviour("PFW-01")
def test_port_forward_takes_ports_or_none(cri: Cri, pod: Pod) -> None:
    assert cri("PortForward", pod_sandbox_id=pod.id, port=[80, 443]).url
    assert cri("PortForward", pod_sandbox_id=pod.id).url


@pytest.mark.behaviour("EXE-01", "EXE-02", "EXE-03")
@pytest.mark.parametrize(
    ("method", "fields"),
    [
        pytest.param("Exec", {"container_id": "", "cmd": ["true"], "stdout": True}, marks=_NO_CODE),
        pytest.param("Attach", {"container_id": "", "stdout": True}, marks=_NO_CODE),
        pytest.param("PortForward", {"pod_sandbox_id": ""}, marks=_NO_CODE),
        ("Exec", {"cmd": ["true"]}),
        ("Attach", {}),
        ("Exec", {"cmd": ["true"], "tty": True, "stdout": True, "stderr": True}),
        ("Attach", {"tty": True, "stdout": True, "stderr": True}),
    ],
)
def test_invalid_requests(cri: Cri, container: Container, method: str, fields: dict[str, object]) -> None:
    arguments = fields if method == "PortForward" else {"container_id": container.id, **fields}
    with refused(INVALID_ARGUMENT):
        cri(method, **arguments)


@pytest.mark.behaviour("EXE-04", "IDM-10")
@pytest.mark.parametrize("method", ["Exec", "Attach"])
@pytest.mark.parametrize("state", ["created", "exited"])
def test_what_does_not_run_is_refused(cri: Cri, pod: Pod, method: str, state: str) -> None:
    container = pod.create("true") if state == "created" else pod.run("true")
    fields = {"cmd": ["true"]} if method == "Exec" else {}
    with refused():
        cri(method, container_id=container.id, stdout=True, **fields)


@pytest.mark.behaviour("EXE-06")
def test_port_forward_to_a_stopped_pod_is_refused(cri: Cri) -> None:
    pod = cri.run_pod()
    pod.stop()
    with refused():
        cri("PortForward", pod_sandbox_id=pod.id)
    pod.remove()


@pytest.mark.behaviour("STR-01")
def test_nothing_runs_before_the_url_is_used(cri: Cri, container: Container) -> None:
    cri("Exec", container_id=container.id, cmd=["touch", "/tmp/ran"], stdout=True)
    assert container.exec("test", "-e", "/tmp/ran").exit_code == 1


@pytest.mark.behaviour("STR-05", "STR-06", "STR-07")
@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_plain_requests_and_unknown_tokens_are_refused(cri: Cri, container: Container, verb: str) -> None:
    for kind, url in urls(cri, container).items():
        parts = urlsplit(url)
        for path, codes in ((parts.path, range(400, 500)), (f"/{kind}/abcdefgh", (404,)), ("/", (404,))):
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
            connection.request(verb, path)
            assert connection.getresponse().status in codes, path
            connection.close()


@pytest.mark.behaviour("STR-05")
def test_token_of_another_kind_is_unknown(cri: Cri, container: Container) -> None:
    parts = urlsplit(urls(cri, container)["exec"])
    headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("POST", parts.path.replace("/exec/", "/attach/"), headers=headers)
    assert connection.getresponse().status == 404
    connection.close()
