"""The probe: one job that attacks its sandbox from inside, the same in every driver.

Prints what was expected and what was seen. Exit code 1 if anything is a finding, 2 if there was no
driver to probe.
Spec: specs/sandbox.md#probe.
"""

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import trio

from node.config import ProviderSettings
from node.egress.egress import Egress
from node.egress.log import EgressLog
from node.sandbox.drivers import DRIVERS
from protocol.values.egress import ANY
from protocol.values.errors import SandboxUnavailable
from protocol.wire.job import Workload
from scripts import abuse
from scripts.attack_rig import Ended, NotHere, Rig, rig, workload_of
from scripts.devnet import show_json
from scripts.probe_job import EGRESS_PROBES, PROBES, Probe

MEMORY_MIB: Final = 128
DISK_MIB: Final = 16
OUTPUT_MIB: Final = 4
PROCESSES: Final = 32
SCRIPTS: Final = ("probe_job.py", "probe_acts.py")
CODE: Final = "from scripts import probe_job; probe_job.main()"
EGRESS_CODE: Final = "from scripts import probe_job; probe_job.main(probe_job.EGRESS_PROBES)"
NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@dataclass(frozen=True, slots=True)
class Difference:
    """What is expected instead where all conditions hold, and why that is no finding."""

    when: str
    name: str
    expected: str
    why: str


