"""References are completed as Docker completes them. Spec: specs/registries.md#references."""

import pytest

from node.registry.reference import Reference, is_loopback
from protocol.values.errors import InvalidRequest

HEX = "ab" * 32


@pytest.mark.parametrize(
    "text, whole",
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("pytorch/pytorch", "docker.io/pytorch/pytorch:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/a/b:c", "docker.io/a/b:c"),
        ("registry-1.docker.io/library/a", "docker.io/library/a:latest"),
        ("ghcr.io/owner/name:v1", "ghcr.io/owner/name:v1"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b:x", "localhost:5000/a/b:x"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("host:5000/a", "host:5000/a:latest"),
        (f"python@sha256:{HEX}", f"docker.io/library/python@sha256:{HEX}"),
        (f"python:3@sha256:{HEX}", f"docker.io/library/python:3@sha256:{HEX}"),
        ("a/b__c--d.e", "docker.io/a/b__c--d.e:latest"),
    ],
)
def test_completed(text: str, whole: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == whole
    assert Reference.parse(whole) == reference


@pytest.mark.parametrize(
    "text, line",
    [
        ("", "no reference"),
        ("Python", "no capital letters"),
        ("a//b", "no reference"),
        ("a/b:", "is no tag"),
        ("a:b:c", "is no tag"),
        ("../etc/passwd", "no reference"),
        ("ghcr.io/", "no reference"),
        ("python@sha256:12", "64 hexadecimal digits"),
        ("python@", "64 hexadecimal digits"),
        ("a b", "no reference"),
        ("a.b:99/x?y=1", "no reference"),
        ("a" * 256, "more than 255"),
        (f"a:{'t' * 129}", "is no tag"),
    ],
)
def test_refused(text: str, line: str) -> None:
    with pytest.raises(InvalidRequest, match=line) as caught:
        Reference.parse(text)
    assert "\n" not in str(caught.value)


def test_where_a_registry_is_asked() -> None:
    assert Reference.parse("python").base_url == "https://registry-1.docker.io"
    assert Reference.parse("ghcr.io/a/b").base_url == "https://ghcr.io"
    assert Reference.parse("localhost:5000/a").base_url == "http://localhost:5000"
    assert [is_loopback(each) for each in ("127.1.2.3:1", "[::1]:5", "[::1]", "localhost")] == (
        [True] * 4
    )
    assert not any(map(is_loopback, ("localhost.example:1", "10.0.0.1", "docker.io", "128.0.0.1")))
