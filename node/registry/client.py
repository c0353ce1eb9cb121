"""A client of one repository: tokens, redirects, waiting when asked to, and verified answers.

Spec: specs/registries.md#requests.
"""

import base64
import email.utils
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from typing import Final

import httpx
import trio

from node import VERSION
from node.data.disk import CHUNK
from node.data.manifest import DOCUMENT_MAX, INDEX_TYPES, MANIFEST_TYPES
from node.registry.credentials import Credentials
from node.registry.errors import (
    ReferenceNotFound,
    RegistryDenied,
    RegistryLied,
    RegistryUnavailable,
)
from node.registry.reference import Reference
from protocol.values.errors import NodeError
from protocol.values.ids import Digest, digest_of

ACCEPT: Final = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
CONNECT_S: Final = 10
ANSWER_S: Final = 30
"""How long a registry may send nothing."""
ATTEMPTS: Final = 5
RECONNECTS: Final = 2
"""A host that refuses connections, or has no address, is not asked as often."""
PAUSE_S: Final = 0.5
"""Before the second attempt; it doubles."""
RETRY_AFTER_MAX_S: Final = 60
"""A registry that asks for a longer wait is an error that states it."""
REDIRECTS_MAX: Final = 5
TOKEN_BYTES_MAX: Final = 64 * 1024
WORTH_RETRYING: Final = frozenset({408, 429, 500, 502, 503, 504})
TOKEN: Final = re.compile(r"[\x21-\x7e]+")
CHALLENGE: Final = re.compile(r'([a-z]+)="([^"]*)"')


