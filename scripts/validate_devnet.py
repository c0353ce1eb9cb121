"""Five real node processes against their own simulation.

Why: the simulator runs the node's own core, but not what is around it: sockets, cryptography, the
disk. One constant stands for all that. It is fitted to one half of the sealed jobs, and the other
half and jobs of another kind are predicted with it.
Spec: specs/validation.md#devnet.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from node.simulator.runs import simulate
from node.simulator.trace_replay import compare, fit, pairs_of, scenario_of
from node.simulator.traces import read_trace
from scripts.devnet import DevnetFailed, NodeProcess, devnet
from scripts.validate_studies import Effort, Study, Target

PROVIDERS: Final = 4
WARM_UPS: Final = 8
"""By then streams stand, it is known who answers, and the image is where it is needed."""
ROUND: Final = ("vickrey", "vickrey", "quick")
"""The jobs of a round; the constant is fitted to the first of each."""
WORK: Final = ("sleep", "1")
TIMEOUT_MS: Final = 3_600_000
TOLERANCE_PERCENT: Final = 25
IMAGE_S: Final = 120


def record(file: Path, rounds: int) -> None:
    """Run jobs on five processes one after the other, and write the trace of their requester."""
    with devnet("mutirao-validate-") as network:
        requester = network.add("requester", {"provider.enabled": "false"})
        for number in range(PROVIDERS):
            settings = {"price.cpu_hour": f"0.0{number + 10}", "provider.sandbox": "embedded",
                        "provider.cpus": "4"}  # fmt: skip
            network.add(f"provider-{number}", settings)
        network.wait_acquainted()
        image = requester.api.post("/images/base", timeout_s=IMAGE_S)["digest"]
        for number, profile in enumerate(("vickrey",) * WARM_UPS + ROUND * rounds):
            _run_one(requester, image, profile, number)
        done = requester.mutirao("record", "--out", str(file))
        if done.returncode != 0:
            raise DevnetFailed(done.stderr)


def _run_one(requester: NodeProcess, image: str, profile: str, number: int) -> None:
    """Run a job to its end; each is of a class of its own, so no auction is shared."""
    body = {"image": image, "command": [*WORK], "max_price": "1.0", "memory_mib": 64,
            "timeout_ms": TIMEOUT_MS + number, "profile": profile}  # fmt: skip
    job = requester.api.post("/jobs", body)
    events = [event.data for event in requester.api.events(f"/jobs/{job['id']}/events")]
    if events[-1]["kind"] != "done":
        raise DevnetFailed(f"a job failed: {events[-1]['detail']}")


def differences(file: Path, rounds: int) -> dict[str, float]:
    """Fit the constant to a trace, and return how far simulated medians are, in percent."""
    recording, scenario = read_trace(file), scenario_of(file, {})
    fitted = _places(rounds, 0)
    processing_us = fit(recording, scenario, fitted)
    tables, _ = simulate(scenario.changed({"processing_us": processing_us}))
    pairs, jobs = list(pairs_of(recording, tables["jobs"])), tables["jobs"]

    def of(places: Sequence[int]) -> Mapping[str, Any]:
        measures = compare([pairs[place] for place in places], jobs)
        return {each.name: abs(each.difference_percent[0] or 0) for each in measures}

    sealed, quick = of(_places(rounds, 1)), of(_places(rounds, 2))
    return {
        "V7 processing": processing_us / 1000,
        "V7 award": sealed["award_ms"], "V7 end": sealed["end_ms"],
        "V7 quick award": quick["award_ms"], "V7 quick end": quick["end_ms"],
    }  # fmt: skip


def _places(rounds: int, place: int) -> range:
    """Return the places of the jobs at one place of their rounds."""
    return range(WARM_UPS + place, WARM_UPS + rounds * len(ROUND), len(ROUND))


def _measure(effort: Effort, seed: int) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"trace-{seed}.jsonl"
        record(file, effort.devnet_rounds)
        return differences(file, effort.devnet_rounds)


SOURCE: Final = "five processes on this machine, recorded by `mutirao record`"


def _target(key: str, what: str) -> Target:
    return Target(key, f"{what}: difference (%)", "at most 25", 0, TOLERANCE_PERCENT, SOURCE, 0)


STUDIES: Final = (
    Study("V7 devnet", _measure, (
        _target("V7 award", "median time to award, sealed jobs"),
        _target("V7 end", "median time end to end, sealed jobs"),
        _target("V7 quick award", "median time to award, quick jobs"),
        _target("V7 quick end", "median time end to end, quick jobs"),
    ), is_live=True),
)  # fmt: skip
