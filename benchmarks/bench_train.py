"""The trainer's images/s against the bare step: the same model, precision and optimiser on one
ready batch.

    python benchmarks/bench_train.py data/voc --model resnet18 --precision bf16 --global-batch-size
    16 python benchmarks/bench_train.py data/voc --model resnet18 --compare-precision

The trainer is train.loop.Session.train_epoch as it is (loader, copy to the device, optimiser step,
meter). The bare step is plain PyTorch, written out here: what the hardware does where data costs
nothing. Both take turns in a process. Run it on a quiet machine: beside a second job with a compute
thread per core, 75 ms of CPU time per step (test_resnet, two cores) became 700 to 3,000.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from note import circumstances, ratios, spread, table, tell
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from shards.index import DatasetIndex, open_split
from shards.loader import Loader
from shards.pipeline.batch import Batch
from train.config import TrainConfig
from train.loop import Session
from train.network.model import build_classifier, head_parameters
from train.optimise.optim import build_optimizer
from train.run.progress import Progress
from train.run.stop import Stop

PACKAGES = ("torch", "timm", "accelerate", "simplejpeg", "opencv-python-headless", "numpy")
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
TIMED = "The timed region: {what} One turn of each before the first round is not counted."
TIMED_TRAINER = (
    "the trainer's steps from the first look at its loader, whose threads start then, to the end "
    "of the last optimiser step (a CUDA device synchronised), by the trainer's own meter; as many "
    "bare steps on a batch that is already on the device."
)
TIMED_BARE = (
    "bare steps on a batch that is on the device already (a CUDA device synchronised at the end)."
)


class StopAfter(Stop):
    """Ask the trainer to stop when it has looked as often as there are steps to take: it looks once
    a step.
    """

    def __init__(self, num_steps: int) -> None:
        self._left = num_steps

    @property
    def asked(self) -> bool:  # type: ignore[override]
        self._left -= 1
        return self._left <= 0


class BareStep:
    """A model of its own, trained on one batch over and over, without loader, masks or accelerate."""

    def __init__(
        self, config: TrainConfig, index: DatasetIndex, batch: Batch, device: torch.device
    ) -> None:
        torch.manual_seed(config.seed)
        self._model, _ = build_classifier(config, index)
        self._model.to(device).train()
        head = head_parameters(self._model.network)
        self._optimizer = build_optimizer(self._model, head, config)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._images, self._labels = batch.images.to(device), batch.labels.to(device)
        self._dtype, self._device = AUTOCAST.get(config.precision), device

    def images_per_second(self, num_steps: int) -> float:
        """Time so many steps."""
        started = time.perf_counter()
        for _ in range(num_steps):
            self._step()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return num_steps * len(self._images) / (time.perf_counter() - started)

    def _step(self) -> None:
        self._optimizer.zero_grad()
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None):
            logits = self._model(self._images)
        loss = binary_cross_entropy_with_logits(logits.float(), self._labels)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()


def parse() -> argparse.Namespace:
    """Read the command line; defaults that matter to no other command are here, the rest are
    TrainConfig's.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="packed dataset, such as data/voc")
    parser.add_argument("--model", default="resnet18", help="name of a timm model")
    parser.add_argument(
        "--weights", default="", help="local state dict to start from; from scratch where not given"
    )
    parser.add_argument("--precision", default="bf16", choices=("no", "bf16", "fp16"))
    parser.add_argument("--global-batch-size", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2, help="loader threads")
    parser.add_argument("--steps", type=int, default=40, help="steps per turn, at most an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--compare-precision",
        action="store_true",
        help="bare step in fp32 and in --precision instead",
    )
    parser.add_argument("--out", default="", help="also write the note here")
    return parser.parse_args()


def configuration(args: argparse.Namespace, folder: str, precision: str) -> TrainConfig:
    """Make the run's configuration: SGD with momentum, its rate low so that the loss stays finite
    however long.
    """
    return TrainConfig(
        data=args.data,
        out=folder,
        model=args.model,
        weights=args.weights,
        size=args.size,
        global_batch_size=args.global_batch_size,
        precision=precision,  # type: ignore[arg-type]
        lr=0.001,
        momentum=0.9,
        num_threads=args.threads,
        tensorboard=False,
    )


