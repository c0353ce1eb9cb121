"""The connection to Docker Engine, which turns its failures into SandboxUnavailable.

Spec: specs/sandbox.md#docker-driver.
"""

import os
import socket
from collections.abc import Callable
from typing import Any, Final, TypeVar

import docker
import docker.errors
import requests
import trio

from protocol.values.errors import SandboxUnavailable

FAULTS: Final = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
"""What docker-py raises when the engine refuses, fails, hangs or is absent."""
REQUEST_SECONDS: Final = 60
LOAD_SECONDS: Final = 1500
"""An engine that takes an image may be silent this long: within the time for preparing a job."""
RUNC: Final = "runc"
"""The runtime that every engine has."""
API_VERSION: Final = "1.41"
"""The version of Docker Engine 20.10; newer engines support it too."""
DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
OLDEST: Final = (20, 10)
T = TypeVar("T")


class DockerEngine:
    """The engine at DOCKER_HOST, which must be a Unix socket; connected at the first request."""

    def __init__(self) -> None:
        self._client: Any = None

    async def ask(self, act: Callable[[], T], *, leave: trio.CapacityLimiter | None = None) -> T:
        """Send requests to the engine in a thread; its failures become SandboxUnavailable.

        With `leave` a cancelled caller returns at once, while the thread continues. The limiter
        bounds such abandoned threads: each holds one token until it ends.
        """
        try:
            return await trio.to_thread.run_sync(
                act, abandon_on_cancel=leave is not None, limiter=leave
            )
        except FAULTS as fault:
            why = getattr(fault, "explanation", None) or str(fault)
            raise SandboxUnavailable(f"Docker Engine: {one_line(str(why))}") from fault

    def client(self) -> Any:
        """Return docker-py's client. It blocks, and raises one of FAULTS or SandboxUnavailable."""
        if self._client is None:
            self._client = _connect(REQUEST_SECONDS)
        return self._client

    def patient_client(self) -> Any:
        """Return a separate client for long requests; the caller closes it."""
        return _connect(LOAD_SECONDS)

    def require(self, runtime: str = RUNC) -> None:
        """Refuse an engine that is too old, remote, without seccomp or a runtime. It blocks."""
        engine = self.client()
        version = str(engine.version()["Version"])
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers < OLDEST:
            raise SandboxUnavailable(f"Docker Engine {version} is too old; install 20.10 or newer")
        info = engine.info()
        if not any("seccomp" in option for option in info["SecurityOptions"]):
            raise SandboxUnavailable("Docker Engine has no seccomp; its kernel must support it")
        if runtime not in info["Runtimes"]:
            why = f"Docker Engine has no runtime {runtime}"
            raise SandboxUnavailable(f"{why}; install it and name it in the engine's daemon.json")

    def close(self) -> None:
        """Close the connection; the next request makes another."""
        if self._client is not None:
            self._client.close()
        self._client = None


def engine_socket() -> str:
    """Return the path of the engine's socket; SandboxUnavailable if DOCKER_HOST names none."""
    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    if not host.startswith("unix:///"):
        raise SandboxUnavailable("DOCKER_HOST is not a Unix socket; use the embedded sandbox")
    return host.removeprefix("unix://")


def one_line(text: str) -> str:
    """Return another program's error as one short line."""
    return " ".join(text.split())[:300]


def _connect(seconds: int) -> Any:
    path = engine_socket()
    _require_listener(path)
    return docker.DockerClient(base_url=f"unix://{path}", version=API_VERSION, timeout=seconds)


def _require_listener(path: str) -> None:
    """Raise OSError if nobody listens: docker-py would leave its socket open."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(REQUEST_SECONDS)
        sock.connect(path)
