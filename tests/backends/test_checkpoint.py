"""Checkpoint files: golden checksums of both writers, and what happens to damaged ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.backends.docker.checkpoint import (
    Checkpoint,
    CheckpointFiles,
    CorruptCheckpointError,
    checksum,
    decode_checkpoint,
    encode_checkpoint,
)
from cri_dockerd_py.model.sandbox import PortMapping, Protocol

ID = "ab" * 32
TCP = PortMapping(Protocol.TCP, 80, 8080)
UDP = PortMapping(Protocol.UDP, 53, 5353, "10.0.0.1")


def _entry(protocol: str, container: int, host: int, **more: str) -> dict[str, Any]:
    return {"protocol": protocol, "container_port": container, "host_port": host, **more}


@pytest.mark.parametrize(
    ("data", "cri_dockerd", "dockershim"),
    [
        ({"host_network": True}, 12315789, 996107268),
        ({}, 2305795928, 815459779),
        ({"port_mappings": [_entry("tcp", 80, 8080)]}, 3712672205, 928727533),
        (
            {"port_mappings": [_entry("tcp", 80, 8080), _entry("udp", 53, 5353, host_ip="10.0.0.1")]},
            1848510787,
            4261403130,
        ),
    ],
)
def test_checksums_are_those_of_the_two_writers(data: dict[str, Any], cri_dockerd: int, dockershim: int) -> None:
    assert checksum(data, "core", "config") == cri_dockerd
    assert checksum(data, "dockershim", "dockershim") == dockershim


def test_written_file_is_what_cri_dockerd_writes() -> None:
    assert encode_checkpoint(Checkpoint("web-0", "prod", (TCP,))) == (
        b'{"version":"v1","name":"web-0","namespace":"prod","data":{"port_mappings":[{"protocol":"tcp",'
        b'"container_port":80,"host_port":8080}]},"checksum":3712672205}'
    )


def test_dockershims_file_is_read() -> None:
    content = b'{"version":"v1","name":"a","namespace":"b","data":{"host_network":true},"checksum":996107268}'
    assert decode_checkpoint(content) == Checkpoint("a", "b", (), True)


@given(
    st.text(max_size=20),
    st.lists(
        st.builds(
            PortMapping,
            st.sampled_from(Protocol),
            st.integers(0, 65535),
            st.integers(0, 65535),
            st.sampled_from(["", "::1", "10.1.2.3"]),
        ),
        max_size=4,
    ),
    st.booleans(),
)
def test_what_is_written_is_read_back(name: str, ports: list[PortMapping], host_network: bool) -> None:
    checkpoint = Checkpoint(name, "ns", tuple(ports), host_network)
    assert decode_checkpoint(encode_checkpoint(checkpoint)) == checkpoint


@given(st.binary(max_size=200))
def test_rubbish_is_corrupt(content: bytes) -> None:
    with pytest.raises(CorruptCheckpointError):
        decode_checkpoint(content)


@pytest.mark.parametrize("data", ["[]", "null", '{"port_mappings":[{"host_port":"x"}]}', '{"port_mappings":5}', "{}"])
def test_wrong_shapes_are_corrupt(data: str) -> None:
    with pytest.raises(CorruptCheckpointError):
        decode_checkpoint(b'{"name":"a","namespace":"b","data":%s,"checksum":1}' % data.encode())


def test_files_of_several_directories(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    files = CheckpointFiles([ours, theirs])
    assert files.ids() == frozenset()
    theirs.mkdir()
    other = "cd" * 32
    (theirs / other).write_bytes(b'{"version":"v1","name":"a","namespace":"b","data":{},"checksum":815459779}')
    files.write(ID, Checkpoint("web", "prod", (TCP, UDP)))
    assert files.ids() == {ID, other}
    assert [path.name for path in ours.iterdir()] == [ID]
    assert (ours / ID).stat().st_mode & 0o777 == 0o600
    read = files.read(ID)
    assert read is not None
    assert read[0] == Checkpoint("web", "prod", (TCP, UDP))
    assert files.read(other) is not None
    for sandbox_id in (ID, other, "ef" * 32):
        files.remove(sandbox_id)
    assert files.ids() == frozenset()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / ID).mkdir()
    with pytest.raises(IsADirectoryError):
        CheckpointFiles([tmp_path]).write(ID, Checkpoint("web", "prod"))
    assert [path.name for path in tmp_path.iterdir()] == [ID]


def test_what_killed_writes_have_left_is_removed(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    old, new, other = f".{ID}", f".{'cd' * 32}", ".no key"
    for directory in (ours, theirs):
        directory.mkdir()
        for name in (old, new, other):
            (directory / name).touch()
        for name in (old, other):
            os.utime(directory / name, (1, 1))
    files = CheckpointFiles([ours, theirs])
    assert files.ids() == frozenset()
    assert {path.name for path in ours.iterdir()} == {new, other}
    assert {path.name for path in theirs.iterdir()} == {old, new, other}, "others write there in their own way"
    files.remove(new[1:])
    assert [path.name for path in ours.iterdir()] == [other]


def test_corrupt_file_is_as_good_as_none(tmp_path: Path) -> None:
    files = CheckpointFiles([tmp_path])
    (tmp_path / ID).write_bytes(b"{}")
    assert files.read(ID) is None


def test_hostile_id_never_leaves_the_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        CheckpointFiles([tmp_path]).remove("../etc/passwd")
