"""Transcripts: what is done to a few nodes, a line, and everything that they did then.

Spec: specs/overview.md#tests. `pytest --rewrite` records those in tests/transcripts again;
read the difference like prose before you keep it. Times are seconds since the network was made.
"""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.machines.effects import Effect, Report, Save
from protocol.values.ids import JobId
from protocol.wire.job import QUICK, VICKREY
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node

FOLDER = Path(__file__).parent.parent / "transcripts"
TRANSCRIPTS = sorted(FOLDER.glob("*.txt"))
LINE = "----"
PROFILES = {"quick": QUICK, "vickrey": VICKREY}


class Interpreter:
    """A network that obeys lines of text. Each public method is a command."""

    def __init__(self) -> None:
        self._network = SimulatedNetwork(1)
        self._nodes: dict[str, Node] = {}
        self._jobs: list[tuple[Node, JobId]] = []
        self._read = 0
        self._mute: list[tuple[str, str, str]] = []
        self._network.drop = self._drops
        self._network.crash_point = lambda node, todo: None

    def run_command(self, line: str) -> None:
        name, *words = line.split()
        command: Callable[..., None] = getattr(self, name.replace("-", "_"))
        plain = [word for word in words if "=" not in word]
        options = dict(word.split("=") for word in words if "=" in word)
        command(*plain, **options)

    def new_lines(self) -> str:
        """Return what happened since the last time that somebody asked."""
        lines, self._read = self._network.log[self._read:], len(self._network.log)  # fmt: skip
        return "".join(f"{at_ms / 1000:8.3f}  {line}\n" for at_ms, line in lines)

    # Who is there.

    def requester(self, name: str) -> None:
        self._nodes[name] = self._network.add(name)

    def provider(
        self, name: str, cpu: str = "1000", cpus: str = "4", audit_percent: str = "0"
    ) -> None:
        policy = provider_policy(int(cpu), int(cpus), audit_percent=int(audit_percent))
        self._nodes[name] = self._network.add(name, policy)

    def meet(self) -> None:
        self._network.meet()

    # What its user does.

    def submit(self, name: str, profile: str = "vickrey", **terms: str) -> None:
        numbers = {key: int(value) for key, value in terms.items()}
        spec = job_spec(profile=PROFILES[profile], **numbers)
        self._jobs.append((self._nodes[name], self._network.submit(self._nodes[name], spec)))

    def submit_gang(self, name: str, **terms: str) -> None:
        node, numbers = self._nodes[name], {key: int(value) for key, value in terms.items()}
        members = self._network.submit_gang(node, job_spec(**numbers))
        self._jobs += [(node, member) for member in members]

    def cancel(self, name: str) -> None:
        self._network.cancel(self._nodes[name], self._jobs[-1][1])

    # What the network does.

    def jobs_take(self, job_ms: str) -> None:
        self._network.job_ms = int(job_ms)

    def stopping_takes(self, stop_ms: str) -> None:
        self._network.stop_ms = int(stop_ms)

    def exits_with(self, name: str, code: str) -> None:
        self._network.exit_codes[name] = int(code)

    def delay(self, low_ms: str, high_ms: str) -> None:
        self._network.delay_ms = (int(low_ms), int(high_ms))

    def far_away(self, name: str) -> None:
        """Let a node be 83 ms from all others, and these 7 ms from each other."""
        self._network.round_trip_us = lambda *names: 83_000 if name in names else 7_000

    def double(self) -> None:
        self._network.doubled = 1.0

    def cannot_prepare(self, name: str) -> None:
        self._network.prepare_fails.add(name)

    def mute(self, sender: str, receiver: str, message: str) -> None:
        """Lose what one says to another; a star stands for anybody or anything."""
        self._mute.append((sender, receiver, message))

    def heal(self) -> None:
        self._mute.clear()

    def crash(self, name: str) -> None:
        self._network.crash(self._nodes[name])

    def crash_once_written(self, name: str, what: str) -> None:
        """Crash when a state or an event of this class is on the disk, and nothing is sent yet."""

        def crash_point(node: Node, todo: list[Effect]) -> int | None:
            written = {type(effect.state).__name__ for effect in todo if isinstance(effect, Save)}
            told = {type(effect.event).__name__ for effect in todo if isinstance(effect, Report)}
            if node.name != name or what not in written | told:
                return None
            self._network.crash_point = lambda node, todo: None
            return 0

        self._network.crash_point = crash_point

    def stop(self, name: str) -> None:
        self._network.stop(self._nodes[name])

    def restart(self, name: str) -> None:
        self._network.restart(self._nodes[name])

    # How time passes.

    def run(self, duration_ms: str) -> None:
        self._network.run(int(duration_ms))

    def until(self, *words: str) -> None:
        """Let time pass until a line with these words is in the transcript."""
        wanted, begun = " ".join(words), len(self._network.log)
        log = self._network.log
        found = self._network.run_until(lambda: any(wanted in line for _, line in log[begun:]))
        assert found, f"waited for {wanted!r} in vain:\n{self.new_lines()}"

    def until_ended(self) -> None:
        over = self._network.run_until(lambda: all(n.online and self._network.ended(n, j)
                                                 for n, j in self._jobs))  # fmt: skip
        assert over, f"the jobs do not end:\n{self.new_lines()}"
        self._network.run(2_000)

    def holds_nothing(self) -> None:
        """No node has anything left of any auction or lease, but bills that nobody took."""
        self._network.run(120_000)
        for node in self._nodes.values():
            core = node.core
            assert not len(core.requester.scheduler.auctions)
            assert not core.requester.scheduler.awards.states
            assert not core.requester.scheduler.queue
            assert not core.requester.leases.states
            assert core.provider.left(node.policy.capacity) == node.policy.capacity
            assert not [lease for lease, c in node.containers.items() if c.exited is None]

    def _drops(self, sender: str, receiver: str, message: object) -> bool:
        found = (sender, receiver, type(message).__name__)
        return any(
            all(want in {"*", have} for want, have in zip(rule, found, strict=True))
            for rule in self._mute
        )


def replayed(transcript: str) -> str:
    """Return a transcript with what happens now."""
    interpreter, told, listening = Interpreter(), "", True
    for line in transcript.splitlines():
        if line == LINE:
            told += f"{LINE}\n{interpreter.new_lines()}"
            listening = False
        elif not line.strip():
            told += "" if told.endswith("\n\n") else "\n"
            listening = True
        elif listening:
            told += f"{line}\n"
            if not line.startswith("#"):
                interpreter.run_command(line)
    return told


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, request: pytest.FixtureRequest) -> None:
    recorded = path.read_text()
    happened = replayed(recorded)
    if request.config.getoption("--rewrite"):
        path.write_text(happened)
    else:
        assert happened.splitlines() == recorded.splitlines()


def test_every_command_is_used() -> None:
    commands = {
        name.replace("_", "-") for name, _ in inspect.getmembers(Interpreter, inspect.isfunction)
        if not name.startswith("_") and name not in {"run_command", "new_lines"}
    }  # fmt: skip
    used = {line.split()[0] for path in TRANSCRIPTS for line in path.read_text().splitlines()
            if line[:1].isalpha()}  # fmt: skip
    assert used == commands
