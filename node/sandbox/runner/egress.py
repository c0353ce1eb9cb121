"""The socket in a container's network namespace at which a job finds the node's proxy.

A container has no interface but its loopback. A fork of the runner enters the namespace, listens
on 127.0.0.1 and passes the socket back. The daemon gets it through a Unix socket in the run folder
that only the node's user reaches; so does the next daemon, and until then connections wait.

Spec: specs/egress.md#in-the-sandbox.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH108

import os
import socket

from node.sandbox.runner import namespace_limits, records
from node.sandbox.runner.container import Container, StartFailed
from node.sandbox.runner.records import Fields

ADDRESS = ("127.0.0.1", 3128)
BACKLOG = 64
CANNOT_LISTEN = "no proxy can listen in the container's network namespace"


class Handover:
    """A listening socket in a container, and where the daemon asks for it."""

    __slots__ = ("asked", "listener")

    def __init__(self, init: int) -> None:
        """Listen in the network namespace of the process; OSError if that is not possible."""
        self.listener = _listen_in(init)
        self.asked = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if os.path.lexists(records.EGRESS):
                os.unlink(records.EGRESS)
            self.asked.bind(records.EGRESS)
            self.asked.listen(1)
            self.asked.setblocking(False)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self.asked.fileno()

    def hand_over(self) -> None:
        """Give the listening socket to whoever asks; called when somebody does."""
        try:
            daemon, _ = self.asked.accept()
        except OSError:  # It is gone again.
            return
        with daemon:
            try:
                socket.send_fds(daemon, [b"1"], [self.listener.fileno()])
            except OSError:
                return

    def close(self) -> None:
        """Stop listening."""
        self.asked.close()
        self.listener.close()


def offer(container: Container, init: int, fields: Fields) -> None:
    """Listen for a job's connections to the proxy, if it may have any; StartFailed says why not."""
    if not fields.one("egress"):
        return
    try:
        container.egress = Handover(init)
    except OSError as fault:
        raise StartFailed(f"{CANNOT_LISTEN}: {fault.strerror}") from fault


def _listen_in(init: int) -> socket.socket:
    """Return a socket that listens in the network namespace of the process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        fault = 255
        try:
            namespace_limits.enter(init)
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.bind(ADDRESS)
            listener.listen(BACKLOG)
            socket.send_fds(theirs, [b"1"], [listener.fileno()])
            fault = 0
        except OSError as error:
            fault = error.errno or fault
        finally:
            os._exit(fault)
    theirs.close()
    fault = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with ours:
        _, found, _, _ = socket.recv_fds(ours, 1, 1) if not fault else (b"", [], 0, None)
    if not found:
        raise OSError(fault, os.strerror(fault))
    return socket.socket(fileno=found[0])
