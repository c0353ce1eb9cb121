"""Names of images in registries, as Docker writes and completes them.

Spec: specs/registries.md#references.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Self

from protocol.values.errors import InvalidRequest
from protocol.values.ids import Digest

HUB: Final = "docker.io"
HUB_HOST: Final = "registry-1.docker.io"
HUB_ALIASES: Final = frozenset({"index.docker.io", HUB_HOST})
LATEST: Final = "latest"
NAME_MAX: Final = 255
PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
REGISTRY: Final = re.compile(rf"(?:{LABEL}(?:\.{LABEL})*|\[[0-9a-fA-F:]+\])(?::\d{{1,5}})?")
REPOSITORY: Final = re.compile(rf"{PART}(?:/{PART})*")
TAG: Final = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
EXAMPLE: Final = "give one such as python:3.12-slim or ghcr.io/owner/name:tag"


@dataclass(frozen=True, slots=True)
class Reference:
    """A complete reference: a registry, a repository in it, and a tag or a digest."""

    registry: str
    repository: str
    tag: str
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a user's text refers to; InvalidRequest if it is malformed."""
        if len(text) > NAME_MAX:
            raise InvalidRequest(f"the reference has more than {NAME_MAX} characters: {EXAMPLE}")
        name, at, digest = text.partition("@")
        found = DIGEST.fullmatch(digest)
        if at and not found:
            raise InvalidRequest(f"{text!r}: after @ comes sha256: and 64 hexadecimal digits")
        # A colon before a slash belongs to the registry's port.
        name, colon, tag = name.partition(":") if "/" not in name else _split_tag(name)
        if colon and not TAG.fullmatch(tag):
            raise InvalidRequest(f"{text!r}: {tag!r} is no tag: {EXAMPLE}")
        registry, repository = _split_registry(name)
        if not REGISTRY.fullmatch(registry) or not REPOSITORY.fullmatch(repository):
            capital = "; a repository has no capital letters" if name != name.lower() else ""
            raise InvalidRequest(f"{text!r} is no reference to an image{capital}: {EXAMPLE}")
        pinned = Digest(bytes.fromhex(found[1])) if found else None
        return cls(registry, repository, tag or ("" if pinned else LATEST), pinned)

    @property
    def source(self) -> str:
        """Return registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def version(self) -> str:
        """Return what a registry is asked for: the digest if there is one, else the tag."""
        return f"sha256:{self.digest.hex()}" if self.digest else self.tag

    @property
    def base_url(self) -> str:
        """Return the URL of the registry; only one on this machine is asked without TLS."""
        scheme = "http" if is_loopback(self.registry) else "https"
        return f"{scheme}://{HUB_HOST if self.registry == HUB else self.registry}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.source}{tag}{f'@{self.version}' if self.digest else ''}"


def is_loopback(registry: str) -> bool:
    """Return whether a registry's name, perhaps with a port, is of this machine."""
    host = re.sub(r":\d+$", "", registry).strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split_tag(name: str) -> tuple[str, str, str]:
    folder, _, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    return f"{folder}/{last}", colon, tag


def _split_registry(name: str) -> tuple[str, str]:
    """Return registry and repository: the first part is a registry if it looks like a host."""
    first, slash, rest = name.partition("/")
    is_host = bool(slash) and (first == "localhost" or any(mark in first for mark in ".:"))
    registry, repository = (first, rest) if is_host else (HUB, name)
    if registry in HUB_ALIASES:
        registry = HUB
    if registry == HUB and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository
