"""The same jobs given to Ray and to Dask: schedulers of one owner's machines, without a sandbox.

Why: they pay nobody, trust everybody and isolate nothing, so a market can at best come near to
them. They run in an environment of their own, .cache/peers, which is made once.
Spec: specs/overview.md#bench.
"""

import json
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / ".cache" / "peers"
PACKAGES: Final = {"ray": "ray", "dask": "distributed"}
OTHERS: Final = ("simpy",)
"""What other benchmarks compare with."""
INSTALL_S: Final = 900
RUN_S: Final = 900


def bench_peers(jobs: int, seconds: float, workers: int, threads: int) -> dict[str, Any]:
    """Give each peer so many jobs on so many slots; return seconds, jobs per second and use."""
    python = python_of_peers()
    found = {}
    for peer in PACKAGES:
        asked = [peer, str(jobs), str(seconds), str(workers), str(threads)]
        done = subprocess.run(
            [python, Path(__file__), *asked], capture_output=True, text=True, timeout=RUN_S,
            check=False,
        )  # fmt: skip
        if done.returncode:
            found[peer] = {"error": (done.stderr.strip().splitlines() or ["no word"])[-1]}
            continue
        took_s = json.loads(done.stdout.splitlines()[-1])
        found[peer] = {
            "seconds_total": round(took_s, 1),
            "jobs_per_second": round(jobs / took_s, 1),
            "slot_time_used": round(jobs * seconds / (workers * threads * took_s), 2),
        }
    return found


def python_of_peers() -> Path:
    """Return the Python of the peers' environment, which is made if it is not there."""
    python = FOLDER / "bin" / "python"
    stamp = FOLDER / "installed-2"  # Another number when the packages are others.
    if not stamp.exists():
        print("installing Ray and Dask into .cache/peers: minutes, once ...", file=sys.stderr)
        venv.create(FOLDER, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES.values(), *OTHERS], check=True, timeout=INSTALL_S)
        stamp.touch()
    return python


def run_on_ray(jobs: int, command: list[str], workers: int, threads: int) -> float:
    """Return how many seconds Ray takes, on one node with so many processors."""
    import ray

    ray.init(num_cpus=workers * threads, include_dashboard=False, log_to_driver=False)
    task = ray.remote(subprocess.call)
    ray.get([task.remote(["true"]) for _ in range(2 * workers * threads)])
    begin = time.perf_counter()
    codes = ray.get([task.remote(command) for _ in range(jobs)])
    return _checked(codes, begin)


def run_on_dask(jobs: int, command: list[str], workers: int, threads: int) -> float:
    """Return how many seconds Dask takes, with so many worker processes of so many threads."""
    from distributed import Client

    with Client(n_workers=workers, threads_per_worker=threads, dashboard_address=None) as client:
        client.gather(client.map(_call, range(2 * workers * threads), command=["true"]))
        begin = time.perf_counter()
        codes = client.gather(client.map(_call, range(jobs), command=command, pure=False))
        return _checked(codes, begin)


def _call(_: int, command: list[str]) -> int:
    return subprocess.call(command)


def _checked(codes: list[int], begin: float) -> float:
    took_s = time.perf_counter() - begin
    if any(codes):
        raise SystemExit("a job failed")
    return took_s


if __name__ == "__main__":
    name, count, seconds_each, worker_count, thread_count = sys.argv[1:]
    run = {"ray": run_on_ray, "dask": run_on_dask}[name]
    print(run(int(count), ["sleep", seconds_each], int(worker_count), int(thread_count)))
