"""CDI specs in both formats, and what they ask for."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from cri_dockerd_py.backends.cdi.edits import CdiDeviceNode, CdiEdits, CdiHook, CdiMount
from cri_dockerd_py.backends.cdi.specs import resolve_cdi
from cri_dockerd_py.errors import InvalidArgument

pytestmark = pytest.mark.behaviour("CRE-18")
EDITS = {
    "env": ["GPU=a=b"],
    "deviceNodes": [
        {"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw", "fileMode": 432, "uid": 5, "gid": 6},
        {"path": "/dev/made", "type": "b", "major": 7, "minor": 3},
    ],
    "mounts": [{"hostPath": "/usr/lib/gpu", "containerPath": "/gpu", "options": ["ro", "bind"]}],
    "hooks": [{"hookName": "createContainer", "path": "/bin/h", "args": ["h"], "env": ["A=b"], "timeout": 3}],
    "additionalGids": [44, 0],
}


def spec(devices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a spec document; `devices` maps names to edits."""
    listed = [{"name": name, "containerEdits": edits} for name, edits in devices.items()]
    return {"cdiVersion": "0.6.0", "kind": "v.com/gpu", "devices": listed, **fields}


def write(directory: Path, name: str, document: Any) -> None:
    """Write a spec file in the format of its name."""
    directory.mkdir(exist_ok=True)
    text = json.dumps(document) if name.endswith(".json") else yaml.safe_dump(document)
    (directory / name).write_text(text)


@pytest.mark.parametrize("name", ["gpu.json", "gpu.yaml", "gpu.yml"])
def test_all_edits(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, spec({"0": EDITS}, containerEdits={"env": ["ALL=1"]}))
    assert resolve_cdi(["v.com/gpu=0"], [tmp_path]) == CdiEdits(
        env=("ALL=1", "GPU=a=b"),
        device_nodes=(
            CdiDeviceNode("/dev/gpu0", "/dev/null", "rw", "c", 1, 3, 432, 5, 6),
            CdiDeviceNode("/dev/made", "/dev/made", "rwm", "b", 7, 3),
        ),
        mounts=(CdiMount("/usr/lib/gpu", "/gpu", ("ro", "bind")),),
        hooks=(CdiHook("createContainer", "/bin/h", ("h",), ("A=b",), 3),),
        additional_gids=(44,),
    )


def test_edits_of_the_spec_come_once_for_all_its_devices(tmp_path: Path) -> None:
    common = {"mounts": [{"hostPath": "/lib", "containerPath": "/lib"}]}
    write(tmp_path, "gpu.json", spec({"0": {"env": ["A=0"]}, "1": {"env": ["A=1"]}}, containerEdits=common))
    edits = resolve_cdi(["v.com/gpu=1", "v.com/gpu=0"], [tmp_path])
    assert edits.env == ("A=1", "A=0")
    assert len(edits.mounts) == 1


def test_later_directories_win(tmp_path: Path) -> None:
    first, second = tmp_path / "etc", tmp_path / "run"
    write(first, "gpu.json", spec({"0": {"env": ["A=etc"]}, "1": {"env": ["A=only"]}}))
    write(second, "gpu.yaml", spec({"0": {"env": ["A=run"]}}))
    (first / "notes.txt").write_text("not a spec")
    directories = [first, tmp_path / "missing", second]
    assert resolve_cdi(["v.com/gpu=0", "v.com/gpu=1"], directories).env == ("A=run", "A=only")


@pytest.mark.parametrize("name", ["v.com/gpu=9", "v.com/other=0", "w.com/gpu=0"])
def test_unknown_device_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "gpu.json", spec({"0": {}}))
    with pytest.raises(InvalidArgument, match="is in no file"):
        resolve_cdi([name], [tmp_path])


@pytest.mark.parametrize(
    ("name", "content"), [("x.json", "{"), ("x.yaml", "a: [1"), ("x.yaml", "!!python/name:os.x 1")]
)
def test_unreadable_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidArgument, match="cannot be read"):
        resolve_cdi(["v.com/gpu=0"], [tmp_path])


@pytest.mark.parametrize(
    "edits",
    [
        {"env": ["novalue"]},
        {"env": ["=x"]},
        {"env": "A=b"},
        {"env": [1]},
        {"deviceNodes": [{}]},
        {"deviceNodes": [{"path": "/dev/missing-device"}]},
        {"deviceNodes": [{"path": "/dev/x", "hostPath": "/etc/passwd"}]},
        {"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null", "type": "b"}]},
        {"deviceNodes": [{"path": "/dev/null", "permissions": "rwx"}]},
        {"deviceNodes": [{"path": "/dev/null", "uid": -1}]},
        {"deviceNodes": [{"path": "/dev/null", "uid": "0"}]},
        {"mounts": [{"hostPath": "/x"}]},
        {"mounts": [{"hostPath": "/x", "containerPath": "/y", "options": [1]}]},
        {"hooks": [{"hookName": "atNight", "path": "/x"}]},
        {"hooks": [{"hookName": "prestart"}]},
        {"additionalGids": ["1"]},
        {"intelRdt": {"closID": "x"}},
        {"netDevices": [{"hostInterfaceName": "x"}]},
    ],
)
def test_malformed_edits_are_refused(tmp_path: Path, edits: dict[str, Any]) -> None:
    write(tmp_path, "gpu.json", spec({"0": edits}))
    with pytest.raises(InvalidArgument, match="CDI"):
        resolve_cdi(["v.com/gpu=0"], [tmp_path])


def test_block_device_of_the_host(tmp_path: Path) -> None:
    os.mknod(tmp_path / "disk", 0o600 | stat.S_IFBLK, os.makedev(8, 5))
    write(tmp_path, "gpu.json", spec({"0": {"deviceNodes": [{"path": str(tmp_path / "disk")}]}}))
    (node,) = resolve_cdi(["v.com/gpu=0"], [tmp_path]).device_nodes
    assert (node.type, node.major, node.minor, node.mode, node.uid) == ("b", 8, 5, None, None)
