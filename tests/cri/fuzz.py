"""Random messages, valid and not, of every request type; for the edge alone and for a whole service.

`fuzz_round` needs a channel and nothing else. It fails when an RPC does not answer in time, answers with a fault of the
server's own (Internal, or what grpc makes of an exception), or when the server no longer answers Version afterwards.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py._generated.runtime_v1 import api_pb2_grpc as cri_grpc

PACKAGES = ("runtime.v1", "runtime.v1alpha2")
#: Go on until the client leaves, so they are only opened and left.
ENDLESS = frozenset({"GetContainerEvents"})
FAULTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE})

_LOOK_AROUND_EVERY = 25
_serial = itertools.count()
_NOBODY = "0" * 64
_CHOICES = st.integers(0, 99)
_INTEGERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 100, 1000, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63)]),
    st.integers(-(2**63), 2**64 - 1),
)
_LONG = st.sampled_from([64, 107, 254, 5000, 300_000]).map(lambda length: "x" * length)
# fmt: off
_HOSTILE = st.sampled_from([
    "", " ", "\0", "a\0b", ".", "..", "/", "//", "../../etc/passwd", "/etc/../../x", "a/b", "-rm", "%s%n", "\n",
    "a\nb: c", "\x1b[31m", "\u202e", "ü" * 200, "$(reboot)", "a b", "*", "{", "0", "-1", "sha256:", "@sha256:x", ":",
    "http://x", "sha256:" + "0" * 64, "\U0001f600",
])
_PLAUSIBLE = st.sampled_from([
    "web", "default", "a" * 64, "busybox", "docker.io/library/busybox:latest", "/var/log/pods/x", "app/0.log", "ALL",
    "runtime/default", "unconfined", "localhost/x", "localhost//x", "0-3", "2MB", "rwm", "NET_ADMIN", "10.0.0.1",
    "10.1.0.0/16", "fd00::1", "net.core.somaxconn", "kernel.sem", "memory.high", "crun", "nobody", "s0:c1,c2",
    "vendor.com/class=name", "dXNlcjpwYXNz", "true", "/bin/sh", "/tmp", "cri-test-no-such-image",
])
# fmt: on


class Known:
    """Ids of what the server has. Choices are made by number, so that they do not depend on what there is just now."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._runtime = cri_grpc.RuntimeServiceStub(channel)
        self._images = cri_grpc.ImageServiceStub(channel)
        self.look_around()

    def look_around(self) -> None:
        """Ask what there is now."""
        pods = self._runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=30)
        containers = self._runtime.ListContainers(cri.ListContainersRequest(), timeout=30)
        images = self._images.ListImages(cri.ListImagesRequest(), timeout=30)
        self.sandboxes = [item.id for item in pods.items] or [_NOBODY]
        self.containers = [item.id for item in containers.containers] or [_NOBODY]
        self.images = [item.id for item in images.images] or ["busybox"]

    def ids(self) -> st.SearchStrategy[str]:
        """Return whole ids and prefixes, of pods and containers (an image's id could remove it)."""
        return st.tuples(_CHOICES, st.booleans()).map(lambda choice: self._id(*choice))

    def _id(self, number: int, whole: bool) -> str:
        found = [*self.sandboxes, *self.containers]
        chosen: str = found[number % len(found)]
        return chosen if whole else chosen[:13]


