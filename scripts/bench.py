"""Benchmarks of the node.

Why: speed is measured here and never asserted in a test, because machines are noisy. Floors and
ratios from the same run make figures of different machines comparable, and the load says whether
something else was running.
Spec: specs/overview.md#bench.
"""

import argparse
import sys

from node.sandbox.drivers import DRIVERS
from scripts.bench_award import bench_award, show_award
from scripts.bench_bidders import SIZES, bench_bidders, show_bidders
from scripts.bench_core import bench_core, show_core
from scripts.bench_data import bench_data, show_data
from scripts.bench_disk import bench_disk, show_disk
from scripts.bench_files import bench_files, show_files
from scripts.bench_job import bench_job, show_job
from scripts.bench_market import bench_market, show_market
from scripts.bench_simulate import bench_simulate, show_simulate
from scripts.bench_takeover import bench_takeover, show_takeover
from scripts.devnet import DevnetFailed, exit_on_sigterm, show_json


def main() -> int:
    """Run one benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    benches = parser.add_subparsers(dest="bench", required=True)
    job = benches.add_parser("job", help="a job's way through 5 processes, step by step")
    job.add_argument("--jobs", type=int, default=30, help="how many jobs (at least 20 count)")
    job.add_argument(
        "--sandbox", choices=tuple(DRIVERS), default="embedded",
        help="what holds the jobs; never what the machine happens to have",
    )  # fmt: skip
    core = benches.add_parser("core", help="what a step costs a node that knows very much")
    core.add_argument("--records", type=int, default=20_000, help="capability records")
    core.add_argument("--jobs", type=int, default=1_000, help="open jobs")
    core.add_argument("--leases", type=int, default=64, help="leases that others have of the node")
    core.add_argument("--ended", type=int, default=100_000, help="jobs that have ended")
    core.add_argument("--rounds", type=int, default=100, help="how often each step is measured")
    market = benches.add_parser("market", help="many small jobs on four providers")
    market.add_argument("--jobs", type=int, default=1_000, help="how many jobs")
    market.add_argument("--seconds", type=float, default=0.2, help="how long each of them sleeps")
    market.add_argument("--sandbox", choices=tuple(DRIVERS), default="embedded")
    market.add_argument("--peers", action="store_true", help="the same on Ray and on Dask, too")
    award = benches.add_parser("award", help="the time to an award, by the number of processes")
    award.add_argument("--processes", type=int, nargs="+", default=[5, 10, 20])
    award.add_argument("--rounds", type=int, default=20, help="jobs of each kind")
    takeover = benches.add_parser("takeover", help="how soon a job of a dead provider runs again")
    takeover.add_argument("--rounds", type=int, default=5, help="accidents of each kind")
    bidders = benches.add_parser("bidders", help="an award among up to 10,000 providers, simulated")
    bidders.add_argument("--providers", type=int, nargs="+", default=SIZES)
    bidders.add_argument("--jobs", type=int, default=10, help="how many jobs, after three others")
    bidders.add_argument("--seed", type=int, default=1, help="of delays and ids")
    simulate = benches.add_parser("simulate", help="what the simulator carries, and at what cost")
    simulate.add_argument("--largest", type=int, default=1_000_000, help="the most nodes")
    simulate.add_argument("--peers", action="store_true", help="SimPy, and Dask and Ray, too")
    files = benches.add_parser("files", help="many small files, to a job and back")
    files.add_argument("--inputs", type=int, default=100_000, help="files that a job reads")
    files.add_argument("--outputs", type=int, default=10_000, help="files that a job leaves")
    disk = benches.add_parser("disk", help="what a job's disk costs, and a large file's memory")
    disk.add_argument("--rounds", type=int, default=30, help="containers of each kind")
    disk.add_argument("--mib", type=int, default=1536, help="size of the large file")
    data = benches.add_parser("data", help="how fast blobs travel, beside a bare TLS socket")
    data.add_argument("--mib", type=int, default=1024, help="the size of the large blob")
    data.add_argument("--rounds", type=int, default=3, help="how often each way is measured")
    for bench in (data, job, core, market, award, takeover, bidders, simulate, files, disk):
        bench.add_argument("--json", action="store_true", help="print JSON for programs")
    asked = parser.parse_args()
    exit_on_sigterm()
    try:
        if asked.bench == "job":
            found, show = bench_job(asked.jobs, asked.sandbox), show_job
        elif asked.bench == "data":
            found, show = bench_data(asked.mib, asked.rounds), show_data
        elif asked.bench == "market":
            found = bench_market(asked.jobs, asked.seconds, asked.sandbox, peers=asked.peers)
            show = show_market
        elif asked.bench == "disk":
            found, show = bench_disk(asked.rounds, asked.mib), show_disk
        elif asked.bench == "files":
            found, show = bench_files(asked.inputs, asked.outputs), show_files
        elif asked.bench == "award":
            found, show = bench_award(asked.processes, asked.rounds), show_award
        elif asked.bench == "bidders":
            found = bench_bidders(asked.providers, asked.jobs, asked.seed)
            show = show_bidders
        elif asked.bench == "simulate":
            found, show = bench_simulate(asked.largest, peers=asked.peers), show_simulate
        elif asked.bench == "takeover":
            found, show = bench_takeover(asked.rounds), show_takeover
        else:
            sizes = (asked.records, asked.jobs, asked.leases)
            found, show = bench_core(sizes, asked.ended, asked.rounds), show_core
    except DevnetFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show_json(found) if asked.json else show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
