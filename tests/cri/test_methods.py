"""Errors, limits, cancellation and observation, the same for every RPC."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest

from cri_dockerd_py import errors
from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py.cri.methods import REQUEST_ID
from cri_dockerd_py.model.container import ContainerMetadata, ContainerSpec, ImageSpec
from tests.cri.calls import CallBook
from tests.cri.conftest import Edge, sandbox_config

STOP = "/runtime.v1.RuntimeService/StopPodSandbox"


class Derived(errors.NotFound):
    """A class that no table knows."""


async def refusal(edge: Edge, error: BaseException) -> grpc.aio.AioRpcError:
    """Return what a client gets to see of an error in core."""
    edge.node.gate.error = error
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id="x"))
    return caught.value


async def codes_told(calls: CallBook, method: str) -> list[str]:
    """Return the codes of a method's calls; a client may have its answer a moment before the observer."""
    series = calls.by_method[method]
    async with asyncio.timeout(10):
        while True:
            if not series.in_flight:
                return series.codes
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidArgument("text"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFound("text"), grpc.StatusCode.NOT_FOUND),
        (errors.AlreadyExists("text"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.FailedPrecondition("text"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.ResourceExhausted("text"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Unavailable("text"), grpc.StatusCode.UNAVAILABLE),
        (errors.DeadlineExceeded("text"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.Unimplemented("text"), grpc.StatusCode.UNIMPLEMENTED),
        (errors.PermissionDenied("text"), grpc.StatusCode.PERMISSION_DENIED),
        (errors.Unknown("text"), grpc.StatusCode.UNKNOWN),
        (errors.Internal("text"), grpc.StatusCode.INTERNAL),
        (errors.CriError("text"), grpc.StatusCode.UNKNOWN),
        (Derived("text"), grpc.StatusCode.NOT_FOUND),
        (ExceptionGroup("group", [errors.NotFound("text"), errors.Unavailable("other")]), grpc.StatusCode.NOT_FOUND),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_each_error_has_its_code(edge: Edge, error: BaseException, code: grpc.StatusCode) -> None:
    seen = await refusal(edge, error)

    assert (seen.code(), seen.details()) == (code, "text")


@pytest.mark.parametrize(
    "error", [KeyError("secret"), ExceptionGroup("group", [errors.NotFound("text"), KeyError("secret")])]
)
async def test_a_fault_of_ours_is_internal_and_told_to_the_log(
    edge: Edge, calls: CallBook, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    ids: list[str] = []
    caplog.handler.addFilter(lambda _: ids.append(REQUEST_ID.get()) or True)  # type: ignore[func-returns-value]
    seen = await refusal(edge, error)

    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert seen.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(seen.details())
    assert str(seen.details()).endswith(ids[-1])
    assert ids[-1]
    assert record.exc_info is not None
    assert await codes_told(calls, "StopPodSandbox") == ["INTERNAL"]


async def test_a_failed_call_has_one_line_in_the_log(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    error = errors.Unavailable("engine away\nINFO forged")
    error.__cause__ = ConnectionRefusedError("refused")
    await refusal(edge, error)

    [record] = [record for record in caplog.records if record.name.startswith("cri_dockerd_py.cri.methods")]
    assert record.levelno == logging.WARNING
    fields = vars(record)["fields"]
    assert (record.getMessage(), fields["method"], fields["code"]) == ("RPC failed", "StopPodSandbox", "UNAVAILABLE")
    assert fields["duration_ms"] >= 0
    assert fields["cause"] == "Unavailable: engine away\\nINFO forged ← ConnectionRefusedError: refused"


@pytest.mark.parametrize("text", ["x" * 100_000, "ü%\n" * 20_000, "\udc80\0", ""], ids=("long", "wide", "odd", "empty"))
async def test_any_text_gets_through(edge: Edge, text: str) -> None:
    seen = await refusal(edge, errors.Unknown(text))

    details = str(seen.details())
    assert seen.code() is grpc.StatusCode.UNKNOWN
    assert details == {"": "Unknown", "\udc80\0": "\\udc80\0"}.get(text, details)
    assert details[:1000] == text[:1000] or len(text) < 3
    assert len(details) < 6200


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x02\xc3\x28", b"\x0a\x7f", b"\x00" * 9])
async def test_a_message_that_is_none_is_refused(edge: Edge, raw: bytes) -> None:
    call = edge.raw.unary_unary(STOP)(raw)

    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "StopPodSandboxRequest" in await call.details()


@pytest.mark.behaviour("GEN-13", "GEN-14")
async def test_cancellation_reaches_core(edge: Edge, calls: CallBook) -> None:
    edge.node.gate.open.clear()
    call = edge.runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=sandbox_config()))
    waiting = asyncio.ensure_future(call.code())
    await edge.node.gate.waiting.wait()
    await edge.runtime.ListPodSandbox(cri.ListPodSandboxRequest())  # is not held up
    assert calls.by_method["RunPodSandbox"].in_flight == 1
    call.cancel()
    assert await waiting is grpc.StatusCode.CANCELLED
    while calls.by_method["RunPodSandbox"].in_flight:
        await edge.runtime.Version(cri.VersionRequest())

    assert edge.node.gate.cancelled == 1
    assert await codes_told(calls, "RunPodSandbox") == ["CANCELLED"]
    assert not edge.node.inventory.sandboxes


async def test_work_that_is_given_up_inside_has_an_answer(edge: Edge, calls: CallBook) -> None:
    seen = await refusal(edge, asyncio.CancelledError())

    assert seen.code() is grpc.StatusCode.UNAVAILABLE
    assert await codes_told(calls, "StopPodSandbox") == ["UNAVAILABLE"]


async def test_a_deadline_cancels_too(edge: Edge) -> None:
    edge.node.gate.open.clear()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=sandbox_config()), timeout=0.5)
    while not edge.node.gate.cancelled:
        await edge.runtime.Version(cri.VersionRequest())

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_calls_are_observed(edge: Edge, calls: CallBook) -> None:
    await edge.runtime.Version(cri.VersionRequest())
    stream = edge.runtime.StreamPodSandboxes(cri.StreamPodSandboxesRequest())
    assert [message async for message in stream] == []
    with pytest.raises(grpc.aio.AioRpcError):
        await edge.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id="ab"))

    assert await codes_told(calls, "Version") == ["OK"]
    assert await codes_told(calls, "StreamPodSandboxes") == ["OK"]
    assert await codes_told(calls, "ContainerStatus") == ["NOT_FOUND"]
    assert not any(series.in_flight for series in calls.by_method.values())


