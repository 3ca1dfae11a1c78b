"""Train and evaluate on 1, 2 and 4 ranks, and on 2, then 1, then 4: the same loss at every step,
the same predictions.

Real processes with gloo. A run that goes on with other ranks is stopped in the middle of its second
and third epoch.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from tests.faults.launching import SMALL, pack_digits, run_on_ranks
from tests.faults.report import Options, Row, run
from train.run.folder import read_metrics

FP32 = 2e-6  # relative difference of a loss within 18 steps: gradients are summed in another order
BF16 = 5e-2  # activations are rounded to 8 bits, so what is summed in another order differs by that
# the last global batch has 5 samples, 4 ranks share them as 2 2 1 0
NUM_TRAIN, NUM_VAL, BATCH, EPOCHS = 45, 23, 8, 3
STEPS = -(-NUM_TRAIN // BATCH)
PLAIN = ["--optimizer", "sgd", "--momentum", "0.9", "--lr", "0.02"]
# All that has a state beside the weights; dropout has one, too, but other masks on another number
# of ranks.
STATEFUL = ["--optimizer", "adamw", "--lr", "0.002", "--schedule", "cosine", "--warmup-epochs", "1"]
STATEFUL += ["--ema-decay", "0.9", "--clip-norm", "1", "--weight-decay", "0.05"]


class Runs:
    """Trains into one folder, on a dataset packed once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, pack_digits(folder, NUM_TRAIN, NUM_VAL)

    def train(self, name: str, stops: Sequence[tuple[int, int]], *flags: str) -> np.ndarray:
        """Train as run `name` in parts of (ranks, steps until it stops or 0); return the loss of
        each step.
        """
        losses = []
        for part, (num_ranks, stop) in enumerate(stops):
            record = self.folder / f"{name}.{part}.losses"
            args = [
                "--data",
                str(self.data),
                *SMALL,
                "--epochs",
                str(EPOCHS),
                "--global-batch-size",
                str(BATCH),
            ]
            args += ["--out", str(self.folder / name), "--resume", *flags]
            done = run_on_ranks(num_ranks, "tests.faults.recorded", str(record), str(stop), *args)
            told = done.stdout + done.stderr
            if not stop and done.returncode:
                raise RuntimeError(f"status {done.returncode}:\n{told}")
            if stop and (
                done.returncode == 0 or "go on with the same command and --resume" not in told
            ):
                raise RuntimeError(f"did not stop after {stop} steps:\n{told}")
            if f"on {num_ranks} process" not in told:
                raise RuntimeError(f"not on {num_ranks} ranks:\n{told}")
            losses += global_losses(record, num_ranks)
        return np.array(losses)

    def evaluate(self, name: str, num_ranks: int, out: str) -> list[bytes]:
        """Evaluate a run's last checkpoint; return predictions.npz and per_class.csv."""
        args = [
            "eval",
            "--ckpt",
            str(self.folder / name / "last"),
            "--out",
            str(self.folder / out),
            "--local-batch-size",
            "4",
        ]
        done = run_on_ranks(num_ranks, *args)
        if done.returncode:
            raise RuntimeError(f"status {done.returncode}:\n{done.stdout}{done.stderr}")
        return [
            (self.folder / out / file).read_bytes() for file in ("predictions.npz", "per_class.csv")
        ]

    def weights(self, name: str, which: str = "model") -> dict[str, torch.Tensor]:
        return safetensors.torch.load_file(self.folder / name / f"last/{which}.safetensors")


def global_losses(record: Path, num_ranks: int, whole: bool = True) -> list[float]:
    """Add up the shares of all ranks; every rank must have taken the same steps, over the same
    counts. Of ranks that were killed (not `whole`) one may be a step behind.
    """
    files = [Path(f"{record}.{rank}") for rank in range(num_ranks)]
    ranks = [[json.loads(line) for line in path.read_text().splitlines()] for path in files]
    steps = zip(*ranks, strict=whole)
    losses = []
    for parts in steps:
        if len({count for _, count in parts}) != 1:
            raise RuntimeError(f"{record}: ranks count differently: {parts}")
        losses.append(sum(share for share, _ in parts) / parts[0][1])
    return losses


