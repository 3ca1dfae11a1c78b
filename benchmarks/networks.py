"""Which networks of timm train: makes docs/networks.md from the smallest model of every family.

Each makes one training step on two images in fp32 on a CPU, through the code of `python -m train`.
Models are tried one after the other in a process of their own. One that crashes or takes too long
ends that process: this becomes its row, and the rest go on in a new process. It takes some ten
minutes of one core and downloads nothing.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import Any

import timm
import torch
from note import circumstances, table
from torch.nn.functional import binary_cross_entropy_with_logits

from shards.errors import DataError
from train.config import TrainConfig
from train.network.build import build_network
from train.network.memory_format import choose_format
from train.network.model import Classifier, head_parameters, model_statistics
from train.optimise.optim import build_optimizer

NUM_CLASSES = 20
NUM_IMAGES = 2
LIMIT_S = 300  # of one model
AS_WITHOUT_AVX512 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
ALSO = ("repvgg_a0", "mobileone_s0", "cnn", "cnn_wide")  # beside the smallest of each family
OTHER_SIZE = re.compile(r"give --size (\d+)")

Result = Mapping[str, Any]


def main() -> None:
    """Choose the models, try each, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--models", nargs="*", help="try these instead")
    parser.add_argument(
        "--out", default="", help="write the page to this file, such as docs/networks.md"
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.models, options.size)
        return
    families = dict.fromkeys(options.models or ALSO, "")
    if not options.models:
        families |= smallest()
    here = {each["model"]: each for each in try_all(families, options.size, {})}
    lesser = {each["model"]: each for each in try_all(families, options.size, AS_WITHOUT_AVX512)}
    page = PAGE.format(size=options.size, table=rows(families, here, lesser), facts=facts())
    print(page)
    if options.out:
        Path(options.out).write_text(page)


def smallest() -> dict[str, str]:
    """Map the model of fewest parameters of each of timm's modules to the module; minutes, most of
    the time.
    """
    found = {}
    for family in timm.list_modules():
        sizes = {name: num_parameters(name) for name in timm.list_models(module=family)}
        found[min(sizes, key=lambda name: sizes[name])] = family
    return found


def num_parameters(name: str) -> int:
    """Count the parameters of a model without giving them memory."""
    with torch.device("meta"):
        return sum(
            each.numel() for each in timm.create_model(name, num_classes=NUM_CLASSES).parameters()
        )


# -- in the parent
# -----------------------------------------------------------------------------------------------


def try_all(models: Iterable[str], size: int, environment: Mapping[str, str]) -> Iterator[Result]:
    """Try every model, in a process that is started again after each death."""
    left = list(models)
    while left:
        for result in try_until_death(left, size, environment):
            print(result, file=sys.stderr, flush=True)
            left.remove(result["model"])
            yield result


def try_until_death(
    models: Sequence[str], size: int, environment: Mapping[str, str]
) -> Iterator[Result]:
    """Try models in one process until the first that ends it, that one with the reason."""
    command = [sys.executable, __file__, "--worker", "--size", str(size), "--models", *models]
    started = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        assert process.stdout is not None
        timer = Timer(LIMIT_S, process.kill)
        for line in process.stdout:
            told = json.loads(line)
            timer.cancel()
            timer = Timer(LIMIT_S, process.kill)
            timer.start()
            started = told["model"]
            if "result" in told:
                yield told
                started = ""
        timer.cancel()
    if started:
        over = process.returncode == -signal.SIGKILL
        died = (
            f"ends by {signal.Signals(-process.returncode).name}"
            if process.returncode < 0
            else "ends its process"
        )
        yield {
            "model": started,
            "result": f"more than {LIMIT_S} s, or its memory" if over else died,
            "sizes": [],
        }
    elif process.returncode:
        raise SystemExit(f"the process that tries models ended with status {process.returncode}")


# -- in the worker
# -----------------------------------------------------------------------------------------------