@pytest.mark.behaviour("GEN-03", "GEN-04")
async def test_large_lists(edge: Edge) -> None:
    annotations = {"note": "x" * (255 << 10)}
    for index in range(62):
        await edge.run_pod(f"pod-{index}", annotations=annotations)
    whole = await edge.runtime.ListPodSandbox(cri.ListPodSandboxRequest())
    for index in range(62, 70):
        await edge.run_pod(f"pod-{index}", annotations=annotations)
    stream = edge.runtime.StreamPodSandboxes(cri.StreamPodSandboxesRequest())
    messages = [message async for message in stream]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.runtime.ListPodSandbox(cri.ListPodSandboxRequest())

    assert whole.ByteSize() > 15 << 20
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "streaming" in str(caught.value.details())
    assert max(message.ByteSize() for message in messages) <= 1 << 20
    assert len({item.id for message in messages for item in message.pod_sandboxes}) == 70


@pytest.mark.behaviour("GEN-03")
async def test_large_requests(edge: Edge) -> None:
    codes = []
    for size in (15 << 20, 17 << 20):
        request = cri.StopPodSandboxRequest(pod_sandbox_id="a" * size)
        codes.append(await edge.raw.unary_unary(STOP)(request.SerializeToString()).code())

    assert codes == [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED]


async def test_nothing_is_listed_before_it_is_known(edge: Edge) -> None:
    edge.node.inventory.known = False
    calls = (
        edge.runtime.ListPodSandbox(cri.ListPodSandboxRequest()),
        edge.runtime.ListContainers(cri.ListContainersRequest()),
        edge.images.ListImages(cri.ListImagesRequest()),
    )
    for call in calls:
        assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_slow_subscriber_is_told_so(edge: Edge, calls: CallBook) -> None:
    stream = edge.runtime.GetContainerEvents(cri.GetEventsRequest())
    while not calls.by_method["GetContainerEvents"].in_flight:
        await edge.runtime.Version(cri.VersionRequest())
    annotations = {"note": "x" * (100 << 10)}  # the client reads nothing, so the stream's window fills
    pod_id = await edge.run_pod(annotations=annotations)
    spec = ContainerSpec(ContainerMetadata("app"), ImageSpec("busybox"))
    for _ in range(2500):
        container_id = await edge.node.containers.create(pod_id, spec)
        await edge.node.containers.remove(container_id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stream:
            pass

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_client_that_leaves_a_stream_is_no_fault(
    edge: Edge, calls: CallBook, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(40):
        await edge.run_pod(f"pod-{index}", annotations={"note": "x" * (255 << 10)})
    for reads in (0, 1, 2, 5) * 5:
        stream = edge.runtime.StreamPodSandboxes(cri.StreamPodSandboxesRequest())
        for _ in range(reads):
            await stream.read()
        stream.cancel()
    async with asyncio.timeout(10):
        while calls.by_method["StreamPodSandboxes"].in_flight:
            await edge.runtime.Version(cri.VersionRequest())

    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
