"""The messages of CRI and containerd are the wire's, and the generated code is that of the sources."""

from __future__ import annotations

import importlib
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
CONTAINERD_REFERENCE = REPOSITORY / "proto" / "reference" / "containerd.binpb"
# Of messages that travel as options of other runtimes' shims there is no reference.
CONTAINERD_FILES = sorted(path.stem for path in (REPOSITORY / "proto" / "containerd").glob("*.proto"))
CONTAINERD_FILES.remove("runtime_options")
# Our name → the wire's; a name is not on the wire, and the wire's may belong to another package in one process.
RENAMED = {".containerd.services.introspection.v1.PluginError": ".google.rpc.Status"}


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


def containerd_wire() -> dict[str, descriptor_pb2.DescriptorProto | descriptor_pb2.EnumDescriptorProto]:
    """Return {full name: description} of all messages and enums that containerd's API has."""
    files = descriptor_pb2.FileDescriptorSet.FromString(CONTAINERD_REFERENCE.read_bytes()).file
    return {f".{file.package}.{item.name}": item for file in files for item in (*file.message_type, *file.enum_type)}


@pytest.mark.parametrize("name", CONTAINERD_FILES)
def test_containerd_slice_equals_the_reference(name: str) -> None:
    module = importlib.import_module(f"cri_dockerd_py._generated.containerd_v1.{name}_pb2")
    ours = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(ours)
    wire = containerd_wire()

    for item in (*ours.message_type, *ours.enum_type):
        full_name = f".{ours.package}.{item.name}"
        if full_name in RENAMED:
            full_name = RENAMED[full_name]
            item.name = wire[full_name].name
        text = wire_only(item)
        for our_name, wire_name in RENAMED.items():
            text = text.replace(our_name, wire_name)
        assert text == wire_only(wire[full_name])


@pytest.mark.parametrize("name", CONTAINERD_FILES)
def test_containerd_methods_are_those_of_the_reference(name: str) -> None:
    module = importlib.import_module(f"cri_dockerd_py._generated.containerd_v1.{name}_pb2")
    ours = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(ours)
    files = descriptor_pb2.FileDescriptorSet.FromString(CONTAINERD_REFERENCE.read_bytes()).file
    wire = {f"{file.package}.{service.name}": by_name(service.method) for file in files for service in file.service}

    for service in ours.service:
        assert by_name(service.method).items() <= wire[f"{ours.package}.{service.name}"].items()


def test_generated_code_is_current() -> None:
    check = subprocess.run(
        [sys.executable, str(REPOSITORY / "proto" / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert check.returncode == 0, f"run `make proto`:\n{check.stdout}{check.stderr}"
