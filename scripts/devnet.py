"""A small network of real node processes on loopback, for the demo, the benchmarks and the tests.

Why: whatever is shown or measured runs the same `mutirao up` as everybody's node, one process each,
and everything is stopped and removed at the end, whatever happens in between.
Spec: specs/overview.md#devnet.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from node.cli.connection import Connection
from node.cli.failure import CliError

LISTEN: Final = "/ip4/127.0.0.1/tcp/0"
READY_S: Final = 60.0
ACQUAINTED_S: Final = 60.0
STOP_S: Final = 6.0
COMMAND_S: Final = 300.0
POLL_S: Final = 0.1


class DevnetFailed(Exception):
    """A node did not start, or died."""


@dataclass(slots=True)
class NodeProcess:
    """One node: its process, its data folder and its API."""

    name: str
    data: Path
    environment: Mapping[str, str]
    arguments: Sequence[str]
    module: str = "node"
    """The program; another than `node` for one that breaks the rules."""
    process: subprocess.Popen[bytes] | None = None
    address: str = ""
    peer_id: str = ""

    @property
    def api(self) -> Connection:
        return Connection(self.data / "api.sock")

    @property
    def log(self) -> Path:
        return self.data.with_suffix(".log")

    def start(self) -> None:
        """Start the process, again at its old address; `wait_ready` says when it can be used."""
        assert self.process is None
        listen = self.address.partition("/p2p/")[0] or LISTEN
        place = ["--data", str(self.data), "--listen", listen]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "up", *place, *self.arguments],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we stop the nodes in order.
            )

    def wait_ready(self) -> None:
        """Wait until the API answers; DevnetFailed with the log's end if it never does."""
        self.wait_for(lambda: bool(self.status()), "its API to answer", READY_S)
        status = self.status()
        self.address, self.peer_id = status["addresses"][0], status["peer_id"]

    def status(self) -> dict[str, Any]:
        """Return the node's status; empty as long as it does not answer."""
        try:
            found: dict[str, Any] = self.api.get("/status")
        except CliError:
            return {}
        return found

    def wait_for(self, condition: Callable[[], bool], what: str, limit_s: float) -> None:
        """Wait until a condition holds; DevnetFailed if the node dies or time is over."""
        end = time.monotonic() + limit_s
        while not condition():
            if self.process is None or self.process.poll() is not None:
                raise DevnetFailed(f"{self.name} died while waiting for {what}:\n{self.tail()}")
            if time.monotonic() > end:
                raise DevnetFailed(f"{self.name}: waited {limit_s} s for {what}:\n{self.tail()}")
            time.sleep(POLL_S)

    def tail(self) -> str:
        """Return the last lines of the node's log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-20:])

    def mutirao(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line against this node; it may take COMMAND_S."""
        options = {"text": True, "capture_output": True, "timeout": COMMAND_S, **options}
        return subprocess.run(**self.command(*arguments), check=False, **options)

    def command(self, *arguments: str) -> dict[str, Any]:
        """Return what subprocess needs to run a command of the command line against this node.

        A job may cost 1.00 an hour unless it says otherwise: then all nodes bid.
        """
        limit = {"MUTIRAO_REQUESTER__PRICE_MAX_HOUR": "1.00"}
        environment = limit | os.environ | {"MUTIRAO_SOCKET": str(self.data / "api.sock")}
        return {"args": [sys.executable, "-m", "node", *arguments], "env": environment}

    def stop(self) -> int:
        """Stop the process as a user would; return its exit code, or -9 if it had to be killed."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.wait_stopped()

    def wait_stopped(self) -> int:
        """Wait for the end of a process that was told to stop; return its exit code as `stop`."""
        if self.process is None:
            return 0
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        return code

    def kill(self) -> None:
        """Kill the process as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None


@dataclass(slots=True)
class Devnet:
    """Nodes of one network; the first is the bootstrap peer of the others."""

    folder: Path
    nodes: list[NodeProcess] = field(default_factory=list)

    def add(
        self, name: str, settings: Mapping[str, str] | None = None, module: str = "node"
    ) -> NodeProcess:
        """Start one more node. Settings are as in the configuration: {"price.cpu_hour": "0.02"}.

        A node asks its list price unless the settings give it a floor: then asks can be predicted.
        """
        # All share this machine: what runs in a sandbox must not wait for what runs beside it.
        given = {"price.floor_percent": "100", "provider.cpu_weight": "100", **(settings or {})}
        environment = {
            "MUTIRAO_" + key.upper().replace(".", "__"): value for key, value in given.items()
        }
        arguments = ["--bootstrap", self.nodes[0].address] if self.nodes else []
        node = NodeProcess(name, self.folder / name, environment, arguments, module)
        self.nodes.append(node)
        node.start()
        if len(self.nodes) == 1:  # The others need its address.
            node.wait_ready()
        return node

    def wait_acquainted(self) -> None:
        """Wait until every node knows what every other offers."""
        for node in self.nodes:
            node.wait_ready()
        for node in self.nodes:
            node.wait_for(
                lambda node=node: len(node.api.get("/offers")) >= len(self.nodes),
                f"the offers of {len(self.nodes)} nodes",
                ACQUAINTED_S,
            )

    def stop(self) -> dict[str, int]:
        """Stop all nodes at once; return their exit codes by name."""
        for node in self.nodes:
            if node.process is not None:
                node.process.send_signal(signal.SIGTERM)
        # Once only: a second SIGTERM would mean "at once".
        return {node.name: node.wait_stopped() for node in self.nodes}


@contextmanager
def devnet(prefix: str = "mutirao-") -> Iterator[Devnet]:
    """Make a network in a temporary folder; stop it and remove the folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    network = Devnet(folder)
    try:
        yield network
    finally:
        network.stop()
        shutil.rmtree(folder, ignore_errors=True)


def exit_on_sigterm() -> None:
    """Let SIGTERM end this process as an exception does, so that its nodes are stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def show_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2))
