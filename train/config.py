"""What a run is made of: the one source of defaults, flags, help and of the run's config.yaml."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from shards.choices import Augmentation, CacheName, OnBadSample
from shards.commandline import option
from shards.errors import DataError, one_line
from train.checks import check, idle

Bands = Literal["all", "rgb"]
Fusion = Literal["early", "late"]
NewChannels = Literal["kaiming", "mean"]
Activation = Literal["relu", "gelu"]
MemoryFormat = Literal["auto", "channels_last", "contiguous"]

# What may differ between a run and its continuation without changing a single weight.
FREE_ON_RESUME = (
    "data",
    "out",
    "sweep",
    "resume",
    "num_threads",
    "on_bad_sample",
    "eval_batch_size",
    "save_every_steps",
    "tensorboard",
)


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The same names are the flags (with dashes) and the keys of a recipe."""

    data: str = option("data/digits", "packed dataset: a folder with the splits train and val")
    out: str = option("runs/digits", "run folder: config.yaml, metrics.jsonl, checkpoints best and last")
    model: str = option(
        "resnet18",
        "name of a timm model; or cnn or cnn_wide, two convolutions and three linear layers for small images",
    )
    pretrained: bool = option(False, "start from timm's pretrained weights (fetched from the Hugging Face hub)")
    weights: str = option("", "start from a local .safetensors or .pth state dict")
    bands: Bands = option("all", "of images with more bands than RGB, those to train on")
    fusion: Fusion = option(
        "early",
        "how further bands join RGB. early: as further input channels; late: in a network of their own, whose pooled "
        "features are joined with those of the RGB network before the classifier",
    )
    new_channels: NewChannels = option(
        "kaiming",
        "pretrained or weights, more bands than RGB: draw the filters of the further bands, or average those of RGB, "
        "which are kept",
    )
    drop_rate: float = option(0.0, "dropout before the classifier; of model cnn after both hidden layers")
    activation: Activation = option("relu", "model cnn: the function after each layer")
    size: int = option(224, "side of the network's input in pixels")
    crop_scale: tuple[float, float] = option(
        (0.08, 1.0), "augment crop: share of the area of a crop, such as [0.35,1.0]"
    )
    augment: Augmentation = option(
        "crop",
        "crop: random-resized crops and flips; pad: for small images, which are padded by reflected pixels, cropped "
        "and flipped, and seen whole by validation and evaluation",
    )
    pad: int = option(4, "augment pad: pixels added on each side")
    cutout: int = option(0, "side in pixels of a square that is cut out of each training image; 0 cuts none")
    normalize: Literal["model", "dataset", "own"] = option(
        "model",
        "mean and std of the pixels: those the model was trained with (further bands: the training split's), the "
        "training split's, or your own",
    )
    mean: tuple[float, ...] = option((), "normalize own: per channel, from 0 to 1, such as [0.4589,0.4355,0.4032]")
    std: tuple[float, ...] = option((), "normalize own: per channel, such as [0.2239,0.2186,0.2206]")
    epochs: int = option(20, "passes over the training split")
    global_batch_size: int = option(64, "samples per optimiser step, over all ranks together")
    accumulate: int = option(1, "split each rank's part of a batch into this many passes, to save memory")
    eval_batch_size: int = option(64, "samples per rank and step of validation")
    loss: Literal["auto", "bce", "focal", "asl", "cross_entropy"] = option(
        "auto",
        "auto: bce for several labels a sample, cross_entropy for one; focal (Lin et al. 2017); asl, the asymmetric "
        "loss (Ridnik et al. 2021)",
    )
    pos_weight: float = option(
        0.0, "weight positives by their class's negatives / positives, at most so much (such as 20); 0 does not"
    )
    label_smoothing: float = option(0.0, "move labels so far towards being undecided")
    mixup: float = option(0.0, "mix images and labels in pairs, shares drawn from Beta(mixup, mixup); 0 does not")
    cutmix: float = option(
        0.0,
        "give images a box of another one, of a size drawn from Beta(cutmix, cutmix); 0 does not; with mixup too, each "
        "pair takes one of the two at random",
    )
    focal_alpha: float = option(0.25, "loss focal: weight of positives, 1 - alpha that of negatives")
    focal_gamma: float = option(2.0, "loss focal: how much easy labels are played down")
    asl_gamma_neg: float = option(4.0, "loss asl: how much easy negatives are played down")
    asl_gamma_pos: float = option(1.0, "loss asl: how much easy positives are played down")
    asl_clip: float = option(0.05, "loss asl: probability up to which a negative costs nothing")
    precision: Literal["auto", "no", "bf16", "fp16"] = option(
        "auto",
        "mixed precision; no is fp32. auto: bf16 on a GPU or CPU that has instructions for it, otherwise fp16 on a GPU "
        "and fp32 on a CPU; config.yaml keeps what was chosen",
    )
    memory_format: MemoryFormat = option(
        "auto",
        "how the network's numbers lie in memory; it decides speed. auto: channels_last on a GPU and in bf16, "
        "contiguous in fp32 on a CPU, where channels_last makes torch crash on some machines",
    )
    optimizer: Literal["sgd", "adamw"] = option(
        "sgd", "sgd (with momentum, not Nesterov's) or adamw, as timm makes them"
    )
    lr: float = option(0.01, "learning rate after the warm-up")
    head_lr_factor: float = option(1.0, "learning rate of the new classifier, as a multiple of lr")
    momentum: float = option(0.0, "momentum of sgd")
    weight_decay: float = option(0.0, "weight decay; biases and norms are spared")
    schedule: Literal["constant", "step", "cosine"] = option("constant", "course of the learning rate after warm-up")
    warmup_epochs: float = option(0.0, "epochs over which the learning rate rises linearly from 0")
    step_epochs: int = option(10, "schedule step: epochs between two drops")
    step_factor: float = option(0.1, "schedule step: factor of a drop")
    clip_norm: float = option(0.0, "clip the gradient's norm to this; 0 does not clip")
    ema_decay: float = option(
        0.0,
        "average the weights with this decay per step and validate the average; the decay is warmed up: in step n it "
        "is at most 1 - n^(-2/3), such as 0.99 in step 1000; 0 does not",
    )
    seed: int = option(0, "seed of order, crops, initial weights and dropout")
    num_threads: int = option(2, "loader threads per rank")
    on_bad_sample: OnBadSample = option(
        "stop",
        "skip: leave out samples that cannot be read, list them in bad_samples.jsonl, and stop when more than one in a "
        "hundred of a split are bad",
    )
    cache: CacheName = option(
        "none",
        "decode every image once and keep it: ram, in memory, one copy per machine; device, in the memory of each "
        "rank's GPU, where batches are then made",
    )
    cache_short_side: int = option(
        0, "cache ram: shrink images to this short side first; cache device: to squares of this side; 0 is size / 0.875"
    )
    save_every_steps: int = option(0, "write last also every so many steps; 0 writes it once an epoch")
    sweep: str = option(
        "",
        "train a run for each value of a numeric option, such as lr=0.01,0.005,0.001, in folders under the run folder; "
        "several options make a grid",
    )
    resume: bool = option(False, "go on from the run folder's last checkpoint, if there is one")
    tensorboard: bool = option(True, "write TensorBoard logs into the run folder")

    def __post_init__(self) -> None:
        check(self)

    def to_yaml(self) -> str:
        """Write the resolved configuration in the form of a recipe."""
        values = dataclasses.asdict(self)
        values |= {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        del values["resume"]  # how a run was continued is not what it is
        if not self.sweep:
            del values["sweep"]
        return yaml.safe_dump(values, sort_keys=False)

    @classmethod
    def from_yaml(cls, path: Path) -> "TrainConfig":
        """Read a run's config.yaml. Unknown keys are refused; options newer than the file take their defaults."""
        names = {field.name for field in dataclasses.fields(cls)}
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            odd = sorted(set(values) - names)
            if odd:
                raise DataError(
                    f"{path}: has options that this release does not know: {', '.join(map(str, odd))}; "
                    "take them out, or use the release that wrote it"
                )
            values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
            return cls(**values)
        except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
            raise DataError(
                f"{path}: not the configuration of a run ({one_line(error)}); put back the file that training wrote"
            ) from error

    def differences(self, other: "TrainConfig") -> dict[str, tuple[Any, Any]]:
        """Tell what would make the continuation of a run another run: name -> (this value, the other's).

        An option that means nothing in either may differ.
        """
        free = {*FREE_ON_RESUME, *(idle(self).keys() & idle(other).keys())}
        return {
            field.name: (getattr(self, field.name), getattr(other, field.name))
            for field in dataclasses.fields(self)
            if field.name not in free and getattr(self, field.name) != getattr(other, field.name)
        }
