"""Export a trained model: `python -m train.export runs/digits/best --format onnx`.

timm: weights that timm.create_model loads from its checkpoint_path; normalised pixels in, logits
out.
onnx: a graph for onnxruntime and others; pixels as uint8 in, probabilities out (pip install
'tarmac-vision[export]').
torchscript: the same for torch.jit.load, without timm and without this code.
The file is read again and its output compared with the checkpoint's own, in fp32, before it takes
its place. It carries class names, task and preprocessing: as metadata, of safetensors under the key
tarmac, or in TorchScript's extra file tarmac.json.
"""

import sys
from dataclasses import dataclass
from typing import Literal

from shards.commandline import option, parse, run
from shards.host.importing import slow_imports

EXAMPLES = "example: python -m train.export runs/voc-resnet18/best --format onnx"


@dataclass(frozen=True)
class ExportConfig:
    """The command line."""

    ckpt: str = option("", "checkpoint folder of a run, such as runs/digits/best", positional=True)
    format: Literal["timm", "onnx", "torchscript"] = option(
        "timm", "which program will read the file"
    )
    out: str = option(
        "", "file to write; beside the checkpoint if not given, such as runs/digits/best.onnx"
    )
    ema: bool = option(
        True,
        "export the averaged weights of a run that has them (--ema-decay); off: those of its last "
        "step",
    )


def main() -> None:
    """Read the command line and export."""
    config = parse(
        ExportConfig,
        sys.argv[1:],
        prog="python -m train.export",
        description=__doc__ or "",
        epilog=EXAMPLES,
    )
    with slow_imports():  # not for --help or a mistyped flag
        from train.exporting import export

    export(config)


if __name__ == "__main__":
    run(main)
