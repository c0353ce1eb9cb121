"""A real training: PyTorch in an image of a registry, a folder as its user has it, a provider whose
owner reclaims the machine in the middle, and another one where it goes on.

Spec: specs/checkpoints.md#example.
"""

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.devnet import Devnet
from tests.end_to_end import torch_image
from tests.end_to_end.fixtures import (
    ended,
    events_of,
    job_of,
    log_of,
    named,
    network_of,
    owner_of,
    receipt_of,
    start,
    until,
)
from tests.node.registry.real_registry import RealRegistry, needs_registry, running

pytestmark = [needs_registry, torch_image.needs_torch, pytest.mark.timeout(400)]

FOLDER = Path(__file__).parents[2] / "scripts/torch_job"
SCRIPT = str(FOLDER / "train.py")
PROVIDERS = {"reclaimed": "0.010", "other": "0.011"}
"""Providers and their prices: the job comes to them in this order."""
SHORT_EPOCHS = 2
PARAMETERS = 6
"""Weights and biases of three layers."""
TRAINING_S = 12
"""Processor time of the training: it must not be over before its first checkpoint has travelled."""


class Training:
    """The job, and what was seen of it."""

    def __init__(self, network: Devnet, reference: str, epochs: int) -> None:
        self.network, self.epochs = network, epochs
        self.requester = named(network, "requester")
        pulled = self.requester.mutirao("image", "pull", reference)
        assert pulled.returncode == 0, pulled.stderr
        self.job = start(
            self.requester, f"--input={FOLDER}", "--memory=1G", "--checkpoint=/out/checkpoint",
            "--checkpoint-every=5s", reference, "--", "python3", "train.py", f"--epochs={epochs}",
        )  # fmt: skip
        self.view: dict[str, Any] = {}
        self.outputs = Path()

    def interrupt(self) -> None:
        """Take the machine back from the first provider, when the training has a checkpoint."""
        until(lambda: job_of(self.requester, self.job)["checkpoint"], "a checkpoint", 120)
        reclaimed = named(self.network, "reclaimed").mutirao("reclaim")
        assert reclaimed.returncode == 0, reclaimed.stderr

    def finish(self, folder: Path) -> None:
        """Wait for the end of the job and fetch its outputs."""
        self.view, self.outputs = ended(self.requester, self.job, 200), folder
        fetched = self.requester.mutirao("outputs", self.job, str(folder))
        assert fetched.returncode == 0, fetched.stderr

    def log(self) -> list[str]:
        """The log of the attempt that finished it."""
        return log_of(self.requester, self.job).splitlines()

    def saved(self) -> int:
        """How many epochs it found in the checkpoint."""
        return int(self.log()[0].removeprefix("resumed after epoch "))

    def losses(self) -> list[float]:
        return json.loads((self.outputs / "losses.json").read_text())


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[RealRegistry]:
    with running(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Path:
    """The outputs of a short training on this machine, which is resumed once, too."""
    return tmp_path_factory.mktemp("short")


@pytest.fixture(scope="module")
def training(registry, short, image, tmp_path_factory) -> Iterator[Training]:
    torch_image.traced(short, SCRIPT, f"--epochs={SHORT_EPOCHS}", f"--out={short}")
    names, shown = torch_image.traced(
        short, SCRIPT, f"--epochs={SHORT_EPOCHS + 1}", f"--out={short}"
    )
    layer = io.BytesIO()
    torch_image.write_layer(layer, names)
    registry.push("team/torch", [layer.getvalue()], "+zstd", "latest")
    del layer
    epochs = math.ceil(TRAINING_S / float(re.findall(r"in ([\d.]+) s", shown)[-1]))
    settings = {name: {"price.cpu_hour": price} for name, price in PROVIDERS.items()}
    with network_of(settings, image) as network:
        training = Training(network, f"{registry.name}/team/torch", epochs)
        training.interrupt()
        training.finish(tmp_path_factory.mktemp("fetched"))
        yield training


def test_it_ends_well_on_the_other_provider(training: Training) -> None:
    assert (training.view["phase"], training.view["exit_code"]) == ("done", 0)
    assert owner_of(training.network, training.view["provider"]) == "other"
    reasons = [failed["reason"] for failed in training.view["failed_attempts"]]
    assert reasons == ["provider-stopped"]


def test_it_went_on_from_its_checkpoint(training: Training) -> None:
    saved, lines = training.saved(), training.log()
    assert 0 < saved < training.epochs
    epochs = [int(line.split()[1]) for line in lines[1:]]
    assert epochs == list(range(saved + 1, training.epochs + 1))
    losses = training.losses()
    assert losses[-1] < losses[saved] < losses[0]


def test_its_losses_are_those_of_a_training_on_this_machine(training: Training, short) -> None:
    """Wherever it is interrupted: the one here is as well, after other epochs."""
    losses = training.losses()
    assert len(losses) == training.epochs
    compared = min(training.saved() + 2, training.epochs)
    torch_image.traced(short, SCRIPT, f"--epochs={compared}", f"--out={short}")
    here = json.loads((short / "losses.json").read_text())
    assert here == losses[: len(here)]
    assert len(here) > training.saved()


def test_the_model_is_fetched(training: Training) -> None:
    with zipfile.ZipFile(training.outputs / "model.pt") as model:
        assert model.testzip() is None
        assert len([name for name in model.namelist() if "/data/" in name]) == PARAMETERS


def test_the_provider_that_finished_it_is_paid(training: Training) -> None:
    """The owner who took the machine back is not: that lease has no bill."""
    requester = training.requester
    awards = [
        event["detail"]
        for event in events_of(requester, training.job)
        if event["kind"] == "awarded"
    ]
    first, last = (award["lease_id"] for award in awards)
    paid = receipt_of(requester, "requester", last)
    assert paid is not None
    assert paid.amount > 0
    assert paid == receipt_of(named(training.network, "other"), "provider", last)
    for node, role in (
        (requester, "requester"),
        (named(training.network, "reclaimed"), "provider"),
    ):
        assert receipt_of(node, role, first) is None