def fuzz_round(
    channel: grpc.Channel,
    seed_number: int,
    n: int,
    *,
    without: Collection[str] = (),
    deadline_s: float = 30.0,
) -> None:
    """Send `n` messages, derived from the seed, to the RPCs of both services, apart from those named in `without`.

    They have their effects: pods come and go, and RemoveImage and CheckpointContainer may meet what others still need.
    """
    methods = [method for method in all_methods() if method.name not in without]
    faults: list[str] = []
    sent = itertools.count()
    known = Known(channel)

    @seed(seed_number)
    @settings(max_examples=n, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def send(data: st.DataObject) -> None:
        if next(sent) % _LOOK_AROUND_EVERY == 0:
            known.look_around()
        method = data.draw(st.sampled_from(methods))
        raw = data.draw(requests(method.input_type, known))
        code, details = call(channel, method, data.draw(st.sampled_from(PACKAGES)), raw, deadline_s)
        if code in FAULTS or "Unexpected <class" in details:
            faults.append(f"{method.name}({raw[:300]!r}) answered {code.name}: {details[:300]}")

    send()
    assert not faults, "\n".join(faults[:10])
    cri_grpc.RuntimeServiceStub(channel).Version(cri.VersionRequest(), timeout=deadline_s)


def all_methods() -> list[MethodDescriptor]:
    """Return the methods of both services."""
    return [method for service in cri.DESCRIPTOR.services_by_name.values() for method in service.methods]


def call(
    channel: grpc.Channel, method: MethodDescriptor, package: str, raw: bytes, deadline_s: float
) -> tuple[grpc.StatusCode, str]:
    """Send raw bytes and return the answer's code and text; an endless stream is opened and left."""
    path = f"/{package}.{method.containing_service.name}/{method.name}"
    untyped: Any = channel
    try:
        if method.name in ENDLESS:
            untyped.unary_stream(path)(raw).cancel()
        elif method.server_streaming:
            for message in untyped.unary_stream(path)(raw, timeout=deadline_s):
                reply_type(method).FromString(message)
        else:
            reply_type(method).FromString(untyped.unary_unary(path)(raw, timeout=deadline_s))
    except grpc.RpcError as error:
        failed: Any = error
        return failed.code(), failed.details() or ""
    return grpc.StatusCode.OK, ""


def reply_type(method: MethodDescriptor) -> type[Message]:
    """Return the class of a method's replies."""
    return GetMessageClass(method.output_type)


@st.composite
def requests(draw: st.DrawFn, descriptor: Descriptor, known: Known) -> bytes:
    """Return encoded requests: sound ones with no or a few fields changed, random ones, damaged ones, mere bytes."""
    texts = st.one_of(_PLAUSIBLE, known.ids(), _HOSTILE, _LONG, st.text(max_size=20))
    built = _Messages(texts)
    changed = changed_requests(descriptor, known, built)
    kind = draw(st.integers(0, 9))
    if kind < 6:
        return draw(changed)
    whole = built.of(descriptor).map(lambda message: message.SerializeToString())
    return draw((whole, damaged(whole), damaged(changed), st.binary(max_size=200))[kind - 6])


@st.composite
def changed_requests(draw: st.DrawFn, descriptor: Descriptor, known: Known, built: _Messages) -> bytes:
    """Return a sound request, with up to three fields set to something else or added to."""
    message = sound_request(draw, descriptor, known)
    for _ in range(draw(st.integers(0, 3))):
        message.MergeFrom(draw(built.one_leaf(descriptor)))
    return message.SerializeToString()


def sound_request(draw: st.DrawFn, descriptor: Descriptor, known: Known) -> Message:
    """Return a request that a server should be able to do."""
    name = f"{os.getpid():x}-{next(_serial)}"
    number = draw(_CHOICES)
    spec = cri.ImageSpec(image=known.images[number % len(known.images)])
    pod = cri.PodSandboxConfig(metadata=cri.PodSandboxMetadata(name=f"fuzz-{name}", uid=name, namespace="cri-test"))
    container = cri.ContainerConfig(metadata=cri.ContainerMetadata(name="fuzz"), image=spec, command=["true"])
    values: Mapping[str, Any] = {
        "config": pod if descriptor.name == "RunPodSandboxRequest" else container,
        "pod_sandbox_id": known.sandboxes[number % len(known.sandboxes)],
        "container_id": known.containers[number % len(known.containers)],
        "image": cri.ImageSpec(image="cri-test-no-such-image") if descriptor.name == "RemoveImageRequest" else spec,
        "cmd": ["true"],
        "timeout": 1,
        "location": f"/tmp/cri-test-{name}.tar",
        "stdout": True,
    }
    kind = GetMessageClass(descriptor)
    return kind(**{field.name: values[field.name] for field in descriptor.fields if field.name in values})


class _Messages:
    """Builds strategies from descriptors, one for each message type."""

    def __init__(self, texts: st.SearchStrategy[str]) -> None:
        self._texts = texts
        self._known: dict[str, st.SearchStrategy[Message]] = {}

    def of(self, descriptor: Descriptor) -> st.SearchStrategy[Message]:
        """Return messages of this type."""
        if descriptor.full_name not in self._known:
            kind = GetMessageClass(descriptor)
            fields = {field.name: self._field(field) for field in descriptor.fields}
            chosen = st.fixed_dictionaries({}, optional=fields)
            self._known[descriptor.full_name] = chosen.map(lambda values: kind(**values))
        return self._known[descriptor.full_name]

    def one_leaf(self, descriptor: Descriptor) -> st.SearchStrategy[Message]:
        """Return messages of this type in which one field is set, however deep."""
        kind = GetMessageClass(descriptor)
        if not descriptor.fields:
            return st.just(kind())
        return st.sampled_from(list(descriptor.fields)).flatmap(
            lambda field: self._leaf(field).map(lambda value: kind(**{field.name: value}))
        )

    def _leaf(self, field: FieldDescriptor) -> st.SearchStrategy[Any]:
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            return self._field(field)
        inner = self.one_leaf(field.message_type)
        return st.lists(inner, max_size=2) if field.is_repeated else inner

    def _field(self, field: FieldDescriptor) -> st.SearchStrategy[Any]:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return st.dictionaries(self._texts, self._texts, max_size=3)
        value = self._value(field)
        return st.lists(value, max_size=3) if field.is_repeated else value

    def _value(self, field: FieldDescriptor) -> st.SearchStrategy[Any]:
        if field.message_type is not None:
            return self.of(field.message_type)
        return self._scalars()[field.cpp_type](field)

    def _scalars(self) -> dict[int, Callable[[FieldDescriptor], st.SearchStrategy[Any]]]:
        return {
            FieldDescriptor.CPPTYPE_STRING: self._text,
            FieldDescriptor.CPPTYPE_BOOL: lambda _: st.booleans(),
            FieldDescriptor.CPPTYPE_ENUM: lambda field: st.sampled_from(
                [*field.enum_type.values_by_number, -1, 99, 2**31 - 1]
            ),
            FieldDescriptor.CPPTYPE_INT32: lambda _: _within(-(2**31), 2**31 - 1),
            FieldDescriptor.CPPTYPE_UINT32: lambda _: _within(0, 2**32 - 1),
            FieldDescriptor.CPPTYPE_INT64: lambda _: _within(-(2**63), 2**63 - 1),
            FieldDescriptor.CPPTYPE_UINT64: lambda _: _within(0, 2**64 - 1),
            FieldDescriptor.CPPTYPE_DOUBLE: lambda _: st.floats(),
        }

    def _text(self, field: FieldDescriptor) -> st.SearchStrategy[Any]:
        return self._texts if field.type == FieldDescriptor.TYPE_STRING else st.binary(max_size=20)


def _within(low: int, high: int) -> st.SearchStrategy[int]:
    return _INTEGERS.filter(lambda value: low <= value <= high)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Return a message with some bytes changed (which also makes text that is no UTF-8), cut, or said twice."""
    raw = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        if raw:
            raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(raw)))
    return bytes(raw[:cut] + raw) if draw(st.booleans()) else bytes(raw[:cut])
