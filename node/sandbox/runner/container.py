"""The supervisor's interface to a running container of any driver.

Spec: specs/sandbox.md#runner.
"""

import abc

TYPE_CHECKING = False  # As of typing, which takes 10 ms to import.
if TYPE_CHECKING:
    from node.sandbox.runner.egress import Handover

MEMORY_LINE = (
    "the job needed more than its {} MiB of memory, files in memory included; ask for more"
)


class StartFailed(Exception):
    """The container did not start; the text is one line for the user."""


class Usage:
    """What a dead container used; None for values that were not counted."""

    __slots__ = ("cpu_ms", "memory_peak_mib", "out_of_memory")

    def __init__(
        self,
        cpu_ms: int | None,
        memory_peak_mib: int | None,
        out_of_memory: bool,  # noqa: FBT001
    ) -> None:
        self.cpu_ms = cpu_ms
        self.memory_peak_mib = memory_peak_mib
        self.out_of_memory = out_of_memory


class Container(abc.ABC):
    """One container that runs; `log_source` and `exit_source` are descriptors to poll."""

    log_source: int
    exit_source: int
    egress: "Handover | None" = None
    """Where the daemon gets the socket of its proxy, if the job may reach the network."""

    @abc.abstractmethod
    def read_log(self) -> bytes | None:
        """Return new output, b"" if there is none now, None at the end."""

    @abc.abstractmethod
    def drain_log(self) -> bool:
        """Discard new output cheaply; return whether more may come."""

    @abc.abstractmethod
    def exit_code(self) -> int | None:
        """Return the exit code if the container is dead, None while it lives."""

    @abc.abstractmethod
    def excess(self) -> tuple[str, str] | None:
        """Return (reason, detail) if the container broke a limit that only we watch."""

    @abc.abstractmethod
    def members(self) -> list[int]:
        """Return the processes in the container that are known here."""

    @abc.abstractmethod
    def pause(self) -> bool:
        """Stop everything in the container; return whether nothing in it runs.

        Called again at every check during the pause: a stopped process may find a way to resume.
        """

    @abc.abstractmethod
    def resume(self) -> bool:
        """Resume everything in the container; return whether it runs. Called again if not."""

    @abc.abstractmethod
    def terminate(self) -> None:
        """Send SIGTERM to the job's first process, paused or not."""

    @abc.abstractmethod
    def kill(self) -> None:
        """Kill everything in the container, paused or not."""

    @abc.abstractmethod
    def usage(self) -> Usage:
        """Return what the dead container used."""

    @abc.abstractmethod
    def complaint(self, line: str) -> str:
        """Return the error in a log line of the program that starts the command.

        "" if the line is not from that program.
        """

    @abc.abstractmethod
    def outputs(self) -> int:
        """Return a descriptor of the container's /out, which outlives it."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release the dead container: nothing of it is left alive."""
