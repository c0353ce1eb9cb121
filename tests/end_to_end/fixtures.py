"""What the end-to-end tests share: networks of real nodes, and ways to look at what they do.

Everything here waits for a condition, for a bounded time, and says what it waited for.
Spec: specs/overview.md#tests.
"""

import os
import secrets
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from node.cli.failure import CliError
from protocol.wire.envelope import Signed, network_id, open_envelope
from scripts.devnet import Devnet, NodeProcess, devnet

NETWORK = network_id("mutirao")
ENDED = ("done", "failed", "cancelled")
POLL_S = 0.03
OPEN_NETWORKS: list[Devnet] = []
"""Networks that run now: the logs of their nodes go into the report of a test that fails."""


@contextmanager
def network_of(
    providers: Mapping[str, Mapping[str, str]], image: Path, program: str = "node"
) -> Iterator[Devnet]:
    """A network of a node called requester, which runs a program, and of providers with settings.

    The sandbox is the one that every machine has, so that the tests are the same everywhere. The
    network must end as it should: no node may have written a traceback.
    """
    with devnet("mutirao-e2e-") as network:
        OPEN_NETWORKS.append(network)
        try:
            give_image(network.folder / "requester", image)
            network.add("requester", {"provider.enabled": "false"}, program)
            for name, settings in providers.items():
                network.add(name, {"provider.sandbox": "embedded", **settings})
            network.wait_acquainted()
            yield network
            assert_honest(network)
            network.stop()
            assert_quiet_logs(network)
        finally:
            OPEN_NETWORKS.remove(network)


def give_image(data: Path, image: Path) -> None:
    """Let a node that has not been started yet have the base image."""
    data.mkdir(mode=0o700, exist_ok=True)
    shutil.copytree(image, data / "blobs")


def assert_honest(network: Devnet) -> None:
    """No node has done what none may do in its state, neither to a peer nor to itself."""
    for node in network.nodes:
        if node.process is not None and node.process.poll() is None:
            assert node.api.get("/status")["illegal"] == {}, node.name


def assert_quiet_logs(network: Devnet) -> None:
    for node in network.nodes:
        text = node.log.read_text(errors="replace")
        assert "Traceback" not in text, f"{node.name}:\n{text[-4000:]}"


def until(condition: Callable[[], Any], what: str, limit_s: float = 20) -> Any:
    """Return the condition's value as soon as it is true; AssertionError if it never is."""
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {limit_s} s for {what}"
        time.sleep(POLL_S)
    return found


def named(network: Devnet, name: str) -> NodeProcess:
    return next(node for node in network.nodes if node.name == name)


def owner_of(network: Devnet, peer: str) -> str:
    """The name of the node with this peer id."""
    return next(node.name for node in network.nodes if node.peer_id == peer)


# --- jobs -------------------------------------------------------------------------------------


def run(node: NodeProcess, *arguments: str, code: int = 0):
    """`mutirao run`, which must end with this exit code."""
    ran = node.mutirao("run", *arguments)
    assert ran.returncode == code, f"exit code {ran.returncode}: {ran.stdout}{ran.stderr}"
    return ran


def refused(node: NodeProcess, *arguments: str, code: int, saying: str) -> str:
    """Run a command that must fail with this code and one clear line; return what it said."""
    ran = node.mutirao(*arguments)
    assert ran.returncode == code, f"exit code {ran.returncode}: {ran.stdout}{ran.stderr}"
    assert saying in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stderr
    lines = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, ran.stderr
    return ran.stderr


def start(node: NodeProcess, *arguments: str) -> str:
    """`mutirao run --detach`; return the job's id."""
    return run(node, "--detach", *arguments).stdout.strip()


def job_of(node: NodeProcess, job: str) -> dict[str, Any]:
    return node.api.get(f"/jobs/{job}")


def newest(node: NodeProcess) -> dict[str, Any]:
    return node.api.get("/jobs", limit=1)[0]


def reached(node: NodeProcess, job: str, *phases: str, limit_s: float = 30) -> dict[str, Any]:
    """Wait until a job is in one of the phases; return it."""

    def there() -> dict[str, Any] | None:
        view = job_of(node, job)
        assert view["phase"] in phases or view["phase"] not in ENDED, view
        return view if view["phase"] in phases else None

    return until(there, f"job {job[:12]} to be {' or '.join(phases)}", limit_s)


