"""The manifests of a cluster's migration: what kubectl makes of them, and what they give to the agent."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cri_dockerd_py.cli.main import command_parser
from cri_dockerd_py.settings import Settings
from tests.streaming.kubectl import kubectl

FOLDER = Path(__file__).resolve().parents[2] / "packaging" / "kubernetes"
NAME = "cri-dockerd-py-migrate"


@pytest.fixture(scope="module")
def rendered() -> list[dict[str, Any]]:
    """All objects, as `kubectl apply -k` would send them."""
    done = subprocess.run(
        [kubectl("kubectl-new"), "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def agent(rendered: list[dict[str, Any]]) -> dict[str, Any]:
    """The agent's container."""
    (container,) = one(rendered, "DaemonSet")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [item for item in objects if item["kind"] == kind]
    return found


def test_every_manifest_is_rendered(rendered: list[dict[str, Any]]) -> None:
    kinds = [item["kind"] for item in rendered]
    bindings = ["ClusterRoleBinding", "RoleBinding"]
    assert sorted(kinds) == sorted(["Namespace", "ServiceAccount", "ClusterRole", "Role", "DaemonSet", *bindings])
    assert one(rendered, "Namespace")["metadata"]["name"] == "cri-dockerd-py"


def test_the_agent_may_do_no_more_than_it_does(rendered: list[dict[str, Any]]) -> None:
    granted = {
        (rule["apiGroups"][0], resource, verb)
        for kind in ("ClusterRole", "Role")
        for rule in one(rendered, kind)["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {("", "pods", "list"), ("", "nodes", "patch"), ("", "events", "create")}


def test_roles_are_bound_to_the_agents_account(rendered: list[dict[str, Any]]) -> None:
    assert one(rendered, "ServiceAccount")["metadata"]["name"] == NAME
    assert one(rendered, "DaemonSet")["spec"]["template"]["spec"]["serviceAccountName"] == NAME
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        binding = one(rendered, kind)
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": "cri-dockerd-py"}]
        assert binding["roleRef"]["name"] == NAME
    assert one(rendered, "Role")["metadata"]["namespace"] == "default", "kustomize must not move the events' role"


def test_nodes_take_turns(rendered: list[dict[str, Any]]) -> None:
    spec = one(rendered, "DaemonSet")["spec"]
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_the_agent_has_no_power_but_its_user(agent: dict[str, Any]) -> None:
    context = agent["securityContext"]
    assert (context["runAsUser"], context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (
        0,
        False,
        True,
    )
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_agent_s_command_line_is_one(agent: dict[str, Any]) -> None:
    values = {variable["name"]: variable.get("value", "") for variable in agent["env"]}
    words = [*agent["command"][1:], *agent["args"]]
    for name, value in values.items():
        words = [word.replace(f"$({name})", value) for word in words]
    arguments = command_parser(words).parse_args(words)
    assert (arguments.to, arguments.max_unavailable) == ("", 1)
    assert agent["readinessProbe"]["exec"]["command"] == ["test", "-e", str(arguments.ready_file)]


def test_the_recipe_makes_the_image_that_the_manifest_runs(agent: dict[str, Any]) -> None:
    lines = (FOLDER / "Containerfile").read_text().splitlines()
    steps = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    python = re.fullmatch(r"docker\.io/library/python:(\d+)\.(\d+)-slim-\w+", steps["FROM"])
    assert python is not None
    assert (int(python[1]), int(python[2])) >= _oldest_python()
    assert json.loads(steps["CMD"]) == agent["command"]
    assert agent["command"][0] in _project()["scripts"]
    name = f"cri-dockerd-py-agent:{_project()['version']}"
    assert agent["image"] == name
    assert f"#   docker build -f packaging/kubernetes/Containerfile -t {name} build/wheel" in lines
    assert f"/{name} " in (FOLDER / "README.md").read_text()


def _project() -> dict[str, Any]:
    return dict(tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"])


def _oldest_python() -> tuple[int, ...]:
    return tuple(int(part) for part in _project()["requires-python"].removeprefix(">=").split("."))


def test_the_mounted_directory_has_the_socket(rendered: list[dict[str, Any]], agent: dict[str, Any]) -> None:
    volumes = {volume["name"]: volume for volume in one(rendered, "DaemonSet")["spec"]["template"]["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in agent["volumeMounts"]}
    directory = str(Settings().admin_socket.parent)
    assert (volumes["admin"]["hostPath"]["path"], mounts["admin"]) == (directory, directory)
    assert f"--admin-endpoint=unix://{Settings().admin_socket}" in agent["args"]


@pytest.mark.parametrize("release", ["kubectl-1.20", "kubectl-new"])
def test_the_target_is_set_as_documented(release: str) -> None:
    command = [
        str(kubectl(release)),
        "set",
        "env",
        "--local",
        "-f",
        str(FOLDER / "daemonset.yaml"),
        "TARGET=containerd",
    ]
    done = subprocess.run([*command, "-o", "json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (container,) = json.loads(done.stdout)["spec"]["template"]["spec"]["containers"]
    assert {"name": "TARGET", "value": "containerd"} in container["env"]
    assert "TARGET=containerd" in (FOLDER / "README.md").read_text()
