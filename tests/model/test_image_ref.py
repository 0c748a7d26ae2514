"""References are normalised as Docker does, and hostile ones refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.image_ref import id_prefix, normalize_reference, parse_reference, same_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.behaviour("IMG-01")
@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
        ("library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("a/b:t", "docker.io/a/b:t", "a/b:t"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a:latest"),
        ("Host/a", "Host/a:latest", "Host/a:latest"),
        ("[::1]:5000/a:1", "[::1]:5000/a:1", "[::1]:5000/a:1"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", f"nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", f"nginx@{DIGEST}"),
    ],
)
def test_normalised_and_familiar_forms(text: str, full: str, familiar: str) -> None:
    assert normalize_reference(text) == full
    assert parse_reference(text).familiar == familiar
    assert normalize_reference(familiar) == full


@pytest.mark.behaviour("IMG-06")
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Nginx",
        "a//b",
        "/a",
        "a/",
        "a b",
        "a:",
        "a:t:u",
        "a:" + "t" * 129,
        "a@",
        "a@sha256:12",
        f"a@{DIGEST}0",
        f"a@{DIGEST.upper()}",
        "a@md5:" + "0" * 32,
        "../../etc/passwd",
        "a/../b",
        "a?x=1",
        "a%2fb",
        "a#b",
        "a\nb",
        "a\0b",
        "ü",
        "a" * 300,
        "host:99999999/a",
        "-a.b/c",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="not an image reference"):
        parse_reference(text)


@given(st.text(max_size=40))
def test_parsing_is_total_and_idempotent(text: str) -> None:
    try:
        full = normalize_reference(text)
    except InvalidArgument:
        return
    assert normalize_reference(full) == full
    assert same_reference(text, full)
    assert not {"?", "#", "%", "..", " "} & {full[i : i + 2] for i in range(len(full))} | set(full) & set("?#% \n\0")


def test_comparison_sees_through_spelling() -> None:
    assert same_reference("nginx", "docker.io/library/nginx:latest")
    assert not same_reference("nginx", "nginx:1")
    assert not same_reference("NOT ONE", "NOT ONE")


@pytest.mark.behaviour("GEN-10")
@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        (DIGEST, DIGEST),
        (DIGEST[7:], DIGEST),
        ("sha256:ab", "sha256:ab"),
        ("ab12", "sha256:ab12"),
        ("nginx", None),
        ("", None),
        ("sha256:", None),
        ("AB12", None),
        (DIGEST + "0", None),
        ("ab12:latest", None),
    ],
)
def test_ids_and_their_prefixes(text: str, prefix: str | None) -> None:
    assert id_prefix(text) == prefix
