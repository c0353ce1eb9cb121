"""Translates libp2p's exceptions, and redirects its log.

Spec: specs/network.md.
"""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeVar

import outcome
import trio
from libp2p.exceptions import BaseLibp2pError

from protocol.values.errors import NodeError, PeerUnreachable
from protocol.values.ids import PeerId

P = ParamSpec("P")
R = TypeVar("R")

LOG: Final = logging.getLogger(__name__)

# What libp2p raises from a stream or a dial: its own errors (not all derive from its base class),
# those of the trio channels and sockets below, and KeyError or ValueError when a connection is
# closed during a call.
LIBP2P_ERRORS: Final = (
    BaseLibp2pError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    OSError,
    EOFError,
    KeyError,
    ValueError,
)


class reaching:  # noqa: N801 - reads like the context managers of contextlib.
    """Turn any error of a peer's connection into PeerUnreachable."""

    def __init__(self, peer: PeerId) -> None:
        self._peer = peer

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, LIBP2P_ERRORS):
            raise PeerUnreachable(f"{self._peer} cannot be reached: {error!r}") from error


class contained:  # noqa: N801 - reads like the context managers of contextlib.
    """Suppress every exception. Only for code of libp2p that processes a stranger's bytes.

    Such code raises anything (protobuf, struct, cryptography), and an exception that passes would
    stop the node. Our own code never runs inside without an `Escalation`. Cancellation passes: it
    is not an Exception.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.failed = isinstance(error, Exception)
        if self.failed:
            LOG.debug("%s: %r", self._what, error)
        return self.failed


class Escalation:
    """Calls our own code from within libp2p's tasks, which would swallow its exceptions.

    NodeErrors pass to the caller. Any other exception is a bug of the node: it is raised in the
    nursery of the node, and stops it.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function; raises its NodeErrors, and NodeError if it has a bug."""
        result = outcome.capture(function, *args, **kwargs)
        if isinstance(result, outcome.Error) and not isinstance(result.error, NodeError):
            self._nursery.start_soon(_raise, result.error)
            raise NodeError("stopped by a bug of the node") from result.error
        return result.unwrap()


def quiet_logging() -> None:
    """Keep libp2p's log off the terminal: it logs normal network events as errors.

    It also logs to the root logger, which would then open a handler to standard error.
    """
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    logger = logging.getLogger("libp2p")
    logger.handlers.clear()
    logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.CRITICAL)
    logger.propagate = False


async def _raise(error: BaseException) -> None:
    raise error
