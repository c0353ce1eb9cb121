"""Supervise one container to its end: log, time-out, budget, kill, then outputs and the result.

One loop decides everything. It sleeps in poll(2) and checks all limits four times a second, so that
a container ends in time even without a daemon.

Spec: specs/sandbox.md#runner.
"""

import errno
import os
import select
import time

from node.sandbox.runner import collect, disk_watch, log_file, records
from node.sandbox.runner.container import MEMORY_LINE, Container, Usage
from node.sandbox.runner.records import Fields

TICK_MS = 250
DEATH_MS = 10_000
LOG_TAIL_MS = 500
TOLD_MAX = 10  # Things left out of the outputs that the log names.
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # The exit codes of shells and Docker.
EXECUTION_MARKS = ("execvp {}: ", "exec {} failed: ")
"""The prefixes with which bwrap and Docker's init report why a command cannot be executed."""

Verdict = tuple[str, str]  # A reason and one line for the user.


class Watch:
    """A container with its clock and its log."""

    __slots__ = (
        "container", "control", "disk", "fields", "log", "log_open", "paused_ms",
        "paused_since_ms", "poll", "started_ms",
    )  # fmt: skip

    def __init__(self, container: Container, fields: Fields, control: int) -> None:
        self.container = container
        self.fields = fields
        self.control = control
        self.disk = disk_watch.DiskWatch(fields)
        self.log = log_file.LogFile(records.LOG, fields.number("log_mib", 1))
        self.log_open = True
        self.started_ms = now_ms()
        self.paused_ms = 0
        self.paused_since_ms: int | None = None
        self.poll = select.poll()
        for descriptor in (container.log_source, container.exit_source, control):
            self.poll.register(descriptor, select.POLLIN)
        if container.egress:
            self.poll.register(container.egress.fileno(), select.POLLIN)

    def age_ms(self) -> int:
        """Return how long the container has run, less pauses."""
        until_ms = now_ms() if self.paused_since_ms is None else self.paused_since_ms
        return until_ms - self.started_ms - self.paused_ms

    def pause(self) -> int:
        """Pause the container until its budget grows; return for how many ms more it may stay so.

        Returns 0 also if it cannot be stopped.
        """
        if self.paused_since_ms is None and self.fields.number("pause_ms"):
            self.paused_since_ms = now_ms()
            self._tell_pause()
        if self.paused_since_ms is None or not self.container.pause():
            return 0
        return max(0, self.paused_since_ms + self.fields.number("pause_ms") - now_ms())

    def resume(self) -> None:
        """Resume a paused container; if that fails for now, its usage still does not grow."""
        if self.paused_since_ms is not None and self.container.resume():
            self.paused_ms += now_ms() - self.paused_since_ms
            self.paused_since_ms = None
            self._tell_pause()

    def note_state(self) -> None:
        """Write the container's usage for the daemon, on a clock that both can read."""
        numbers = {
            "runner": os.getpid(),
            "out": self.container.outputs(),
            "started_ms": self.started_ms,
            "paused_ms": self.paused_ms,
            "paused_since_ms": self.paused_since_ms or 0,
        }
        pairs = [(key, str(value)) for key, value in numbers.items()]
        records.write(records.STATE, pairs, durable=False)

    def _tell_pause(self) -> None:
        try:
            self.note_state()
        except OSError:  # The disk is full: the daemon reads the usage at the end.
            return

    def take_log(self) -> None:
        """Append new output to the log; called when there is some."""
        more: bool
        if self.log.full:
            more = self.container.drain_log()
        else:
            data = self.container.read_log()
            more = data is not None
            self.log.add(data or b"")
        if not more:
            self.log_open = False
            self.poll.unregister(self.container.log_source)


def supervise(watch: Watch) -> None:
    """Run until the container is dead and its result is written."""
    container = watch.container
    verdict = _watch_to_end(watch)
    code = container.exit_code()
    if code is None:
        container.kill()
        code = _await_death(watch)
    else:
        verdict = None  # It ended by itself, perhaps just before it was to be stopped.
    usage_ms = watch.age_ms()
    _take_tail(watch)
    usage = container.usage()
    if verdict is None:
        code, verdict = _judge(code, usage, watch)
    refused: list[str] = []
    try:
        refused = _collect(watch) if verdict[0] != "failed" else []
    except OSError as fault:
        verdict = ("failed", f"the outputs could not be stored: {fault.strerror}")
        collect.discard(records.OUTPUTS)  # The result needs room, too.
    if watch.log.fault:
        verdict = ("failed", f"the log could not be stored: {watch.log.fault}")
    watch.log.close()
    container.close()
    write_result(code, verdict, (usage_ms, usage), refused)


def write_result(code: int, verdict: Verdict, used: tuple[int, Usage], refused: list[str]) -> None:
    """Write the final record of how the container ended."""
    usage_ms, usage = used
    numbers = {
        "exit_code": code,
        "usage_ms": usage_ms,
        "cpu_ms": usage.cpu_ms,
        "memory_peak_mib": usage.memory_peak_mib,
    }
    pairs = [(key, str(value)) for key, value in numbers.items() if value is not None]
    pairs += [("reason", verdict[0]), ("detail", verdict[1])]
    records.write(records.RESULT, pairs + [("refused", line) for line in refused])


