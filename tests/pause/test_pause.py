"""The pause binary does its three jobs, its source still builds it, and its image is always the same one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.pause.image import PAUSE_IMAGE_NAME, pause_image, pause_image_tar
from tests.engines import DockerEngine
from tests.processes import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
CHECKED_IN = REPOSITORY / "cri_dockerd_py" / "pause"
ELF_MACHINES = {"amd64": 62, "arm64": 183}


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("x86_64-linux-gnu-gcc") is None:
        pytest.skip("no C compiler")
    output = tmp_path_factory.mktemp("pause")
    subprocess.run(["make", "-C", REPOSITORY / "packaging/pause", "amd64", f"OUTPUT={output}"], check=True)
    return output / "pause-amd64"


@pytest.fixture(params=["checked in", "rebuilt"])
def pause_binary(request: pytest.FixtureRequest) -> Path:
    if platform.machine() != "x86_64":
        pytest.skip("the amd64 binary does not run here")
    return CHECKED_IN / "pause-amd64" if request.param == "checked in" else request.getfixturevalue("rebuilt")


@contextlib.contextmanager
def running(*unshare: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in new namespaces; whatever happens, it ends with the block."""
    with subprocess.Popen(["unshare", "--fork", "--kill-child", *unshare]) as outer:
        try:
            yield outer
        finally:
            outer.kill()


@pytest.mark.parametrize("arch", sorted(ELF_MACHINES))
def test_binaries_are_small_static_programs(arch: str) -> None:
    binary = (CHECKED_IN / f"pause-{arch}").read_bytes()
    assert binary[:5] == b"\x7fELF\x02"
    assert int.from_bytes(binary[18:20], "little") == ELF_MACHINES[arch]
    assert len(binary) < 20_000
    assert b"ld-linux" not in binary


def test_checked_in_binary_is_of_the_same_code(rebuilt: Path) -> None:
    def text_of(path: Path) -> bytes:
        copy = subprocess.run(["objcopy", "-O", "binary", "-j", ".text", path, "/dev/stdout"], capture_output=True)
        return copy.stdout

    assert text_of(CHECKED_IN / "pause-amd64") == text_of(rebuilt)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_once_as_pid_1(pause_binary: Path, number: signal.Signals) -> None:
    with running("--pid", pause_binary) as outer:
        pause = _only_child(outer.pid, pause_binary)
        os.kill(pause, number)
        assert outer.wait(timeout=2) == 0


def test_reaps_orphans_as_pid_1(pause_binary: Path) -> None:
    with running("--pid", "--mount-proc", pause_binary) as outer:
        pause = _only_child(outer.pid, pause_binary)
        enter = ["nsenter", "--target", str(pause), "--pid", "--mount"]
        # Each inner shell dies before its child, which is then an orphan for PID 1.
        for _ in range(20):
            subprocess.run([*enter, "sh", "-c", "sh -c 'sleep 0.01 & exit'"], check=True)
        wait_until(lambda: not _children(pause), "every orphan being reaped", 5)
        os.kill(pause, signal.SIGTERM)
        outer.wait(timeout=2)


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_image_is_the_same_every_time(arch: str) -> None:
    first = pause_image_tar(arch)
    pause_image.cache_clear()
    assert pause_image_tar(arch) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        index = json.load(archive.extractfile("manifest.json"))[0]
        config = json.load(archive.extractfile(index["Config"]))
    assert index["RepoTags"] == [PAUSE_IMAGE_NAME]
    assert config["architecture"] == arch
    assert config["config"] == {"Entrypoint": ["/pause"], "User": "65535:65535"}


def test_unknown_architecture_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="pod_infra_container_image"):
        pause_image_tar("s390x")


def test_engine_loads_and_runs_the_image(docker_engine: DockerEngine) -> None:
    docker_engine.client.api.load_image(pause_image_tar(platform.machine()))
    container = docker_engine.client.containers.run(
        PAUSE_IMAGE_NAME, network_mode="none", read_only=True, cap_drop=["ALL"], detach=True
    )
    container.reload()
    assert container.status == "running"
    status = Path(f"/proc/{container.attrs['State']['Pid']}/status").read_text()
    assert "Uid:\t65535" in status
    container.stop(timeout=30)
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0
    container.remove()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _only_child(pid: int, program: Path) -> int:
    """Wait until the only child of `pid` runs `program` and waits for signals; return its id."""
    wait_until(lambda: any(_waits(child, program) for child in _children(pid)), f"{program} under {pid}", 5)
    return _children(pid)[0]


def _waits(pid: int, program: Path) -> bool:
    process = Path(f"/proc/{pid}")
    return os.path.samefile(process / "exe", program) and process.joinpath("syscall").read_text().split()[0] == "128"
