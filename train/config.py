"""What a run is made of: the one source of defaults, flags, help and of the run's config.yaml."""

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, Literal

from shards.choices import (
    CACHE_DIR,
    CACHE_GB,
    COLOR_JITTER,
    DIHEDRAL,
    ERASING,
    HUE_JITTER,
    NUM_THREADS,
    ORDER,
    TRIVIAL_AUGMENT,
    Augmentation,
    CacheName,
    OnBadSample,
    OrderName,
    check_augmentation,
    check_location,
    check_scale,
)
from shards.options import check_bounds, free_on_resume, idle, option
from train.by_epoch import SIZE, VALIDATE_EVERY, ByEpoch
from train.combinations import (
    check_batch_changes,
    check_cache,
    check_channels,
    check_normalisation,
    check_start,
)
from train.config_file import ConfigFile

Bands = Literal["all", "rgb"]
Fusion = Literal["early", "late"]
NewChannels = Literal["kaiming", "mean"]
Activation = Literal["relu", "gelu"]
MemoryFormat = Literal["auto", "channels_last", "contiguous"]


@dataclass(frozen=True)
class TrainConfig(ConfigFile, ByEpoch):
    """A training run. The same names are the flags (with dashes) and the keys of a recipe."""

    data: str = option(
        "data/digits",
        "packed dataset: a folder with the splits train and val, or its address",
        group="data",
        free_on_resume=True,
    )
    cache_dir: str = option("", CACHE_DIR, group="data", free_on_resume=True)
    cache_gb: float = option(0.0, CACHE_GB, ge=0, group="data", free_on_resume=True)
    bands: Bands = option(
        "all", "of images with more bands than RGB, those to train on", group="data"
    )
    normalize: Literal["model", "dataset", "own"] = option(
        "model",
        "mean and std of the pixels: those the model was trained with (further bands: the "
        "training split's), the training split's, or your own",
        group="data",
    )
    mean: tuple[float, ...] = option(
        (),
        "with --normalize own: per channel, from 0 to 1, such as [0.4589,0.4355,0.4032]",
        group="data",
    )
    std: tuple[float, ...] = option(
        (), "with --normalize own: per channel, such as [0.2239,0.2186,0.2206]", group="data"
    )
    on_bad_sample: OnBadSample = option(
        "stop",
        "skip: leave out samples that cannot be read, list them in bad_samples.jsonl, and stop "
        "when more than one in a hundred of a split are bad",
        group="data",
        free_on_resume=True,
    )
    order: OrderName = option("auto", ORDER, group="data")
    shuffle_groups: int = option(
        0,
        "with --order near: groups of shards",
        ge=1,
        zero="16, or one for 16 shards",
        group="data",
    )
    shuffle_window: int = option(
        1,
        "with --order near: shards of a group open at a time; more mix better",
        ge=1,
        group="data",
    )
    model: str = option(
        "resnet18",
        "name of a timm model; or cnn or cnn_wide, two convolutions and three linear layers for "
        "small images",
        group="network",
    )
    pretrained: bool = option(
        False,
        "start from timm's pretrained weights (fetched from the Hugging Face hub)",
        group="network",
    )
    weights: str = option("", "start from a local .safetensors or .pth state dict", group="network")
    freeze_layers: int = option(
        0,
        "with --pretrained or --weights: keep the first layers as they are, and so save their "
        "part of the backward pass; the stem is one, then each stage or block",
        ge=0,
        group="network",
    )
    # in this order: as an int, jsonargparse takes 32:48 for 1968
    size: str | int = option(224, SIZE, group="network")
    fusion: Fusion = option(
        "early",
        "how further bands join RGB. early: as further input channels; late: in a network of "
        "their own, whose pooled features are joined with those of the RGB network before the "
        "classifier",
        group="network",
    )
    new_channels: NewChannels = option(
        "kaiming",
        "with --pretrained or --weights and more bands than RGB: how the filters of the further "
        "bands start. kaiming: random; mean: the average of RGB's filters, which are kept",
        group="network",
    )
    drop_rate: float = option(
        0.0,
        "dropout before the classifier; of model cnn after both hidden layers",
        ge=0,
        lt=1,
        group="network",
    )
    activation: Activation = option(
        "relu", "with --model cnn or cnn_wide: the function after each layer", group="network"
    )
    augment: Augmentation = option(
        "crop",
        "crop: random-resized crops; pad: for small images, which are padded by reflected pixels "
        "and cropped, and seen whole by validation and evaluation",
        group="augmentation",
    )
    flip: bool = option(
        True, "mirror half of the training images; off for digits and text", group="augmentation"
    )
    crop_scale: tuple[float, float] = option(
        (0.08, 1.0),
        "share of the area of a crop, such as [0.35,1.0]",
        only_with=("augment", "crop"),
        group="augmentation",
    )
    pad: int = option(
        4, "pixels added on each side", ge=0, only_with=("augment", "pad"), group="augmentation"
    )
    cutout: int = option(
        0,
        "side in pixels of a square that is cut out of each training image; 0 cuts none",
        ge=0,
        group="augmentation",
    )
    color_jitter: float = option(0.0, COLOR_JITTER, ge=0, le=1, group="augmentation")
    hue_jitter: float = option(0.0, HUE_JITTER, ge=0, le=0.5, group="augmentation")
    trivial_augment: bool = option(False, TRIVIAL_AUGMENT, group="augmentation")
    dihedral: bool = option(False, DIHEDRAL, group="augmentation")
    erasing: float = option(0.0, ERASING, ge=0, le=1, group="augmentation")
    mixup: float = option(
        0.0,
        "mix images and labels in pairs, shares drawn from Beta(mixup, mixup); 0 does not",
        ge=0,
        group="augmentation",
    )
    cutmix: float = option(
        0.0,
        "give images a box of another one, of a size drawn from Beta(cutmix, cutmix); 0 does not; "
        "with mixup too, each pair takes one of the two at random",
        ge=0,
        group="augmentation",
    )
    loss: Literal["auto", "bce", "focal", "asl", "cross_entropy"] = option(
        "auto",
        "auto: bce for several labels a sample, cross_entropy for one; focal (Lin et al. 2017); "
        "asl, the asymmetric loss (Ridnik et al. 2021)",
        group="loss",
    )
    pos_weight: float = option(
        0.0,
        "weight positives by their class's negatives / positives, at most by this number, such as "
        "20; 0 does not",
        ge=1,
        zero="none",
        group="loss",
    )
    label_smoothing: float = option(
        0.0, "move labels by this share towards being undecided", ge=0, lt=1, group="loss"
    )
    focal_alpha: float = option(
        0.25,
        "weight of positives, 1 - alpha that of negatives",
        ge=0,
        le=1,
        only_with=("loss", "focal"),
        group="loss",
    )
    focal_gamma: float = option(
        2.0, "how much less easy labels count", ge=0, only_with=("loss", "focal"), group="loss"
    )
    asl_gamma_neg: float = option(
        4.0, "how much less easy negatives count", ge=0, only_with=("loss", "asl"), group="loss"
    )
    asl_gamma_pos: float = option(
        1.0, "how much less easy positives count", ge=0, only_with=("loss", "asl"), group="loss"
    )
    asl_clip: float = option(
        0.05,
        "probability up to which a negative costs nothing",
        ge=0,
        lt=1,
        only_with=("loss", "asl"),
        group="loss",
    )
    epochs: int = option(20, "passes over the training split", ge=1, group="optimisation")
    global_batch_size: int = option(
        64, "samples per optimiser step, over all ranks together", ge=1, group="optimisation"
    )
    optimizer: Literal["sgd", "adamw"] = option(
        "sgd",
        "sgd (with momentum, not Nesterov's) or adamw, as timm makes them",
        group="optimisation",
    )
    lr: float = option(0.01, "learning rate after the warm-up", gt=0, group="optimisation")
    head_lr_factor: float = option(
        1.0, "learning rate of the new classifier, as a multiple of lr", gt=0, group="optimisation"
    )
    momentum: float = option(
        0.0,
        "weight of the earlier steps",
        ge=0,
        lt=1,
        only_with=("optimizer", "sgd"),
        group="optimisation",
    )
    weight_decay: float = option(
        0.0, "weight decay, of all but biases, norms and positions", ge=0, group="optimisation"
    )
    schedule: Literal["constant", "step", "cosine"] = option(
        "constant", "course of the learning rate after the warm-up", group="optimisation"
    )
    warmup_epochs: float = option(
        0.0, "epochs over which the learning rate rises linearly from 0", ge=0, group="optimisation"
    )
    step_epochs: int = option(
        10, "epochs between two drops", ge=1, only_with=("schedule", "step"), group="optimisation"
    )
    step_factor: float = option(
        0.1, "factor of a drop", gt=0, only_with=("schedule", "step"), group="optimisation"
    )
    clip_norm: float = option(
        0.0, "clip the gradient's norm to this; 0 does not clip", ge=0, group="optimisation"
    )
    ema_decay: float = option(
        0.0,
        "average the weights with this decay per step and validate the average; the decay is "
        "warmed up: in step n it is at most 1 - n^(-2/3), such as 0.99 in step 1000; 0 does not",
        ge=0,
        lt=1,
        group="optimisation",
    )
    precision: Literal["auto", "no", "bf16", "fp16"] = option(
        "auto",
        "mixed precision; no is fp32. auto: bf16 on a GPU or CPU that has instructions for it, "
        "otherwise fp16 on a GPU and fp32 on a CPU; config.yaml keeps what was chosen",
        group="speed and memory",
    )
    memory_format: MemoryFormat = option(
        "auto",
        "layout of the network's tensors in memory; it decides speed. auto: channels_last on a "
        "GPU and in bf16, contiguous in fp32 on a CPU, where channels_last makes torch crash on "
        "some machines",
        group="speed and memory",
    )
    tf32: bool = option(
        False,
        "on a GPU that has TF32: multiply in it, which rounds factors to 10 bits, and is faster",
        only_with=("precision", "no"),
        group="speed and memory",
        free_on_resume=True,
    )
    compile: bool = option(
        False,
        "make steps faster by torch.compile, after a minute or more; on a CPU with a C++ compiler",
        group="speed and memory",
        free_on_resume=True,
    )
    grad_checkpointing: bool = option(
        False,
        "compute activations a second time instead of keeping them; not all networks can",
        group="speed and memory",
        free_on_resume=True,
    )
    sync_bn: bool = option(
        False,
        "on GPUs: let batch norms normalise by the images of all ranks, not each rank by its own",
        group="speed and memory",
    )
    accumulate: int = option(
        1,
        "split each rank's part of a batch into this many passes, to save memory",
        ge=1,
        group="speed and memory",
    )
    eval_batch_size: int = option(
        64,
        "samples per rank and step of validation",
        ge=1,
        group="speed and memory",
        free_on_resume=True,
    )
    num_threads: int = option(
        0, NUM_THREADS, ge=1, zero="one per core", group="speed and memory", free_on_resume=True
    )
    cache: CacheName = option(
        "none",
        "decode every image once and keep it: ram, in memory, one copy per machine; device, in "
        "the memory of each rank's GPU, where batches are then made",
        group="speed and memory",
    )
    cache_short_side: int = option(
        0,
        "with --cache ram: shrink images to this short side first; with --cache device: to "
        "squares of this side; 0 is size / 0.875",
        ge=0,
        group="speed and memory",
    )
    out: str = option(
        "runs/digits",
        "run folder: config.yaml, metrics.jsonl, checkpoints best and last",
        group="run",
        free_on_resume=True,
    )
    seed: int = option(
        0, "seed of order, crops, initial weights and dropout", ge=0, le=2**31 - 1, group="run"
    )
    resume: bool = option(
        False, "go on from the last checkpoint, if there is one", group="run", free_on_resume=True
    )
    validate_every: int = option(1, VALIDATE_EVERY, ge=1, group="run", free_on_resume=True)
    save_every_steps: int = option(
        0,
        "also write the checkpoint last every so many steps; 0 writes it once an epoch",
        ge=0,
        group="run",
        free_on_resume=True,
    )
    sweep: str = option(
        "",
        "train a run for each value of a numeric option, such as lr=0.01,0.005,0.001, in folders "
        "under the run folder; several options make a grid",
        group="run",
        free_on_resume=True,
    )
    tensorboard: bool = option(
        True, "write TensorBoard logs into the run folder", group="run", free_on_resume=True
    )

    def __post_init__(self) -> None:
        """Raise DataError for the first value that is out of bounds or contradicts another, also of
        a run's own config.yaml; `train.checks` is for a new run.
        """
        check_bounds(self)
        object.__setattr__(self, "size", self.sizes.given)
        check_location(self.data, self.cache_dir, self.cache_gb)
        check_start(self.pretrained, self.weights, self.freeze_layers)
        check_channels(self.new_channels, self.pretrained or self.weights, self.bands, self.fusion)
        check_normalisation(self.normalize, self.mean, self.std)
        check_scale(self.crop_scale)
        check_augmentation(self.augment, self.sizes.first, self.pad, self.cutout)
        check_cache(self.cache, self.cache_short_side, self.augment, self.size)
        check_batch_changes(vars(self))

    def with_order_of(self, kept: "TrainConfig | None") -> "TrainConfig":
        """Replace the order auto by that of the run to go on from, whose data may have moved."""
        return replace(self, order=kept.order) if kept and self.order == "auto" else self

    def with_known_order(self) -> "TrainConfig":
        """Replace the order auto by that of all runs before there was a choice."""
        return replace(self, order="global") if self.order == "auto" else self

    def differences(self, other: "TrainConfig") -> dict[str, tuple[Any, Any]]:
        """Tell what makes the continuation of a run another: name -> (this value, the other's).

        An option that means nothing in either may differ. Runs of earlier releases name no order.
        """
        self, other = (config.with_known_order() for config in (self, other))
        free = {*free_on_resume(TrainConfig), *(idle(self).keys() & idle(other).keys())}
        return {
            field.name: (getattr(self, field.name), getattr(other, field.name))
            for field in dataclasses.fields(self)
            if field.name not in free and getattr(self, field.name) != getattr(other, field.name)
        }