def one_batch(args: argparse.Namespace, index: DatasetIndex) -> Batch:
    """Make a batch of real photographs."""
    return next(iter(Loader(index, args.global_batch_size, args.size, num_threads=args.threads)))


@contextmanager
def run_folder() -> Iterator[str]:
    """Lend a run folder that nobody keeps."""
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "run")


def in_turns(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call everybody once unmeasured, then once per round; who goes first changes from round to
    round.
    """
    results: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    with tqdm(total=(rounds + 1) * len(names), unit="turn", disable=None) as bar:
        for number in range(rounds + 1):
            for name in names if number % 2 else names[::-1]:
                value = contestants[name]()
                bar.update()
                if number:
                    results[name].append(value)
    return results


def compare_trainer(args: argparse.Namespace) -> tuple[str, int, str]:
    """Let the trainer and the bare step take turns: (device, steps per turn, table)."""
    with run_folder() as folder:
        config = configuration(args, folder, args.precision)
        session = Session(config)
        num_steps = min(args.steps, len(session.train_loader))
        bare = BareStep(
            config, session.train_index, one_batch(args, session.train_index), session.device
        )
        costs: list[dict[str, float]] = []

        def train() -> float:
            epoch = len(costs)
            session.train_loader.set_epoch(epoch)
            _, cost = session.train_epoch(Progress(epoch=epoch), StopAfter(num_steps))
            costs.append(cost)
            return cost["images_per_second"]

        results = in_turns(
            {"bare": partial(bare.images_per_second, num_steps), "trainer": train}, args.rounds
        )
    waits = [100 * cost["data_wait"] for cost in costs[1:]]
    rows = [
        ("bare step", spread(results["bare"], 1), "", ""),
        (
            "trainer",
            spread(results["trainer"], 1),
            spread(ratios(results["trainer"], results["bare"]), 3),
            f"{spread(waits, 2)} %",
        ),
    ]
    return (
        str(session.device),
        num_steps,
        table(("", "images/s", "over the bare step", "data wait"), rows),
    )


def compare_precisions(args: argparse.Namespace) -> tuple[str, int, str]:
    """Let the bare steps of fp32 and of mixed precision take turns: (device, steps per turn,
    table).
    """
    index = open_split(args.data, "train")
    batch, device = (
        one_batch(args, index),
        torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    mixed = "bf16" if args.precision == "no" else args.precision
    with run_folder() as folder:
        steps = {
            name: BareStep(configuration(args, folder, name), index, batch, device)
            for name in ("no", mixed)
        }
    turns: dict[str, Callable[[], float]] = {
        name: partial(step.images_per_second, args.steps) for name, step in steps.items()
    }
    results = in_turns(turns, args.rounds)
    rows = [
        ("fp32", spread(results["no"], 1), ""),
        (mixed, spread(results[mixed], 1), spread(ratios(results[mixed], results["no"]), 2)),
    ]
    return str(device), args.steps, table(("bare step", "images/s", "over fp32"), rows)


def main() -> None:
    """Measure and tell."""
    args = parse()
    lines = circumstances(PACKAGES)
    device, num_steps, measured = (
        compare_precisions if args.compare_precision else compare_trainer
    )(args)
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"
    settings = (
        f"- device: {gpu}; {torch.get_num_threads()} compute threads, {args.threads} loader "
        f"threads\n"
        f"- settings: {args.model} "
        f"{'from ' + Path(args.weights).name if args.weights else 'from scratch'}, "
        f"{'fp32' if args.precision == 'no' else args.precision}, SGD with momentum, size "
        f"{args.size}, global batch "
        f"size {args.global_batch_size}, data {Path(args.data).name}/train; n = {args.rounds} "
        f"rounds of {num_steps} "
        "steps each; median (lowest..highest) over rounds, ratios formed round by round"
    )
    title = (
        "# Mixed precision of the bare step"
        if args.compare_precision
        else "# The trainer and its bare step"
    )
    timed = TIMED.format(what=TIMED_BARE if args.compare_precision else TIMED_TRAINER)
    tell("\n".join([title, "", *lines, settings, "", measured, "", timed]), args.out)


if __name__ == "__main__":
    main()
