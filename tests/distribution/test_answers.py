"""What follows on a registry's answers, and what is said when nothing helps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.distribution.rules.answers import Failure, Patience, Step, Verdict, error_for, judge, text_of
from cri_dockerd_py.distribution.rules.ranges import WrongPart, bytes_to_skip, range_header
from cri_dockerd_py.errors import CriError, NotFound, Unknown


@pytest.mark.parametrize(
    ("status", "method", "step"),
    [
        (200, "GET", Step.USE),
        (206, "GET", Step.USE),
        (401, "HEAD", Step.LOG_IN),
        (403, "HEAD", Step.ASK_WITH_GET),
        (405, "HEAD", Step.ASK_WITH_GET),
        (405, "GET", Step.NEXT_HOST),
        (403, "GET", Step.NEXT_HOST),
        (404, "HEAD", Step.NEXT_HOST),
        (408, "GET", Step.AGAIN),
        (429, "GET", Step.AGAIN),
        (500, "GET", Step.AGAIN),
        (503, "GET", Step.AGAIN),
        (304, "GET", Step.NEXT_HOST),
    ],
)
def test_first_answers(status: int, method: str, step: Step) -> None:
    assert judge(status, method, 1, last_host=True, seen=()).step is step


def test_a_broken_host_is_asked_again_once_if_it_is_the_last() -> None:
    assert judge(503, "GET", 1, last_host=False, seen=()).step is Step.NEXT_HOST
    assert judge(503, "GET", 2, last_host=True, seen={503}).step is Step.NEXT_HOST
    assert judge(500, "GET", 2, last_host=True, seen={503}).step is Step.AGAIN


def test_a_busy_host_is_asked_when_it_says() -> None:
    assert judge(429, "GET", 1, last_host=False, seen=(), retry_after="3") == Verdict(Step.AGAIN, 3.0)
    assert (
        judge(429, "GET", 1, last_host=False, seen=(), retry_after="Wed, 21 Oct 2015 07:28:00 GMT").step is Step.AGAIN
    )
    assert judge(429, "GET", 1, last_host=False, seen=(), retry_after="3600").step is Step.NEXT_HOST
    assert judge(429, "GET", 5, last_host=True, seen={429}).step is Step.NEXT_HOST


@given(st.integers(100, 599), st.sampled_from(["GET", "HEAD"]), st.booleans(), st.text(max_size=12))
def test_every_host_is_done_with_at_last(status: int, method: str, last: bool, retry_after: str) -> None:
    verdict = judge(status, method, 5, last_host=last, seen={status}, retry_after=retry_after)
    assert verdict.step is not Step.AGAIN


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}',
            "404 Not Found: MANIFEST_UNKNOWN: manifest unknown",
        ),
        (b'{"errors":[{"code":"DENIED"}]}', "404 Not Found: denied"),
        (b"plain\r\n\x1b[31m text", "404 Not Found: plain [31m text"),
        (b"<html>long</html>", "404 Not Found"),
        (b"", "404 Not Found"),
        (b'{"errors":[1]}', '404 Not Found: {"errors":[1]}'),
        (b"[" * 8000, "404 Not Found: " + "[" * 500),
    ],
)
def test_texts_for_people(body: bytes, text: str) -> None:
    assert text_of(404, body) == text


@pytest.mark.behaviour("IMG-41")
@pytest.mark.parametrize(
    ("failures", "kind", "text"),
    [
        ([Failure("a", 0, "connection refused")], Unknown, r"^RegistryUnavailable: x: a: connection refused"),
        ([Failure("a", 503, "503 Service Unavailable")], Unknown, r"^RegistryUnavailable: x: a: 503"),
        ([Failure("a", 404, "unknown")], NotFound, r"^x is not found at a: unknown"),
        ([Failure("a", 401, "no"), Failure("b", 404, "unknown")], Unknown, r"^pull access denied for x: a: no"),
        ([Failure("a", 404, "unknown"), Failure("b", 500, "oh")], Unknown, r"^failed to fetch x: b: oh"),
        ([Failure("a", 0, "first"), Failure("b", 0, "second")], Unknown, "second"),
        ([], Unknown, "no host"),
    ],
)
def test_the_error_of_all_failures(failures: list[Failure], kind: type[CriError], text: str) -> None:
    with pytest.raises(kind, match=text):
        raise error_for("x", failures)


def test_patience_ends_without_progress() -> None:
    patience = Patience()
    waits = [patience.failed() for _ in range(5)]
    assert waits == [0.2, 0.4, 0.8, 1.6, None]


def test_patience_is_renewed_by_progress() -> None:
    patience = Patience()
    for _ in range(20):
        patience.moved(1 << 20)
        assert patience.failed() == 0.2
    patience.moved(100)
    assert patience.failed() == 0.4


@pytest.mark.parametrize(
    ("status", "content_range", "length", "offset", "skip"),
    [
        (200, "", "100", 0, 0),
        (200, "", "", 0, 0),
        (200, "", "100", 30, 30),
        (206, "bytes 30-99/100", "70", 30, 0),
        (206, "bytes 30-99/*", "", 30, 0),
    ],
)
def test_parts_that_fit(status: int, content_range: str, length: str, offset: int, skip: int) -> None:
    assert bytes_to_skip(status, content_range, length, offset, 100) == skip


@pytest.mark.parametrize(
    ("status", "content_range", "length", "offset"),
    [
        (200, "", "101", 0),
        (200, "", "70", 30),
        (206, "", "70", 30),
        (206, "bytes 0-99/100", "100", 30),
        (206, "bytes 30-98/100", "69", 30),
        (206, "bytes 30-99/101", "70", 30),
        (206, "bytes 30-99/100", "71", 30),
        (204, "", "", 0),
    ],
)
def test_parts_that_are_wrong(status: int, content_range: str, length: str, offset: int) -> None:
    with pytest.raises(WrongPart):
        bytes_to_skip(status, content_range, length, offset, 100)


def test_ranges_are_asked_for_from_the_offset_on() -> None:
    assert range_header(0) == {}
    assert range_header(5) == {"Range": "bytes=5-"}
