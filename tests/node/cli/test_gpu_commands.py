"""The command that shows GPUs. Spec: specs/rpc.md#command-line."""

import json
import signal
from dataclasses import replace

from node.rpc.gpu_views import GpusView
from tests.node.cli.conftest import start_cli
from tests.node.rpc.recorded import BUSY_GPU, PEER

QUIET = replace(
    BUSY_GPU, uuid="MIG-1", gpu_class="h200-mig", part_of="GPU-2", lease=None, requester=None,
    utilisation_percent=None, memory_used_mib=None, temperature_c=None, power_w=None,
    ecc_errors=None,
)  # fmt: skip


def test_gpus(cli, daemon):
    parts = (
        BUSY_GPU, QUIET, replace(QUIET, uuid="MIG-2", lent=False),
        replace(QUIET, uuid="MIG-3", lent=False, trouble="it is gone"),
    )  # fmt: skip
    daemon.service.gpus_view = GpusView(parts, "1 of 3 NVIDIA GPUs do not answer")
    told = cli("gpus")
    lines = [line.split("  ") for line in told.out.splitlines()]
    rows = [[cell.strip() for cell in line if cell] for line in lines]
    assert rows[1] == [
        "GPU-1", "h200", "87%", "2 GiB of 140.4 GiB", "71 °C", "312 of 700 W", "0",
        f"lease abababababab of …{PEER[-8:]}",
    ]  # fmt: skip
    assert rows[2] == ["MIG-1", "h200-mig", "-", "-", "-", "-", "-", "free"]
    assert rows[3][-1] == "not lent"
    assert rows[4][-1] == "in trouble: it is gone"
    assert told.err == "1 of 3 NVIDIA GPUs do not answer\n"
    assert len(cli("gpus", "--json").json["gpus"]) == 4


def test_a_machine_without_gpus(cli, daemon):
    daemon.service.gpus_view = GpusView((), "no NVIDIA driver library (libnvidia-ml.so.1)")
    told = cli("gpus")
    assert (told.code, told.out, told.err) == (
        0, "", "no NVIDIA driver library (libnvidia-ml.so.1)\n",
    )  # fmt: skip


def test_a_watch_ends_quietly(daemon):
    process = start_cli("gpus", "--watch", "--json", socket=daemon.socket)
    assert json.loads(process.stdout.readline())["gpus"]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")
