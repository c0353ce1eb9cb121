"""Trains a small network with PyTorch; stopped, it goes on where it was when it runs again.

An example of a job as its user would write it. It saves its whole state
to `<out>/checkpoint` after each epoch and when it is told to stop, by a rename, and leaves the
model in `<out>/model.pt` and the losses of all epochs in `<out>/losses.json`. Generated data and a
fixed seed: a run that was interrupted has the losses of one that was not.

    mutirao run --input . --output result --checkpoint /out/checkpoint IMAGE -- python3 train.py

Spec: specs/checkpoints.md#example.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

STEPS = 100
BATCH = 128
RATE = 0.001
DECAY = 0.98


class Training:
    """A model, what trains it, and how far it has come."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.model = nn.Sequential(
            nn.Linear(2, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 1)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), RATE)
        self.decay = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, DECAY)
        self.losses: list[float] = []

    def epoch(self) -> None:
        """Train on new points of the function; note the mean loss."""
        total = 0.0
        for _ in range(STEPS):
            points = torch.rand(BATCH, 2) * 4 - 2
            wanted = torch.sin(3 * points[:, :1]) * torch.cos(2 * points[:, 1:])
            loss = nn.functional.mse_loss(self.model(points), wanted)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        self.decay.step()
        self.losses.append(total / STEPS)

    def save(self, place: Path) -> None:
        """Replace the checkpoint: what lies at the path is always whole."""
        new = place.with_suffix(".new")
        state = {part: getattr(self, part).state_dict() for part in ("model", "optimizer", "decay")}
        torch.save({**state, "losses": self.losses, "random": torch.get_rng_state()}, new)
        new.replace(place)

    def resume(self, place: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(place)
        for part in ("model", "optimizer", "decay"):
            getattr(self, part).load_state_dict(state[part])
        self.losses = state["losses"]
        torch.set_rng_state(state["random"])


class Stop:
    """Whether the job was told to stop; it is asked between two epochs."""

    def __init__(self) -> None:
        self.told = False
        signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, *_: object) -> None:
        self.told = True


def main() -> int:
    """Train for the wanted epochs; return 1 if it was told to stop before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("/out"))
    options = parser.parse_args()
    stop, training = Stop(), Training()
    checkpoint = options.out / "checkpoint"
    if checkpoint.exists():
        training.resume(checkpoint)
        print("resumed after epoch", len(training.losses), flush=True)
    while len(training.losses) < options.epochs and not stop.told:
        begin = time.process_time()
        training.epoch()
        training.save(checkpoint)
        seconds, loss = time.process_time() - begin, training.losses[-1]
        print(f"epoch {len(training.losses)} loss {loss:.6f} in {seconds:.2f} s", flush=True)
    if stop.told:
        return 1
    torch.save(training.model.state_dict(), options.out / "model.pt")
    (options.out / "losses.json").write_text(json.dumps(training.losses))
    return 0


if __name__ == "__main__":
    sys.exit(main())