BIND_MOUNTS: Final = "the kernel tells from which folder a bind mount comes"
MEMORY: Final = "no number of files, but what they take is the job's memory"
WRITABLE: Final = "/dev/shm /out /scratch /tmp"
WATCHED: Final = "the runner adds up what is there, and ends the job"
PLAIN: Final = "folders of the node; no capability, and no privilege by a program's mode"
REMAP: Final = "user namespaces are for the engine's owner to switch on (userns-remap)"
INIT: Final = "the engine's init is as the job: the same user, filter and files"
DIFFERENCES: Final = (
    Difference("docker", "user ids are", "the machine's", REMAP),
    Difference("docker", "shared with the machine", "user", REMAP),
    Difference("docker", "variables of others", "NVIDIA_VISIBLE_DEVICES=void",
               "it tells the vendor's hooks to do nothing"),
    Difference("docker", "patch the first one's memory", "done", INIT),
    Difference("docker", "look through the first one's root", "done", INIT),
    Difference("docker", "of the node's folders", "mountinfo", BIND_MOUNTS),
    Difference("soft disk", "writable and of any number of files", WRITABLE, WATCHED),
    Difference("soft disk", "writable and larger than allowed", "/out /scratch /tmp", WATCHED),
    Difference("docker, soft disk", "writable and with devices", "/out /scratch /tmp", PLAIN),
    Difference("docker, soft disk", "writable and with user ids set", "/out /scratch /tmp", PLAIN),
    Difference("docker, soft disk", "a program that sets the user id", "taken", PLAIN),
    Difference("docker", "writable and of any number of files", "/dev/shm", MEMORY),
    Difference("embedded", "of the node's folders", "mountinfo", BIND_MOUNTS),
    Difference("embedded", "writable and of any number of files", "/dev/shm", MEMORY),
    Difference("embedded, user", "further groups", "none or 65532 or 65534",
               "only root can give up the groups of the node's user"),
    Difference("embedded, soft pids", "processes", f"bounded or {PROCESSES + 1}",
               "bwrap takes less than what is allowed for it"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """What one probe saw; `why` is there if something else is expected than elsewhere."""

    group: str
    name: str
    expected: str
    seen: str
    why: str

    @property
    def ok(self) -> bool:
        """Whether one of the expected words was seen, whatever was added in brackets."""
        return self.seen.partition(" (")[0] in self.expected.split(" or ")


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one driver."""

    driver: str
    soft: frozenset[str]
    rows: list[Any]

    @property
    def title(self) -> str:
        """Say who attacked what."""
        user = "root" if os.geteuid() == 0 else f"user {os.getuid()}"
        return f"{self.driver}, as {user}; soft limits: {', '.join(sorted(self.soft)) or 'none'}"

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        rows = [asdict(row) | {"ok": row.ok} for row in self.rows]
        return {"uid": os.getuid(), "soft_limits": sorted(self.soft), "rows": rows}


def main() -> int:
    """Probe the drivers that were asked for, or all that are here."""
    parser = argparse.ArgumentParser(
        prog="scripts/probe", description=__doc__.partition("\nSpec:")[0]
    )
    parser.add_argument("--driver", choices=list(DRIVERS), help="probe this one alone")
    greed = "use up memory, processes, disk and more instead, which takes a minute or two"
    parser.add_argument("--abuse", action="store_true", help=greed)
    parser.add_argument("--at-once", action="store_true", help="abuse in all ways at the same time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    abuses = asked.abuse or asked.at_once
    attack = abuse.run_at_once if asked.at_once else abuse.run if asked.abuse else probe_all
    found: dict[str, Found] = {}
    for name in [asked.driver] if asked.driver else DRIVERS:
        try:
            found[name] = trio.run(_in_a_rig, name, attack)
        except NotHere as fault:
            print(f"{name}: not here: {fault}", file=sys.stderr)
        except SandboxUnavailable as fault:
            print(f"error: {name}: {fault}", file=sys.stderr)
            return 1
    if asked.json:
        show_json({name: one.as_json() for name, one in found.items()})
    else:
        for one in found.values():
            print(one.title)
            (abuse.show if abuses else show)(one.rows)
    findings = sum(not row.ok for one in found.values() for row in one.rows)
    return 2 if not found else int(findings > 0)


async def _in_a_rig(name: str, attack: Any) -> Found:
    async with rig(name) as opened:
        return Found(name, opened.driver.soft_limits(), await attack(opened))


async def probe_all(opened: Rig) -> list[Row]:
    """Run both probe jobs: without a way to the network, and with one."""
    return [*await probe(opened), *await probe_egress(opened)]


async def probe(opened: Rig) -> list[Row]:
    """Run the probe job; return a row for each probe, and for what was left afterwards."""
    with _reachable(opened.secret) as port:
        facts = _facts(opened, port)
        (opened.folder / "facts.json").write_text(json.dumps(facts))
        ended = await opened.run(CODE, SCRIPTS, _workload())
    rows = _rows(opened, ended, PROBES, facts)
    left = await opened.processes_left(opened.daemons)
    await opened.remove_runs()
    afterwards = {"processes left": left, "control groups left": opened.groups_left()}
    return rows + [_row(opened, "afterwards", name, "none", word)
                   for name, word in afterwards.items()]  # fmt: skip


async def probe_egress(opened: Rig) -> list[Row]:
    """Run the probe job of the network with a proxy; no rows if the driver offers none."""
    if await opened.driver.check_egress():
        return []
    # The self-test has removed the image.
    opened.image = await opened.driver.selftest_image(opened.folder / "rootfs")
    workload = replace(_workload(), egress=(ANY,))
    with _reachable(opened.secret) as port:
        facts = _facts(opened, port)
        (opened.folder / "facts.json").write_text(json.dumps(facts))
        settings = ProviderSettings(egress="any", egress_ports=(80, 443, port))
        egress = Egress(settings, (ANY,), EgressLog(opened.folder, lambda: 0))
        ended = await opened.run(EGRESS_CODE, SCRIPTS, workload, egress=egress)
    rows = _rows(opened, ended, EGRESS_PROBES, facts)
    await opened.remove_runs()
    return rows


def _workload() -> Workload:
    return workload_of(
        MEMORY_MIB, DISK_MIB, output_mib=OUTPUT_MIB, processes=PROCESSES,
        timeout_ms=60_000, log_mib=1,
    )  # fmt: skip


def _rows(opened: Rig, ended: Ended, probes: Sequence[Probe], facts: dict[str, Any]) -> list[Row]:
    """Return a row for each probe of a job that has ended."""
    result = ended.outputs / "seen.json"
    if not result.is_file():
        raise SandboxUnavailable(f"the probe job did not end well: {ended.exit}\n{ended.log}")
    words = json.loads(result.read_text())
    return [
        _row(opened, one.group, one.name, one.expected.format(**facts), seen)
        for one, seen in zip(probes, words, strict=True)
    ]


def _facts(opened: Rig, port: int) -> dict[str, Any]:
    """Return what the job is told, so that it can look for what it must not find."""
    return {
        "user": str(opened.driver.user_inside),
        "secret": opened.secret,
        "port": port,
        "namespaces": {kind: str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in NAMESPACES},
        "memory_mib": MEMORY_MIB,
        "disk_mib": DISK_MIB,
        "output_mib": OUTPUT_MIB,
        "file_bytes": max(MEMORY_MIB, DISK_MIB, OUTPUT_MIB) << 20,
        "processes": PROCESSES,
        "oom_score": int(Path("/proc/self/oom_score_adj").read_text()),
    }


@contextmanager
def _reachable(secret: str) -> Iterator[int]:
    """Listen where a job must not reach: on loopback, by a nameless socket; and have a secret."""
    os.environ["MUTIRAO_PROBE"] = secret
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as nameless,
    ):
        nameless.bind(f"\0{secret}")
        nameless.listen()
        yield server.getsockname()[1]
    del os.environ["MUTIRAO_PROBE"]


def _row(opened: Rig, group: str, name: str, expected: str, seen: str) -> Row:
    for one in DIFFERENCES:
        if one.name == name and set(one.when.split(", ")) <= opened.conditions:
            return Row(group, name, one.expected, seen, one.why)
    return Row(group, name, expected, seen, "")


def show(rows: list[Row]) -> None:
    """Print the table."""
    group = ""
    for row in rows:
        if row.group != group:
            print(f"\n{row.group}")
        group = row.group
        mark = "ok" if row.ok and not row.why else "declared" if row.ok else "FINDING"
        print(f"  {mark:8}  {row.name:36}  {row.expected:28}  {row.seen}")
        if row.why:
            print(f"            {row.why}")
    findings = sum(not row.ok for row in rows)
    declared = sum(row.ok and bool(row.why) for row in rows)
    print(f"\n{len(rows)} probes, {declared} declared differences, {findings} findings")


if __name__ == "__main__":
    sys.exit(main())
