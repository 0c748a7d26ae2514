"""The demo as a user runs it: it succeeds and leaves nothing, or it says what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from tests.cri_server import PROGRAM, CriClient, CriServer


def demo(socket: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "demo", f"--container-runtime-endpoint={socket}"], capture_output=True, text=True, timeout=120
    )


def test_the_demo_shows_every_step_and_leaves_nothing(cri_server: CriServer, client: CriClient) -> None:
    before = client.runtime.ListPodSandbox(cri.ListPodSandboxRequest())
    images_before = client.images.ListImages(cri.ListImagesRequest())
    done = demo(cri_server.socket)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello from pod demo" in done.stdout
    assert "10." in done.stdout
    assert "exit code 0" in done.stdout
    assert "FAIL" not in done.stdout
    assert client.runtime.ListPodSandbox(cri.ListPodSandboxRequest()) == before
    assert {i.id for i in client.images.ListImages(cri.ListImagesRequest()).images} == {
        i.id for i in images_before.images
    }


def test_the_demo_tells_how_to_start_the_service(tmp_path: Path) -> None:
    done = demo(tmp_path / "none.sock")
    assert done.returncode == 1
    assert "make serve" in done.stderr
