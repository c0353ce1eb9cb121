"""Many small files, to a job and back, beside what tar needs for the same.

Why: a file costs time wherever it is one thing among many. A ratio to tar, in the same
run, says how much of that is ours.
Spec: specs/overview.md#bench.
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from scripts.bench_figures import timed_command
from scripts.devnet import DevnetFailed, NodeProcess, devnet

FILE_BYTES: Final = 300
FOLDER_FILES: Final = 250
"""Files of one folder."""
WRITE: Final = (
    "import os\n"
    "for n in range({count}):\n"
    " os.makedirs(f'/out/{{n // 250}}', exist_ok=True)\n"
    " open(f'/out/{{n // 250}}/{{n}}', 'w').write(str(n) * 60)\n"
)
COUNT: Final = "import os; print(sum(len(files) for _, _, files in os.walk('.')))"
OPTIONS: Final = ("--memory=1G", "--disk=2G", "--json")


def bench_files(inputs: int, outputs: int) -> dict[str, Any]:
    """Send so many small files to a job, and fetch so many from one; return milliseconds."""
    with devnet("mutirao-bench-") as network, tempfile.TemporaryDirectory() as name:
        load = {"start": os.getloadavg()[0]}
        requester = network.add("requester", {"provider.enabled": "false"})
        network.add("provider", {"provider.sandbox": "embedded", "provider.memory_mib": "2048"})
        network.wait_acquainted()
        requester.api.post("/images/base", timeout_s=120)
        timed_command(requester, "run", *OPTIONS, "base", "--", "true")
        found = {
            "outputs": _outputs(requester, outputs, Path(name)),
            "inputs": _inputs(requester, inputs, Path(name)),
        }
        load["end"] = os.getloadavg()[0]
    return {"load": load, "files": {"inputs": inputs, "outputs": outputs}, "ms": found}


def _outputs(requester: NodeProcess, count: int, folder: Path) -> dict[str, float]:
    """Measure a job that leaves many files, and a fetch of them."""
    options = (*OPTIONS, "base", "--", "python3", "-c", WRITE.format(count=count))
    took_ms, printed = timed_command(requester, "run", *options)
    job = json.loads(printed.splitlines()[-1])["job"]
    target = folder / "fetched"
    fetch_ms, _ = timed_command(requester, "outputs", job["id"], str(target))
    fetched = sum(len(files) for _, _, files in os.walk(target))
    if fetched != count:
        raise DevnetFailed(f"{fetched} of {count} files came back")
    return {
        "run": took_ms,
        "return": job["steps"]["return_ms"],
        "fetch": fetch_ms,
        "tar": _tar(target, folder / "unpacked outputs"),
    }


def _inputs(requester: NodeProcess, count: int, folder: Path) -> dict[str, float]:
    """Measure a job that gets many files."""
    source = folder / "source"
    for number in range(count):
        place = source / str(number // FOLDER_FILES)
        if number % FOLDER_FILES == 0:
            place.mkdir(parents=True)
        (place / str(number)).write_bytes(b"%d" % number + bytes(FILE_BYTES))
    options = (*OPTIONS, f"--input={source}", "base", "--", "python3", "-c", COUNT)
    took_ms, printed = timed_command(requester, "run", *options)
    lines = [json.loads(line) for line in printed.splitlines()]
    job, seen = lines[-1]["job"], "".join(line.get("log", "") for line in lines)
    if seen.strip() != str(count):
        raise DevnetFailed(f"the job saw {seen.strip()} of {count} files")
    again_ms, _ = timed_command(requester, "run", *options)
    return {
        "run": took_ms,
        "before_submit": took_ms - (job["ended_ms"] - job["submitted_ms"]),
        "start": job["steps"]["start_ms"],
        "run_again": again_ms,
        "tar": _tar(source, folder / "unpacked inputs"),
    }


def _tar(source: Path, target: Path) -> float:
    """Return how long tar takes to copy a folder, synced, as the node's copy is."""
    target.mkdir()
    begin = time.perf_counter()
    script = 'tar -C "$0" -c . | tar -C "$1" -x && sync -f "$1"'
    subprocess.run(["sh", "-c", script, str(source), str(target)], check=True)
    return (time.perf_counter() - begin) * 1000


def show_files(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    print("load {start:.1f} at the start, {end:.1f} at the end".format(**found["load"]))
    for part, values in found["ms"].items():
        print(f"\n{found['files'][part]} {part}, ms")
        for key, value in values.items():
            print(f"  {key.replace('_', ' '):20}{value:12.0f}{value / values['tar']:10.1f} x tar")