def compare(
    row: Row, name: str, losses: np.ndarray, expected: np.ndarray, tolerance: float
) -> float:
    """Check the loss of every step; return the greatest relative difference."""
    if len(losses) != EPOCHS * STEPS:
        row.check(False, f"{name}: {len(losses)} steps, not {EPOCHS * STEPS}")
        return np.inf
    difference = float(np.max(np.abs(losses / expected - 1)))
    row.check(difference <= tolerance, f"{name}: a loss differs by {difference:.1e}")
    return difference


def epoch_losses(run_folder: Path) -> list[list[float]]:
    """Read the losses of every epoch, of training and validation."""
    return [[line["train_loss"], line["val_loss"]] for line in read_metrics(run_folder)]


def losses_on_any_ranks(
    runs: Runs, options: Options, title: str, flags: list[str], tolerance: float
) -> Row:
    """One rank against 2 and 4, and against a run that moves from 2 ranks to 1 to 4."""
    row = Row(f"elastic training, {title}")
    expected = runs.train(f"{title}-1", [(1, 0)], *flags)
    plans = {"2-1-4": [(2, STEPS + 2), (1, STEPS + 1), (4, 0)]}
    if not options.quick:
        plans |= {"2": [(2, 0)], "4": [(4, 0)], "1-4-2": [(1, 1), (4, 2 * STEPS), (2, 0)]}
    differences = []
    for name, plan in plans.items():
        # 1 or 5
        losses = runs.train(f"{title}-{name}", plan, *flags, "--num-threads", str(len(name)))
        differences.append(compare(row, name, losses, expected, tolerance))
        one, other = (epoch_losses(runs.folder / f"{title}-{each}") for each in ("1", name))
        row.check(np.allclose(one, other, rtol=tolerance), f"{name}: metrics.jsonl differs")
    row.tried = f"{', '.join(plans)} ranks; greatest difference of a step {max(differences):.1e}"
    return row


def same_bits_again(runs: Runs) -> Row:
    """With dropout: the same ranks and the same stops give the same bits, also where ranks have
    joined.
    """
    row, flags = Row("elastic training, dropout, twice alike"), [*STATEFUL, "--drop-rate", "0.3"]
    plan = [(2, STEPS + 2), (4, 0)]
    first, second = (runs.train(f"dropout-{time}", plan, *flags) for time in (1, 2))
    row.check(first.tolist() == second.tolist(), "losses differ")
    for which in ("model", "ema"):
        one, two = (runs.weights(f"dropout-{time}", which) for time in (1, 2))
        row.check(all(torch.equal(one[name], two[name]) for name in one), f"{which} differs")
    row.tried = "2 to 4 ranks, losses, weights and averages bit for bit"
    return row


def same_predictions(runs: Runs, options: Options, name: str) -> Row:
    """predictions.npz: each key once, in the order of the dataset, byte for byte on any ranks."""
    row, plan = Row("evaluation on 1, 2 and 4 ranks"), (2, 4) if not options.quick else (2,)
    expected = runs.evaluate(name, 1, "eval-1")
    keys = np.load(runs.folder / "eval-1/predictions.npz")["keys"].tolist()
    samples = np.load(runs.data / "val/keys.npy").astype(str).tolist()
    row.check(
        keys == samples and len(set(keys)) == NUM_VAL,
        "keys are not those of the dataset, once, in order",
    )
    for num_ranks in plan:
        found = runs.evaluate(name, num_ranks, f"eval-{num_ranks}")
        row.check(found == expected, f"{num_ranks} ranks: other bytes")
    row.tried = f"{NUM_VAL} keys on 1, {', '.join(map(str, plan))} ranks, bytes of predictions.npz and per_class.csv"
    return row


def experiments(options: Options) -> Iterator[Row]:
    runs = Runs(options.folder)
    yield losses_on_any_ranks(runs, options, "fp32-adamw-ema-cosine", STATEFUL, FP32)
    yield same_predictions(runs, options, "fp32-adamw-ema-cosine-1")
    if not options.quick:
        yield losses_on_any_ranks(runs, options, "fp32-sgd", PLAIN, FP32)
        near = ["--order", "near", "--shuffle-groups", "4", "--mixup", "0.3"]
        yield losses_on_any_ranks(runs, options, "fp32-near", [*PLAIN, *near], FP32)
        yield losses_on_any_ranks(
            runs, options, "bf16-adamw-ema-cosine", [*STATEFUL, "--precision", "bf16"], BF16
        )
        yield same_bits_again(runs)


if __name__ == "__main__":
    run(experiments, __doc__ or "")
