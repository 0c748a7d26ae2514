"""Processes of containers, and of execs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cri_dockerd_py.backends.cdi.edits import CdiEdits
from cri_dockerd_py.backends.containerd.oci.capabilities import DEFAULT
from cri_dockerd_py.backends.containerd.oci.facts import DeviceNode
from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig
from cri_dockerd_py.backends.containerd.oci.process import exec_process
from cri_dockerd_py.backends.users import ResolvedUser
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import (
    ContainerSecurity,
    IdMapping,
    NamespaceMode,
    UserNamespace,
)
from tests.backends.containerd.oci.values import (
    CONTAINER,
    IMAGE,
    OWN_PID,
    container,
    container_document,
)

IDS = (IdMapping(100_000, 0, 65_536),)
OTHER_IDS = (IdMapping(200_000, 0, 65_536),)
USERNS = UserNamespace(NamespaceMode.POD, IDS, IDS)
DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "access": "rwm"}
NULL = DeviceNode("/dev/null", "c", 1, 3, 0o600, 5, 6)
MINE = DeviceNode("/dev/mine", "b", 8, 0, 0o660, 0, 6, "r")


def secured(**fields: Any) -> ContainerSecurity:
    """Return a security context with a pid namespace of its own."""
    return ContainerSecurity(**{"namespaces": OWN_PID, **fields})


def test_plain_container() -> None:
    document = container_document(user=ResolvedUser(1000, 1001, (7, 5)))
    json.dumps(document)
    assert document["root"] == {"path": "rootfs", "readonly": False}
    process = document["process"]
    assert process["args"] == ["/entry", "arg"]
    assert process["cwd"] == "/srv"
    assert process["terminal"] is False
    assert process["noNewPrivileges"] is False
    assert process["oomScoreAdj"] == 0
    assert process["user"] == {"uid": 1000, "gid": 1001, "additionalGids": [5, 7, 1001]}
    assert set(process["capabilities"]["bounding"]) == DEFAULT
    assert {"rlimits", "apparmorProfile", "selinuxLabel"}.isdisjoint(process)
    linux = document["linux"]
    assert linux["cgroupsPath"] == f"/k8s.io/{CONTAINER}"
    assert linux["resources"] == {"devices": [DENY_ALL]}
    assert linux["maskedPaths"] == linux["readonlyPaths"] == linux["devices"] == []
    assert {"seccomp", "sysctl", "rootfsPropagation", "mountLabel"}.isdisjoint(linux)
    assert {"hostname", "hooks"}.isdisjoint(document)


@pytest.mark.behaviour("CRE-08")
@pytest.mark.parametrize(
    ("entrypoint", "cmd", "command", "args", "line"),
    [
        (("/e",), ("c",), (), (), ["/e", "c"]),
        (("/e",), ("c",), (), ("a",), ["/e", "a"]),
        (("/e",), ("c",), ("x",), (), ["x"]),
        (("/e",), ("c",), ("x", "y"), ("a",), ["x", "y", "a"]),
        ((), ("c",), (), (), ["c"]),
        (("",), ("c",), (), (), ["c"]),
        (("", "b"), (), (), (), ["", "b"]),
        ((), (), (), ("a",), ["a"]),
    ],
)
def test_command_line(
    entrypoint: tuple[str, ...], cmd: tuple[str, ...], command: tuple[str, ...], args: tuple[str, ...], line: list[str]
) -> None:
    image = ImageConfig(entrypoint=entrypoint, cmd=cmd)
    assert container_document(container(command=command, args=args), image=image)["process"]["args"] == line


@pytest.mark.behaviour("CRE-08")
@pytest.mark.parametrize("entrypoint", [(), ("",)])
def test_no_command_at_all_is_refused(entrypoint: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match="command"):
        container_document(image=ImageConfig(entrypoint=entrypoint))


@pytest.mark.behaviour("CRE-10")
@pytest.mark.parametrize(
    ("asked", "of_image", "cwd"),
    [("/a", "/b", "/a"), ("", "/b", "/b"), ("", "", "/"), ("", "rel", "/rel"), ("rel/x", "/b", "/rel/x")],
)
def test_working_directory(asked: str, of_image: str, cwd: str) -> None:
    document = container_document(container(working_dir=asked), image=replace(IMAGE, working_dir=of_image))
    assert document["process"]["cwd"] == cwd


@pytest.mark.behaviour("CRE-11", "RUN-09")
def test_environment() -> None:
    image = replace(IMAGE, env=("LANG=C", "LANG=D", "=nameless", "GONE=1", "GONE", "FROM=image"))
    envs = (("FROM", "request"), ("TWICE", "1"), ("TWICE", "2"), ("ODD", "a=b\nü"), ("EMPTY", ""), ("DEV", "all"))
    edits = CdiEdits(env=("DEV=one",))
    document = container_document(container(envs=envs, tty=True), image=image, hostname="web-0", cdi=edits)
    assert document["process"]["env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TERM=xterm",
        "HOSTNAME=web-0",
        "LANG=D",
        "FROM=request",
        "TWICE=2",
        "ODD=a=b\nü",
        "EMPTY=",
        "DEV=one",
    ]
    plain = container_document(image=IMAGE)["process"]["env"]
    assert plain == ["PATH=/bin", "HOSTNAME=node-1", "LANG=C"]


@pytest.mark.behaviour("CRE-11")
@pytest.mark.parametrize("env", [("A", "b\0c"), ("A\0", "b"), ("A", "\udcff"), ("", "b"), ("A=B", "c")])
def test_environment_that_cannot_be_is_refused(env: tuple[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="environment variable"):
        container_document(container(envs=(env,)))


@pytest.mark.behaviour("USR-06", "CAP-05")
def test_process_of_an_exec_is_the_containers_with_another_command() -> None:
    document = container_document(container(secured(no_new_privs=True)), user=ResolvedUser(7, 8))
    process = {**document["process"], "consoleSize": {"height": 1, "width": 1}, "terminal": True}
    before = json.dumps(process)
    plain = exec_process(process, ["ls", "-l"], tty=False)
    assert json.dumps(process) == before
    assert plain == {**document["process"], "args": ["ls", "-l"], "terminal": False}
    with_tty = exec_process(process, ["sh"], tty=True)
    assert with_tty["terminal"] is True
    assert with_tty["env"] == [*document["process"]["env"], "TERM=xterm"]
    own = exec_process({**process, "env": ["TERM=vt100"]}, ["sh"], tty=True)
    assert own["env"] == ["TERM=vt100"]