def work(models: Sequence[str], size: int) -> None:
    """Say on stdout, a JSON line each, which model is begun and what came of it."""
    for name in models:
        print(json.dumps({"model": name}), flush=True)
        print(json.dumps({"model": name, **outcome(name, size)}), flush=True)


def outcome(name: str, size: int) -> Result:
    """Train one step; where the size is refused, also at the size that the refusal names."""
    refused: list[str] = []
    started = time.perf_counter()
    for _ in range(2):
        try:
            num, loss = train_one_step(name, size)
        except DataError as error:
            refused.append(str(error))
            named = OTHER_SIZE.search(str(error))
            if named is None:
                break
            size = int(named[1])
            continue
        except Exception as error:
            return {
                "result": f"fails: {type(error).__name__}: {error}"[:200],
                "refused": refused,
                "size": size,
            }
        seconds = time.perf_counter() - started
        return {
            "result": "trains",
            "refused": refused,
            "size": size,
            "parameters": num,
            "loss": loss,
            "s": seconds,
        }
    return {"result": "refused", "refused": refused, "size": size}


def train_one_step(name: str, size: int) -> tuple[int, float]:
    """Take one optimiser step on noise as a run would; return the number of parameters and the loss
    after it.
    """
    torch.manual_seed(0)
    network = build_network(name, NUM_CLASSES, size)
    device = torch.device("cpu")
    model = Classifier(network, *model_statistics(network)).place(
        device, choose_format("auto", device, "no")
    )
    config = TrainConfig(model=name, size=size, lr=1e-4)
    optimizer = build_optimizer(model, head_parameters(network), config)
    images = torch.randint(0, 256, (NUM_IMAGES, 3, size, size), dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)  # as the loader gives them
    labels = torch.rand(NUM_IMAGES, NUM_CLASSES).round()
    binary_cross_entropy_with_logits(model.train()(images), labels).backward()
    optimizer.step()
    with torch.inference_mode():
        loss = float(binary_cross_entropy_with_logits(model.eval()(images), labels))
    if loss != loss:
        raise ValueError("the loss after one step is no number")
    return sum(each.numel() for each in model.parameters()), loss


# -- the page
# --------------------------------------------------------------------------------------------------

PAGE = """# Networks

`--model` takes the image classifiers of timm. This page is made by
`python benchmarks/networks.py --out docs/networks.md`: the model of fewest parameters of each family
(module) of timm and a few more, each one training step on two images of {size} pixels, fp32 on a CPU.

- *trains*: takes the step, with gradients, and gives numbers afterwards.
- *trains from N*: {size} pixels are refused in one line before any training; that line, in the last
  column, names N, which works. Some networks are bound to one size, most take any.
- *without AVX-512*: the same with `ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2`. A dash: not tried.

In fp32 on a CPU a network is in contiguous memory, on a GPU and in bf16 in channels_last;
`--memory-format` chooses otherwise. In channels_last, fp32 and without AVX-512, torch 2.14 ends by
SIGSEGV in the first backward pass of a strided 1x1 convolution of few channels: the first layer of
`repvgg`, `mobileone` and `fastvit`.

{table}

{facts}
"""


def rows(
    families: Mapping[str, str], here: Mapping[str, Result], lesser: Mapping[str, Result]
) -> str:
    """Lay out a row per model."""
    header = ("family", "model", "parameters", "on this CPU", "without AVX-512", "refusal")
    lines = []
    for name, family in families.items():
        millions = here[name].get("parameters", 0) / 1e6
        refused = "; ".join(here[name].get("refused", [])).replace("|", "/")
        in_words = (short(here[name]), short(lesser[name]) if name in lesser else "-")
        lines.append(
            (family, f"`{name}`", f"{millions:.1f} M" if millions else "", *in_words, refused)
        )
    return table(header, lines)


def short(result: Result) -> str:
    """Say in a few words what came of a model."""
    if result["result"] == "trains" and result["refused"]:
        return f"trains from {result['size']}"
    return str(result["result"])


def facts() -> str:
    """Say where and with what the table was made."""
    return "\n".join(circumstances(("torch", "timm")))


if __name__ == "__main__":
    main()
