"""The engines: whether they answer, which versions they are, and how they are set up."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import docker

from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.daemon_state import DaemonFacts, DaemonState
from cri_dockerd_py.backends.containerd.runtimes import Runtimes
from cri_dockerd_py.doctor.cgroups import compare_drivers, enable_controllers
from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning
from cri_dockerd_py.doctor.mends import set_in_docker, upgrade
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.model.node import CgroupDriver, EngineInfo

AREA = "engines"
_ANSWER_WITHIN_S = 10
_OLDEST_DOCKER = (20, 10)
_OLDEST_CONTAINERD = (1, 6)
_LIVE_RESTORE = 'd["live-restore"] = True'
_CONTAINERD_CONFIG = "/etc/containerd/config.toml"
_CRI_PLUGINS = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images")


def check_engines(patient: Patient) -> Iterable[Finding]:
    """Look at each engine that the settings name, and at what they must agree upon."""
    backend = patient.settings.backend
    drivers: dict[str, str] = {}
    answering = 0
    if backend != "containerd":
        info = docker_info(patient)
        answering += info is not None
        yield from check_docker(patient, info, needed=backend in ("docker", "both"))
        if info is not None:
            drivers["Docker"] = str(info.get("CgroupDriver"))
    if backend != "docker":
        facts = containerd_facts(patient)
        answering += facts is not None
        yield from check_containerd(patient, facts, needed=backend in ("containerd", "both"))
        if facts is not None:
            drivers["containerd"] = facts[1].cgroup_driver.value
    if backend == "auto" and not answering:
        yield failure(
            AREA,
            f"no engine answers, neither at {patient.settings.docker_endpoint} nor at "
            f"{patient.settings.containerd_endpoint}",
            "no pod can be started",
            "systemctl start docker || systemctl start containerd  # or name a socket with docker_endpoint or "
            "containerd_endpoint",
        )
    yield from compare_drivers(patient, drivers)


def docker_info(patient: Patient) -> dict[str, Any] | None:
    """Return what Docker says of itself, None when it does not answer."""
    try:
        client = docker.DockerClient(base_url=patient.settings.docker_endpoint, timeout=_ANSWER_WITHIN_S)
        try:
            return dict(client.info())
        finally:
            client.close()
    except (docker.errors.DockerException, OSError):
        return None


def check_docker(patient: Patient, info: dict[str, Any] | None, *, needed: bool) -> Iterable[Finding]:
    """Look at what Docker says of itself, if it does; one that is not needed may be silent."""
    if info is None:
        if needed:
            yield _silent("Docker Engine", patient.settings.docker_endpoint, "docker")
        return
    version = str(info.get("ServerVersion"))
    yield _version(patient, "Docker Engine", version, _OLDEST_DOCKER, ("docker-ce", "docker.io"))
    if not info.get("LiveRestoreEnabled"):
        yield warning(
            AREA,
            "Docker's live-restore is off",
            "every pod on Docker stops when Docker is restarted or upgraded",
            f"{set_in_docker(_LIVE_RESTORE)} && systemctl reload docker",
        )
    for text in info.get("Warnings") or ():
        if "limit" in text and "kernel memory" not in text:
            why = "limits of that kind in pods are not kept"
            kind = next((kind for kind in ("swap", "memory", "pids") if kind in text.lower()), "cpu")
            yield warning(AREA, f"Docker says: {text}", why, enable_controllers(patient, [kind]))


def containerd_facts(patient: Patient) -> tuple[DaemonFacts, EngineInfo] | None:
    """Return what is known of containerd when it answers."""
    return asyncio.run(_ask_containerd(patient))


async def _ask_containerd(patient: Patient) -> tuple[DaemonFacts, EngineInfo] | None:
    settings = patient.settings
    client = ContainerdClient(settings.containerd_endpoint, namespace=settings.containerd_namespace)
    driver = None if settings.cgroup_driver == "auto" else CgroupDriver(settings.cgroup_driver)
    runtimes = Runtimes(settings.containerd_runtimes, driver, systemd=patient.exists("/run/systemd/system"))
    state = DaemonState(client, runtimes, settings.containerd_snapshotter)
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            return await state.refresh(), await state.engine_info("containerd")
    except (CriError, TimeoutError):
        return None
    finally:
        await client.close()


def check_containerd(
    patient: Patient, known: tuple[DaemonFacts, EngineInfo] | None, *, needed: bool
) -> Iterable[Finding]:
    """Look at what is known of containerd, if it answers; one that is not needed may be silent."""
    if known is None:
        if needed:
            yield _silent("containerd", patient.settings.containerd_endpoint, "containerd")
        return
    facts, _info = known
    yield _version(patient, "containerd", facts.version, _OLDEST_CONTAINERD, ("containerd.io", "containerd"))
    if facts.plugin_is_enabled:
        yield warning(
            AREA,
            "containerd's own CRI plugin is enabled beside this service",
            "its pods are left to it and not served here; kubelet must talk to one of the two",
            f"{switch_plugin_off(patient, facts.version)} && systemctl restart containerd"
            "  # this service then takes its pods over; kubelet must be pointed at it",
        )


def switch_plugin_off(patient: Patient, version: str) -> str:
    """Return the command that adds the CRI plugin to those which containerd of this version does not load."""
    text = patient.text(_CONTAINERD_CONFIG)
    is_two = not version.startswith("1.")
    names = _CRI_PLUGINS if is_two else _CRI_PLUGINS[:1]
    migrate = ""
    if text and not re.search(r"^version *= *[23]", text, re.MULTILINE):
        if is_two:
            migrate = f"containerd config migrate > {_CONTAINERD_CONFIG}.new && "
            migrate += f"mv {_CONTAINERD_CONFIG}.new {_CONTAINERD_CONFIG} && "
        else:
            names = ("cri",)
    listed = ", ".join(f'"{name}"' for name in names)
    if not text:
        lines = shlex.quote(f"version = 2\\ndisabled_plugins = [{listed}]\\n")
        return f"mkdir -p /etc/containerd && printf {lines} > {_CONTAINERD_CONFIG}"
    has_list = migrate or re.search(r"^ *disabled_plugins *= *\[", text, re.MULTILINE)
    change = rf"s/^ *disabled_plugins *= *\[/&{listed}, /" if has_list else f"1i disabled_plugins = [{listed}]"
    return f"{migrate}sed -i {shlex.quote(change)} {_CONTAINERD_CONFIG}"


def _version(patient: Patient, name: str, version: str, oldest: tuple[int, int], packages: Sequence[str]) -> Finding:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < oldest:
        wanted = ".".join(map(str, oldest))
        package = next((one for one in packages if patient.exists(f"/var/lib/dpkg/info/{one}.list")), packages[0])
        fix = (
            f"{upgrade(patient, package)}  # drain the node first; newer ones: https://docs.docker.com/engine/install/"
        )
        return failure(AREA, f"{name} {version}", f"it lacks what pods need; {wanted} is the oldest", fix)
    return ok(AREA, f"{name} {version}")


def _silent(name: str, endpoint: str, unit: str) -> Finding:
    return failure(
        AREA,
        f"{name} does not answer at {endpoint}",
        "pods on it cannot be started, stopped or removed",
        f"systemctl start {unit} || journalctl -u {unit} -n 50  # or name its socket with {unit}_endpoint",
    )
