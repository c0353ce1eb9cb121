"""The demo: five nodes on loopback, one real job on real input, and everything that happened.

Why: a newcomer sees in a minute what the network does, and that its result is right: the same
computation is done here, and both results are compared. `--json` prints one JSON object.
Spec: specs/overview.md#demo.
"""

import argparse
import contextlib
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from scripts.devnet import Devnet, DevnetFailed, NodeProcess, devnet, exit_on_sigterm, show_json

INPUTS: Final = Path(__file__).parent / "demo_input"
PROVIDERS: Final = {"ana": "0.012", "bruno": "0.010", "carla": "0.015", "davi": "0.020"}
"""Who lends a processor, and for how many credits an hour."""
MAX_PRICE: Final = "0.10"


def main() -> int:
    """Run the demo; return 0 if the job's result is right."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    teller = Teller(quiet=as_json)
    exit_on_sigterm()
    try:
        with devnet("mutirao-demo-") as network:
            result = show(network, teller)
    except DevnetFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; all nodes are gone", file=sys.stderr)
        return 130
    if as_json:
        show_json(result)
    else:
        print_result(result)
    return 0 if result["ok"] else 1


class Teller:
    """Says what is going on, unless the output is for a program."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say what is done, and how long it took."""
        begin = time.monotonic()
        if not self._quiet:
            print(f"{what} ... ", end="", flush=True)
        yield
        if not self._quiet:
            print(f"{time.monotonic() - begin:.1f} s")


def show(network: Devnet, teller: Teller) -> dict[str, Any]:
    """Run the job and return everything that is worth telling."""
    with teller.step("starting a requester and four providers, each a process of its own"):
        requester = network.add("requester", {"provider.enabled": "false"})
        for name, price in PROVIDERS.items():
            network.add(name, {"price.cpu_hour": price})
        network.wait_acquainted()
    with teller.step("building a small image from this machine's Python (no registry)"):
        built = requester.mutirao("image", "build-base")
        if built.returncode:
            raise DevnetFailed(f"the image could not be built: {built.stderr}")
    with tempfile.TemporaryDirectory(dir=network.folder) as folder:
        with teller.step("running the job: statistics over 160,000 weather readings"):
            remote, job = run_job(requester, Path(folder) / "outputs")
        with teller.step("doing the same computation here, to compare"):
            local = compute_here(Path(folder) / "local.json")
    names = {node.peer_id: node.name for node in network.nodes}
    winner = next((node for node in network.nodes if node.peer_id == job["provider"]), requester)
    return {
        "ok": remote == local and job["phase"] == "done" and job["exit_code"] == 0,
        "job": job["id"],
        "phase": job["phase"],
        "why": job["why"],
        "requester": requester.peer_id,
        "provider": job["provider"],
        "provider_name": names.get(job["provider"], ""),
        "bids": [{**bid, "name": names.get(bid["peer"], "")} for bid in job["bids"]],
        "price": job["price_hour"],
        "clearing_price": job["runner_up_hour"],
        "usage_ms": job["usage_ms"],
        "amount": job["amount"],
        "steps_ms": {key.removesuffix("_ms"): value for key, value in job["steps"].items()},
        "receipt": job["receipt"],
        "output_sha256": remote,
        "local_sha256": local,
        "sandbox": winner.status()["provider"]["driver"],
    }


def run_job(requester: NodeProcess, outputs: Path) -> tuple[str, dict[str, Any]]:
    """Run the job as a user would; return the digest of its report, and the job."""
    inputs = [f"--input={INPUTS / name}" for name in ("weather.csv", "analyse.py")]
    ran = requester.mutirao(
        "run", "--name=weather", f"--max-price={MAX_PRICE}", *inputs, f"--output={outputs}",
        "base", "--", "python3", "/in/analyse.py",
    )  # fmt: skip
    jobs = requester.api.get("/jobs")
    if not jobs:
        raise DevnetFailed(f"the job was not taken on: {ran.stderr}")
    report = outputs / "report.json"
    digest = hashlib.sha256(report.read_bytes()).hexdigest() if report.exists() else ""
    return digest, jobs[0]


def compute_here(target: Path) -> str:
    """Do the job's computation in this machine's Python; return the digest of the report."""
    script, data = INPUTS / "analyse.py", INPUTS / "weather.csv"
    subprocess.run(
        [sys.executable, str(script), str(data), str(target)], check=True, capture_output=True
    )
    return hashlib.sha256(target.read_bytes()).hexdigest()


def print_result(result: dict[str, Any]) -> None:
    """Print the result for people."""
    print(
        f"\njob {result['job'][:12]}: {result['phase']}"
        + (f" ({result['why']})" if result["why"] else "")
    )
    for bid in sorted(result["bids"], key=lambda bid: bid["ask_hour"]):
        won = "  <- won" if bid["peer"] == result["provider"] else ""
        print(f"  {bid['name']:8} bid {bid['ask_hour']} credits an hour{won}")
    print(f"the winner is paid the runner-up's price: {result['price']} credits an hour")
    steps = ", ".join(f"{key} {value} ms" for key, value in result["steps_ms"].items())
    print(f"steps: {steps}")
    print(f"it ran in the {result['sandbox']} sandbox of {result['provider_name']}")
    if receipt := result["receipt"]:
        print(f"receipt: {receipt['usage_ms']} ms used, {receipt['amount']} credits")
        print(f"  signed by the provider  {receipt['provider_signature'][:32]}...")
        print(f"  and by the requester    {receipt['requester_signature'][:32]}...")
    same = "the same as computed here" if result["ok"] else "NOT the same as computed here"
    print(f"result: sha256 {result['output_sha256'][:32]}..., {same}")


if __name__ == "__main__":
    sys.exit(main())