class RegistryClient:
    """Asks a registry about one repository. Without credentials it is anonymous.

    `answer_s` limits each wait for the registry.
    """

    def __init__(
        self,
        reference: Reference,
        credentials: Credentials | None = None,
        attempts: int = ATTEMPTS,
        answer_s: float = ANSWER_S,
    ) -> None:
        self.reference = reference
        self.attempts = attempts
        self._credentials = credentials
        self._authorization = ""
        self._http = httpx.AsyncClient(
            verify=_tls(),
            timeout=httpx.Timeout(answer_s, connect=CONNECT_S, pool=None),
            headers={"user-agent": f"mutirao/{VERSION}", "accept-encoding": "identity"},
        )

    @property
    def is_anonymous(self) -> bool:
        """Return whether the registry served everything without credentials."""
        return self._credentials is None

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def manifest(self, version: str) -> bytes:
        """Return the manifest or the index of a tag or digest; a digest is verified.

        ReferenceNotFound, RegistryDenied, RegistryUnavailable, or RegistryLied.
        """
        path = f"manifests/{version}"
        async with self._asking(path, {"accept": ACCEPT}) as answer:
            data = await self._bounded(answer, DOCUMENT_MAX)
            claimed = answer.headers.get("docker-content-digest", "")
        found = f"sha256:{digest_of(data).hex()}"
        wanted = version if ":" in version else claimed
        if wanted.startswith("sha256:") and wanted != found:
            raise self.lie(f"the manifest of {version} has the digest {found}, not {wanted}")
        return data

    async def small_blob(self, digest: Digest) -> bytes:
        """Return the bytes of a small blob, verified; errors as of `manifest`."""
        async with self._asking(f"blobs/sha256:{digest.hex()}", {}) as answer:
            data = await self._bounded(answer, DOCUMENT_MAX)
        if digest_of(data) != digest:
            raise self.lie(f"the bytes of sha256:{digest.hex()[:12]} have another digest")
        return data

    @asynccontextmanager
    async def blob(self, digest: Digest, offset: int) -> AsyncIterator["BlobAnswer"]:
        """Open the bytes of a blob from an offset on, which the registry may ignore."""
        headers = {"range": f"bytes={offset}-"} if offset else {}
        async with self._asking(f"blobs/sha256:{digest.hex()}", headers) as answer:
            partial = answer.status_code == httpx.codes.PARTIAL_CONTENT
            if offset and partial and not _begins_at(answer, offset):
                raise self.lie("it sent another range than the one asked for")
            async with _raw(answer, CHUNK) as chunks:
                yield BlobAnswer(chunks, offset if partial else 0)

    def lie(self, why: str) -> RegistryLied:
        """Return the error of a registry whose answer is false."""
        return RegistryLied(
            f"{self.reference.registry}: {why}: nothing of it is kept; tell who runs the registry"
        )

    def unavailable(self, why: str) -> RegistryUnavailable:
        """Return the error of a registry that does not serve."""
        return RegistryUnavailable(f"{self.reference.registry}: {why}")

    @asynccontextmanager
    async def _asking(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """Yield a successful answer, after retries."""
        url = f"{self.reference.base_url}/v2/{self.reference.repository}/{path}"
        for attempt in range(self.attempts):
            last = attempt == self.attempts - 1
            try:
                answer = await self._admitted(url, headers)
            except httpx.TransportError as error:
                if last or (isinstance(error, httpx.ConnectError) and attempt >= RECONNECTS):
                    raise self.unavailable(_words(error)) from None
                await trio.sleep(PAUSE_S * 2**attempt)
                continue
            try:
                if answer.is_success:
                    yield answer
                    return
                wait_s = self._wait_s(answer, attempt)
                if last or answer.status_code not in WORTH_RETRYING:
                    raise self._refusal(answer)
            finally:
                await answer.aclose()
            await trio.sleep(wait_s)

    async def _admitted(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        """Return the answer to a request, with credentials if the registry asks for them.

        If its token server refuses, return that answer instead.
        """
        answer = await self._send(url, headers)
        if answer.status_code != httpx.codes.UNAUTHORIZED:
            return answer
        challenge = answer.headers.get("www-authenticate", "")
        await answer.aclose()
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "bearer":
            answer = await self._http.send(self._token_request(rest), stream=True)
            if not answer.is_success:
                return answer
            self._authorization = f"Bearer {await self._token_in(answer)}"
        elif scheme.lower() == "basic" and self._credentials is not None:
            self._authorization = _basic(self._credentials)
        else:
            raise self.denied()
        return await self._send(url, headers)

    async def _send(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        """Send a request and follow redirects; another host does not get the credentials."""
        own = {"authorization": self._authorization} if self._authorization else {}
        request = self._http.build_request("GET", url, headers={**headers, **own})
        for _ in range(REDIRECTS_MAX + 1):
            answer = await self._http.send(request, stream=True)
            if answer.next_request is None:
                return answer
            await answer.aclose()
            if request.url.scheme == "https" != answer.next_request.url.scheme:
                raise self.unavailable("it redirects to a place without TLS")
            request = answer.next_request
        raise self.unavailable(f"it redirects more than {REDIRECTS_MAX} times")

    def _token_request(self, challenge: str) -> httpx.Request:
        """Return the request for the token that a challenge asks for."""
        fields = dict(CHALLENGE.findall(challenge))
        realm = self._realm(fields.get("realm", ""))
        scope = f"repository:{self.reference.repository}:pull"
        query = {"service": fields.get("service", ""), "scope": scope}
        known = self._credentials
        if known is not None and known.identity_token:
            secret = {"grant_type": "refresh_token", "refresh_token": known.identity_token}
            return self._http.build_request(
                "POST", realm, data={**query, **secret, "client_id": "mutirao"}
            )
        headers = {"authorization": _basic(known)} if known is not None else {}
        return self._http.build_request("GET", realm.copy_merge_params(query), headers=headers)

    def _realm(self, text: str) -> httpx.URL:
        """Return the URL of the token server; with TLS, unless the registry itself has none."""
        try:
            realm = httpx.URL(text)
        except httpx.InvalidURL:
            realm = httpx.URL()
        allowed = {"https"} if self.reference.base_url.startswith("https") else {"http", "https"}
        if realm.scheme not in allowed or not realm.host:
            raise self.unavailable("its token server has no URL with TLS")
        return realm

    async def _token_in(self, answer: httpx.Response) -> str:
        """Return the token in the answer of a token server."""
        try:
            document = json.loads(await self._bounded(answer, TOKEN_BYTES_MAX))
            token = document.get("token") or document["access_token"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self.unavailable("the answer of its token server has no token") from None
        finally:
            await answer.aclose()
        if not isinstance(token, str) or not TOKEN.fullmatch(token):
            raise self.unavailable("its token server sent a malformed token")
        return token

    async def _bounded(self, answer: httpx.Response, size_max: int) -> bytes:
        """Return the whole of a small answer."""
        data = b""
        try:
            async with _raw(answer) as chunks:
                while len(data) <= size_max and (chunk := await anext(chunks, b"")):
                    data += chunk
        except httpx.TransportError as error:
            raise self.unavailable(_words(error)) from None
        if len(data) > size_max:
            raise self.lie(f"an answer has more than {size_max} bytes")
        return data

    def denied(self) -> RegistryDenied:
        """Return the error of a repository that does not exist or is not for this user."""
        reference = self.reference
        return RegistryDenied(
            f"{reference.registry} denies access to {reference.repository}: it does not exist, or"
            f" needs `docker login {reference.registry}`"
        )

    def _wait_s(self, answer: httpx.Response, attempt: int) -> float:
        """Return how long to wait before the next attempt; RegistryUnavailable if it is long."""
        wait_s = _retry_after_s(answer)
        if wait_s is None:
            return PAUSE_S * (1 << attempt)
        if wait_s > RETRY_AFTER_MAX_S and answer.status_code in WORTH_RETRYING:
            raise self.unavailable(
                f"it limits pulls and asks to wait {round(wait_s)} s: try again then, or use"
                f" `docker login {self.reference.registry}`"
            )
        return wait_s

    def _refusal(self, answer: httpx.Response) -> NodeError:
        """Return the error for an answer that is no success."""
        status = answer.status_code
        if status == httpx.codes.NOT_FOUND:
            return ReferenceNotFound(
                f"{self.reference.registry} has no {self.reference.repository}"
                f"{_after_colon(self.reference)}: check name and tag"
            )
        if status in {401, 403}:
            return self.denied()
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return self.lie("it has fewer bytes of a blob than the manifest says")
        if status == httpx.codes.TOO_MANY_REQUESTS:
            return self.unavailable(
                f"it limits pulls: try again later, or use `docker login {self.reference.registry}`"
            )
        return self.unavailable(f"it answers {status}: try again later")


class BlobAnswer:
    """The bytes of a blob as they come, from `offset` on."""

    def __init__(self, chunks: AsyncIterator[bytes], offset: int) -> None:
        self.offset = offset
        self._chunks = chunks

    async def read(self) -> bytes:
        """Return the next bytes; none at the end, or when the connection is lost."""
        try:
            return await anext(self._chunks, b"")
        except httpx.TransportError:
            return b""


@asynccontextmanager
async def _raw(
    answer: httpx.Response, size: int | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield the bytes of an answer in pieces; closes it.

    The generators inside httpx do not close each other: they end when the connection has.
    """
    chunks = answer.aiter_raw(size)
    try:
        yield chunks
    finally:
        await answer.aclose()
        with suppress(httpx.TransportError, httpx.StreamError):
            async for _ in chunks:
                continue


@cache
def _tls() -> ssl.SSLContext:
    """Return the settings for TLS: they take long to make."""
    context = httpx.create_ssl_context()
    context.load_default_certs()  # Also the authorities that this machine's owner added.
    return context


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.user}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _begins_at(answer: httpx.Response, offset: int) -> bool:
    return bool(re.match(rf"bytes {offset}-", answer.headers.get("content-range", "")))


def _retry_after_s(answer: httpx.Response) -> float | None:
    """Return what Retry-After says: a number of seconds or a date."""
    text = answer.headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}", text):
        return int(text)
    try:
        then = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    wait_s: float = (then - datetime.now(UTC)).total_seconds()
    return max(0.0, wait_s)


def _after_colon(reference: Reference) -> str:
    return f"@{reference.version}" if reference.digest else f":{reference.tag}"


def _words(error: httpx.TransportError) -> str:
    why = str(error) or type(error).__name__
    return f"it cannot be reached: {why}"