def ended(node: NodeProcess, job: str, limit_s: float = 60) -> dict[str, Any]:
    """Wait until a job has ended; return it."""
    return reached(node, job, *ENDED, limit_s=limit_s)


def events_of(node: NodeProcess, job: str) -> list[dict[str, Any]]:
    """All events of a job that has ended: kind and detail."""
    return [event.data for event in node.api.events(f"/jobs/{job}/events")]


def log_of(node: NodeProcess, job: str) -> str:
    return b"".join(node.api.download(f"/jobs/{job}/logs")).decode(errors="replace")


def is_free(node: NodeProcess) -> bool:
    """Whether all that a node lends is free."""
    provider = node.status().get("provider")
    return provider is not None and provider["free"] == provider["total"]


# --- processes --------------------------------------------------------------------------------


def sleep_command() -> str:
    """A command that sleeps ten minutes, unlike any other: what follows finds it by this.

    A job that has to last sleeps until the test wakes it, so that no test depends on how fast
    the machine is. Woken, it ends with 143, and the shell that ran it goes on.
    """
    return f"sleep 600.{secrets.randbelow(10**9):09d}"


def count_sleeping(command: str) -> int:
    """How many containers run this sleep: its own process is one, bwrap's are not counted."""
    return len(_sleeping(command))


def end_sleep(
    command: str, node: NodeProcess | None = None, how: signal.Signals = signal.SIGTERM
) -> int:
    """End this sleep in every container, or in those of one node; return how many there were."""
    found = [
        pid for pid in _sleeping(command)
        if node is None or any(_works_in(node.data, parent) for parent in _lineage(pid))
    ]  # fmt: skip
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, how)
    return len(found)


def processes_with(words: str) -> list[str]:
    """The command lines of this machine that contain the words, but for those of `mutirao`."""
    return [line for line in _processes().values() if words in line and " -m node " not in line]


def left_behind(node: NodeProcess) -> list[str]:
    """Processes that work in a node's data folder: runners and what they started."""
    return [
        line for pid, line in _processes().items()
        if " -m node " not in line and (str(node.data) in line or _works_in(node.data, pid))
    ]  # fmt: skip


def _sleeping(command: str) -> list[int]:
    return [pid for pid, line in _processes().items() if line.strip() == command]


def _lineage(pid: int) -> Iterator[int]:
    """The ancestors of a process."""
    with suppress(OSError):  # It ended while we looked.
        while pid := _parent_of(pid):
            yield pid


def _works_in(folder: Path, pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder)
    except OSError:  # It has ended, or is none of ours.
        return False


def _parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("PPid:")[2].split(maxsplit=1)[0])


def _processes() -> dict[int, str]:
    """The command line of every process of this machine, by its id."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # It ended while we looked.
            line = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(place.parent.name)] = line
    return found


# --- what lies in the data folder -------------------------------------------------------------


class Entry(NamedTuple):
    """A receipt in a node's books."""

    usage_ms: int
    amount: int
    proposal: bytes
    countersign: bytes


def receipt_of(node: NodeProcess, role: str, lease: str) -> Entry | None:
    """What a node, as provider or requester, has written down about a lease."""
    rows = rows_of(
        node,
        "SELECT usage_ms, amount, proposal, countersign FROM receipts"
        " WHERE role = ? AND lease_id = ?",
        role,
        bytes.fromhex(lease),
    )
    return Entry(*rows[0]) if rows else None


def rows_of(node: NodeProcess, query: str, *values: object) -> list[tuple[Any, ...]]:
    """What a query finds in the file of a node."""
    database = sqlite3.connect(f"file:{node.data / 'node.db'}?mode=ro", uri=True)
    try:
        return database.execute(query, values).fetchall()
    finally:
        database.close()


def opened(envelope: bytes, signer: NodeProcess) -> Signed:
    """The message in an envelope, which this node must have signed for this network."""
    signed = open_envelope(envelope, NETWORK, signer.peer_id)
    assert signed.signer == signer.peer_id
    return signed


def lease_of(node: NodeProcess, job: str) -> str:
    """The id of the last lease of a job that has ended."""
    awards = [event for event in events_of(node, job) if event["kind"] == "awarded"]
    return awards[-1]["detail"]["lease_id"]


def offers_of(node: NodeProcess) -> dict[str, dict[str, Any]]:
    """What a node knows of the others' offers, by peer; nothing while it does not answer."""
    try:
        return {offer["peer"]: offer for offer in node.api.get("/offers")}
    except CliError:
        return {}
