"""How long a checkpoint keeps the training waiting.

    python benchmarks/gpu_saving.py data/voc --model resnet50

Between two saves the model takes a step, so that the device is at work when the save begins.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from note import circumstances, spread, table

from train.config import TrainConfig
from train.loop import Session

ROUNDS = 5


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="packed dataset, such as data/voc")
    parser.add_argument("--model", default="resnet50", help="name of a timm model")
    parser.add_argument("--rehearse", action="store_true", help="small, also on a CPU")
    args = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    if not (args.rehearse or has_gpu):
        parser.error("no CUDA device here: --rehearse goes through it on the CPU")
    model, size, batch_size = ("test_resnet", 32, 4) if args.rehearse else (args.model, 224, 64)
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            data=args.data,
            out=str(Path(folder) / "run"),
            model=model,
            size=size,
            global_batch_size=batch_size,
            ema_decay=0.999,
            tensorboard=False,
        )
        session = Session(config)
        progress = session.begin()
        batch = next(iter(session.train_loader)).to(session.device)
        waits, written = [], []
        for number in range(ROUNDS + 1):
            session.step(batch, 0, number)
            started = time.perf_counter()
            session.saving.save(progress, {})
            waits.append(time.perf_counter() - started)
            session.saving.finish()
            written.append(time.perf_counter() - started)
        session.saving.close()
        session.folder.unlock()
        last = Path(config.out) / "last"
        num_bytes = sum(path.stat().st_size for path in last.resolve().rglob("*"))
    rows = [
        ("the loop waits, ms", spread([1e3 * wait for wait in waits[1:]], 1)),
        ("until it is on the disk, ms", spread([1e3 * wait for wait in written[1:]], 1)),
        ("bytes of the checkpoint, MB", f"{num_bytes / 1e6:.1f}"),
        ("GB/s of the thread", f"{num_bytes / statistics.median(written[1:]) / 1e9:.2f}"),
    ]
    name = torch.cuda.get_device_name() if has_gpu else "no GPU"
    lines = circumstances(("torch", "timm"), name)
    settings = f"- settings: {model}, weights, their average and the optimiser's state"
    print("\n".join(["# Saving", "", *lines, settings, "", table(("", "figure"), rows)]))


if __name__ == "__main__":
    main()
