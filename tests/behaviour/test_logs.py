"""Log files and ReopenContainerLog."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, code_of, eventually, join_log, parse_log, refused

LIMIT_BYTES = 16384


@pytest.mark.behaviour("LOG-01", "LOG-06", "STT-04")
def test_lines_of_both_streams_in_the_format(pod: Pod) -> None:
    before = time.time()
    container = pod.run("sh", "-c", "echo to out; echo to err >&2; echo; echo '  spaces  '")
    entries = container.log()
    assert [(e.tag, e.content) for e in entries if e.stream == "stdout"] == [
        ("F", b"to out"),
        ("F", b""),
        ("F", b"  spaces  "),
    ]
    assert [(e.tag, e.content) for e in entries if e.stream == "stderr"] == [("F", b"to err")]
    for entry in entries:
        text = re.sub(r"(\.\d{6})\d*", r"\1", entry.time)
        assert before - 1 < datetime.fromisoformat(text).timestamp() < time.time() + 1


@pytest.mark.behaviour("LOG-02", "LOG-03")
@pytest.mark.parametrize(
    ("length", "tags"),
    # A whole line of just the limit may have an empty end of its own: engines cut before they know what follows.
    [
        (LIMIT_BYTES - 1, ["F"]),
        (LIMIT_BYTES, ["F", "PF"]),
        (LIMIT_BYTES + 1, ["PF"]),
        (3 * LIMIT_BYTES + 5, ["PPPF"]),
    ],
)
def test_long_lines_are_cut_in_tagged_pieces(pod: Pod, length: int, tags: list[str]) -> None:
    container = pod.run("sh", "-c", f"head -c {length} /dev/zero | tr '\\0' x; echo; echo next")
    entries = container.log()
    assert join_log(entries, "stdout") == b"x" * length + b"\nnext\n"
    assert "".join(entry.tag for entry in entries[:-1]) in tags
    assert max(len(entry.content) for entry in entries) <= LIMIT_BYTES


@pytest.mark.behaviour("LOG-02")
def test_rest_without_newline_is_partial(pod: Pod) -> None:
    entries = pod.run("printf", "one\\ntwo").log()
    assert [(entry.tag, entry.content) for entry in entries] == [("F", b"one"), ("P", b"two")]


@pytest.mark.behaviour("LOG-04")
def test_bytes_pass_unchanged(pod: Pod) -> None:
    container = pod.run("printf", "a\\000b\\377\\376c\\nwindows\\r\\ntab\\t end\\n")
    contents = [entry.content for entry in container.log()]
    assert contents[0] == b"a\0b\xff\xfec"
    assert contents[1] in (b"windows", b"windows\r")
    assert contents[2] == b"tab\t end"


@pytest.mark.behaviour("LOG-04")
def test_output_that_looks_like_the_log_is_only_content(pod: Pod) -> None:
    forged = "2001-01-01T00:00:00.000000000Z stderr F forged"
    entries = pod.run("printf", f"{forged}\\n\\033[2Jcleared\\n").log()
    assert [entry.stream for entry in entries] == ["stdout", "stdout"]
    assert [entry.content for entry in entries] == [forged.encode(), b"\x1b[2Jcleared"]
    assert not any(entry.time.startswith("2001") for entry in entries)


@pytest.mark.behaviour("LOG-06")
def test_order_within_a_stream_is_kept_and_lines_are_whole(pod: Pod) -> None:
    script = "(seq -f 'out %.0f' 1 3000 2>/dev/null || seq 1 3000) & seq 1 3000 >&2; wait"
    entries = pod.run("sh", "-c", script).log()
    for stream in ("stdout", "stderr"):
        numbers = [int(entry.content.split()[-1]) for entry in entries if entry.stream == stream]
        assert numbers == list(range(1, 3001))


@pytest.mark.behaviour("LOG-07")
def test_each_line_is_seen_without_delay(pod: Pod) -> None:
    container = pod.start("sh", "-c", "for i in 1 2 3; do echo $i; sleep 1; done; sleep 1000")
    eventually(container.output, lambda text: text == "1", "the first line", 0.9)


@pytest.mark.behaviour("LOG-08")
def test_process_without_a_log_is_drained(pod: Pod) -> None:
    container = pod.run("sh", "-c", "head -c 5000000 /dev/zero; exit 7", log_path="")
    assert container.status().exit_code == 7
    assert container.status().log_path == ""


@pytest.mark.behaviour("LOG-09", "LOG-06", "LOG-07")
def test_much_output_arrives_whole(pod: Pod) -> None:
    container = pod.run("seq", "1", "200000")
    assert join_log(container.log(), "stdout") == b"".join(b"%d\n" % number for number in range(1, 200_001))


@pytest.mark.behaviour("LOG-10", "CRE-14", "CST-12", "LOG-12")
def test_log_is_where_kubelet_wants_it(pod: Pod) -> None:
    container = pod.run("echo", "hello")
    status = container.status()
    assert status.log_path == f"{pod.config.log_directory}/{container.config.log_path}"
    assert Path(status.log_path).read_bytes().endswith(b" stdout F hello\n")


@pytest.mark.behaviour("LOG-20", "LOG-22", "LOG-23")
def test_reopen_goes_on_in_a_new_file(cri: Cri, pod: Pod) -> None:
    container = pod.start("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done")
    rotated = container.log_path.with_suffix(".log.1")
    eventually(container.output, bool, "the first line")
    container.log_path.rename(rotated)
    cri("ReopenContainerLog", container_id=container.id)
    size = rotated.stat().st_size
    assert container.log_path.exists()
    eventually(container.output, lambda text: text.count("\n") > 5, "lines in the new file")
    assert rotated.stat().st_size == size
    container.stop()
    numbers = [int(entry.content) for entry in parse_log(rotated.read_bytes()) + container.log()]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.behaviour("LOG-20", "LOG-23", "LOG-09")
def test_rotation_under_load_loses_and_tears_nothing(cri: Cri, pod: Pod) -> None:
    lines = 300_000
    container = pod.start("seq", "1", str(lines))
    files: list[Path] = []
    while container.status().state == pb.CONTAINER_RUNNING:
        rotated = container.log_path.with_suffix(f".log.{len(files)}")
        container.log_path.rename(rotated)
        files.append(rotated)
        if code_of(lambda: cri("ReopenContainerLog", container_id=container.id)) != grpc.StatusCode.OK:
            files.pop()
            rotated.rename(container.log_path)
    entries = [entry for path in [*files, container.log_path] for entry in parse_log(path.read_bytes())]
    assert join_log(entries, "stdout") == b"".join(b"%d\n" % number for number in range(1, lines + 1))
    assert len(files) >= 2


@pytest.mark.behaviour("LOG-22", "LOG-23")
def test_reopen_makes_a_missing_file_and_can_be_repeated(cri: Cri, pod: Pod) -> None:
    container = pod.start()
    container.log_path.unlink()
    for _ in range(3):
        cri("ReopenContainerLog", container_id=container.id)
        assert container.log_path.exists()


@pytest.mark.behaviour("LOG-21")
@pytest.mark.parametrize("state", ["created", "exited"])
def test_reopen_of_what_does_not_run_is_refused(cri: Cri, pod: Pod, state: str) -> None:
    container = pod.create("true")
    if state == "exited":
        container.start()
        container.wait()
        container.log_path.unlink()
    with refused():
        cri("ReopenContainerLog", container_id=container.id)
    if state == "exited":
        assert not container.log_path.exists()


@pytest.mark.behaviour("LOG-05")
def test_terminal_output_is_stdout(pod: Pod) -> None:
    entries = pod.run("sh", "-c", "echo out; echo err >&2; seq 1 500", tty=True).log()
    assert {entry.stream for entry in entries} == {"stdout"}
    text = join_log(entries, "stdout").replace(b"\r", b"")
    assert text == b"out\nerr\n" + b"".join(b"%d\n" % number for number in range(1, 501))


@pytest.mark.behaviour("LOG-09")
def test_unwritable_log_does_not_stop_the_process(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    container = pod.start("sh", "-c", "echo one; sleep 1; head -c 3000000 /dev/zero | tr '\\0' '\\n'; exit 5")
    eventually(container.output, bool, "the first line")
    container.log_path.unlink()
    container.log_path.mkdir()
    assert container.wait().exit_code == 5


@pytest.mark.behaviour("GEN-12", "LOG-12")
def test_log_path_is_kept_for_the_dead(container: Container, pod: Pod) -> None:
    dead = pod.run("echo", "hello")
    assert dead.status().log_path == str(dead.log_path)
    assert container.status().log_path == str(container.log_path)
    assert dead.status().state == pb.CONTAINER_EXITED
