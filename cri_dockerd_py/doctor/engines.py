"""The engines: whether they answer, which versions they are, and how they are set up."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import docker

from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.daemon_state import DaemonFacts, DaemonState
from cri_dockerd_py.backends.containerd.runtimes import Runtimes
from cri_dockerd_py.doctor.cgroups import compare_drivers
from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.model.node import CgroupDriver, EngineInfo

AREA = "engines"
_ANSWER_WITHIN_S = 10
_OLDEST_DOCKER = (20, 10)
_OLDEST_CONTAINERD = (1, 6)


def check_engines(patient: Patient) -> Iterable[Finding]:
    """Look at each engine that the settings name, and at what they must agree upon."""
    backend = patient.settings.backend
    drivers: dict[str, str] = {}
    answering = 0
    if backend != "containerd":
        info = _docker_info(patient)
        answering += info is not None
        yield from _docker(patient, info, needed=backend in ("docker", "both"))
        if info is not None:
            drivers["Docker"] = str(info.get("CgroupDriver"))
    if backend != "docker":
        facts = _containerd_facts(patient)
        answering += facts is not None
        yield from _containerd(patient, facts, needed=backend in ("containerd", "both"))
        if facts is not None:
            drivers["containerd"] = facts[1].cgroup_driver.value
    if backend == "auto" and not answering:
        yield failure(
            AREA,
            f"no engine answers, neither at {patient.settings.docker_endpoint} nor at "
            f"{patient.settings.containerd_endpoint}",
            "no pod can be started",
            "systemctl start docker, or containerd; or name its socket with docker_endpoint or containerd_endpoint",
        )
    yield from compare_drivers(patient, drivers)


def _docker_info(patient: Patient) -> dict[str, Any] | None:
    try:
        client = docker.DockerClient(base_url=patient.settings.docker_endpoint, timeout=_ANSWER_WITHIN_S)
        try:
            return dict(client.info())
        finally:
            client.close()
    except (docker.errors.DockerException, OSError):
        return None


def _docker(patient: Patient, info: dict[str, Any] | None, *, needed: bool) -> Iterable[Finding]:
    if info is None:
        if needed:
            yield _silent("Docker Engine", patient.settings.docker_endpoint, "docker")
        return
    version = str(info.get("ServerVersion"))
    yield _version("Docker Engine", version, _OLDEST_DOCKER)
    if not info.get("LiveRestoreEnabled"):
        yield warning(
            AREA,
            "Docker's live-restore is off",
            "every pod on Docker stops when Docker is restarted or upgraded",
            'set "live-restore": true in /etc/docker/daemon.json; systemctl reload docker',
        )
    for text in info.get("Warnings") or ():
        if "limit" in text:
            why = "limits of that kind in pods are not kept"
            yield warning(AREA, f"Docker says: {text}", why, "boot with the controller enabled")


def _containerd_facts(patient: Patient) -> tuple[DaemonFacts, EngineInfo] | None:
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


def _containerd(patient: Patient, known: tuple[DaemonFacts, EngineInfo] | None, *, needed: bool) -> Iterable[Finding]:
    if known is None:
        if needed:
            yield _silent("containerd", patient.settings.containerd_endpoint, "containerd")
        return
    facts, _info = known
    yield _version("containerd", facts.version, _OLDEST_CONTAINERD)
    if facts.plugin_is_enabled:
        yield warning(
            AREA,
            "containerd's own CRI plugin is enabled beside this service",
            "its pods are left to it and not served here; kubelet must talk to one of the two",
            "to take its pods over, put io.containerd.grpc.v1.cri (with containerd 2 also io.containerd.cri.v1.runtime "
            "and io.containerd.cri.v1.images) into disabled_plugins of /etc/containerd/config.toml; "
            "systemctl restart containerd",
        )


def _version(name: str, version: str, oldest: tuple[int, int]) -> Finding:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < oldest:
        wanted = ".".join(map(str, oldest))
        return failure(AREA, f"{name} {version}", f"it lacks what pods need; {wanted} is the oldest", "upgrade it")
    return ok(AREA, f"{name} {version}")


def _silent(name: str, endpoint: str, unit: str) -> Finding:
    return failure(
        AREA,
        f"{name} does not answer at {endpoint}",
        "pods on it cannot be started, stopped or removed",
        f"systemctl start {unit}; journalctl -u {unit}; or name its socket with {unit}_endpoint",
    )