def now_ms() -> int:
    """Return the monotonic time in ms."""
    return time.monotonic_ns() // 1_000_000


def _watch_to_end(watch: Watch) -> Verdict | None:
    """Return None when the container ended by itself, else why it must end."""
    container = watch.container
    while container.exit_code() is None:
        verdict, left_ms = _overdue(watch)
        if verdict:
            return verdict
        for descriptor, _ in watch.poll.poll(min(TICK_MS, left_ms)):
            if descriptor == container.log_source and watch.log_open:
                watch.take_log()
            elif descriptor == watch.control and _is_killed(watch):
                return ("killed", "the job was stopped")
            elif container.egress and descriptor == container.egress.fileno():
                container.egress.hand_over()
        verdict = container.excess() or watch.disk.excess(container)
        if verdict:
            return verdict
    return None


def _is_killed(watch: Watch) -> bool:
    """Obey the daemon's commands; return whether the container must end at once."""
    words = os.read(watch.control, 4096)
    if b"t" in words:
        watch.container.terminate()
    return b"k" in words


def _overdue(watch: Watch) -> tuple[Verdict | None, int]:
    """Return why the container's time is over, if it is, and in how many ms to check again.

    A container that has used its budget is paused until the next voucher.
    """
    timeout_ms = watch.fields.number("timeout_ms")
    age_ms = watch.age_ms()
    budget = records.read(records.BUDGET)
    budget_ms = budget.number("ms") if budget else timeout_ms
    if age_ms >= timeout_ms:
        return ("timeout", f"the job ran longer than its time-out of {_seconds(timeout_ms)}"), 0
    if age_ms >= budget_ms:
        left_ms = watch.pause()
        verdict = ("budget", f"the paid time of {_seconds(budget_ms)} is over")
        return (None, left_ms) if left_ms else (verdict, 0)
    watch.resume()
    return None, min(timeout_ms, budget_ms) - age_ms


def _await_death(watch: Watch) -> int:
    """Return the exit code of a container that was killed; 137 if it is unknown."""
    deadline_ms = now_ms() + DEATH_MS
    while now_ms() < deadline_ms:
        code = watch.container.exit_code()
        if code is not None:
            return code
        for descriptor, _ in watch.poll.poll(TICK_MS):
            if descriptor == watch.container.log_source and watch.log_open:
                watch.take_log()
            elif descriptor == watch.control:
                os.read(watch.control, 4096)  # It is being killed already.
    return 137


def _take_tail(watch: Watch) -> None:
    """Read the rest of the dead container's output from the pipe."""
    deadline_ms = now_ms() + LOG_TAIL_MS
    while watch.log_open and not watch.log.full and now_ms() < deadline_ms:
        ready = [descriptor for descriptor, _ in watch.poll.poll(0)]
        if watch.container.log_source not in ready:
            break
        watch.take_log()


def _collect(watch: Watch) -> list[str]:
    """Collect the outputs; log and return what was left out."""
    size = watch.fields.number("output_mib") << 20
    found = collect.collect(watch.container.outputs(), records.OUTPUTS, size)
    if found.refused:
        more = found.refused_count - TOLD_MAX  # The list is bounded, and its end says so.
        rest = [f"and {more} more"] if more > 0 else []
        watch.log.say(f"not in the outputs: {'; '.join(found.refused[:TOLD_MAX] + rest)}")
    return found.refused


def _judge(code: int, usage: Usage, watch: Watch) -> tuple[int, Verdict]:
    """Return how a container ended that the runner did not kill; the kernel may have."""
    if code == 0:
        return code, ("exited", "")
    if usage.out_of_memory:
        return code, ("memory", MEMORY_LINE.format(watch.fields.number("memory_mib")))
    if code > 128:
        return code, ("exited", f"the command ended by signal {code - 128}")
    complaint = watch.container.complaint(watch.log.last_line())
    for mark in EXECUTION_MARKS:
        begin = mark.format(watch.fields.one("command"))
        if complaint.startswith(begin):
            return _not_executed(watch, complaint.removeprefix(begin))
    if note := watch.disk.note():
        watch.log.say(note)
    line = complaint[:300] or note or f"the command ended with exit code {code}"
    return code, ("exited", line)


def _not_executed(watch: Watch, why: str) -> tuple[int, Verdict]:
    """Log that the command could not be executed; return a shell's exit code and the verdict."""
    command = ascii(watch.fields.one("command"))[1:-1][:200]
    missing = why == os.strerror(errno.ENOENT)
    line = f"{command}: not found in the image" if missing else f"{command}: {why[:80]}"
    watch.log.say(line)
    return NOT_FOUND if missing else NOT_EXECUTABLE, ("exited", line)


def _seconds(duration_ms: int) -> str:
    """Return a duration as a user reads it."""
    return f"{duration_ms / 1000:g} s"
