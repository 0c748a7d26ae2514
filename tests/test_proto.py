"""The CRI messages are the wire's, and the generated code is that of the sources."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

from cri_dockerd_py._generated.runtime_v1 import api_pb2

REPOSITORY = Path(__file__).resolve().parent.parent
REFERENCE = REPOSITORY / "proto" / "reference" / "cri.binpb"


def reference_file() -> descriptor_pb2.FileDescriptorProto:
    """Return the description of the wire that all CRI programs agree on."""
    files = descriptor_pb2.FileDescriptorSet.FromString(REFERENCE.read_bytes()).file
    assert [file.package for file in files] == ["runtime.v1"]
    return files[0]


def our_file() -> descriptor_pb2.FileDescriptorProto:
    """Return the description that the generated module carries."""
    described = descriptor_pb2.FileDescriptorProto()
    api_pb2.DESCRIPTOR.CopyToProto(described)
    return described


def wire_only(described: Message) -> str:
    """Return the description's text without options and JSON names, which are not on the wire."""
    for field, value in described.ListFields():
        if field.name in ("options", "json_name"):
            described.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for nested in value:
                wire_only(nested)
    return str(described)


def by_name(items: Iterable[Message]) -> dict[str, str]:
    """Return {name: text of the description}, so that a difference shows by itself."""
    return {item.name: wire_only(item) for item in items}  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["message_type", "enum_type", "service"])
def test_descriptors_equal_the_reference(kind: str) -> None:
    reference, ours = reference_file(), our_file()
    assert ours.package == reference.package
    assert ours.syntax == reference.syntax
    assert by_name(getattr(ours, kind)) == by_name(getattr(reference, kind))
    assert len(getattr(ours, kind)) > 0


def test_generated_code_is_current() -> None:
    check = subprocess.run(
        [sys.executable, str(REPOSITORY / "proto" / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert check.returncode == 0, f"run `make proto`:\n{check.stdout}{check.stderr}"
