"""The files that a model leaves in: each is written with its description, and read again as its
user would.
"""

import contextlib
import importlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import nn

from shards.errors import DataError
from train.network.model import Classifier

EXTRA = "pip install 'tarmac-vision[export]'"
INPUT = "images"
OUTPUT = "probabilities"
EXTRA_FILE = "tarmac.json"
METADATA = "tarmac"

Description = Mapping[str, Any]
# images uint8 [B, C, H, W] -> what the file gives, float32 [B, K]
Predict = Callable[[torch.Tensor], torch.Tensor]


class Scorer(nn.Module):
    """Images uint8 [B, C, H, W] -> probabilities float32 [B, K], the way a report shows them."""

    def __init__(self, classifier: Classifier, task: str) -> None:
        super().__init__()
        self.classifier = classifier
        self.is_multiclass = task == "multiclass"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.classifier(images)
        return logits.softmax(1) if self.is_multiclass else logits.sigmoid()


@dataclass(frozen=True)
class Format:
    """One kind of file. `own` is what the file's output is to be compared with, computed by the
    model itself.

    `is_complete`: normalisation and probabilities are inside.
    """

    suffix: str
    is_complete: bool
    write: Callable[[Scorer, Description, Path], None]
    load: Callable[[Path, Description], Predict]
    own: Callable[[Scorer, torch.Tensor], torch.Tensor]
    load_line: Callable[[Path, Description], str]  # how a user loads it


def _write_timm(model: Scorer, description: Description, path: Path) -> None:
    """Write the weights alone, with the arguments that make their network."""
    _check_is_timm(description["model"], model.classifier.network)
    weights = {
        name: value.contiguous() for name, value in model.classifier.network.state_dict().items()
    }
    described = json.dumps(
        {**description, "arguments": _arguments(description)}, ensure_ascii=False
    )
    # of several it draws the order
    safetensors.torch.save_file(weights, path, metadata={METADATA: described})


def _check_is_timm(name: str, network: nn.Module) -> None:
    if not timm.is_model(name) or type(network).__module__.partition(".")[0] != "timm":
        raise DataError(
            f"timm has no network like this {type(network).__name__} of {name}: give onnx or "
            f"torchscript"
        )


def _arguments(description: Description) -> dict[str, Any]:
    """The arguments of timm.create_model beside the name. Only some networks, transformers mostly,
    know `img_size`.
    """
    arguments: dict[str, Any] = {
        "num_classes": len(description["class_names"]),
        "in_chans": len(description["channels"]),
    }
    try:
        timm.create_model(description["model"], **arguments, img_size=description["size"])
    except TypeError:
        return arguments
    return {**arguments, "img_size": description["size"]}


def _load_timm(path: Path, description: Description) -> Predict:
    """Make the network as its user will. It takes normalised pixels."""
    network = timm.create_model(
        description["model"], **_arguments(description), checkpoint_path=str(path)
    )
    return Classifier(network, tuple(description["mean"]), tuple(description["std"])).eval()


def _write_onnx(model: Scorer, description: Description, path: Path) -> None:
    onnx, _, _ = _needed("onnx", "onnxscript", "onnxruntime")
    with _quiet():
        program = torch.onnx.export(
            model,
            (_example(description),),
            dynamo=True,
            external_data=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim.DYNAMIC}},
        )
    assert program is not None
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.value_info, proto.graph):
        # the exporter's notes: stack traces, with paths of this machine
        part.ClearField("metadata_props")
    proto.doc_string = f"{INPUT}: {description['preprocessing']}"
    onnx.helper.set_model_props(proto, _strings(description))
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _load_onnx(path: Path, description: Description) -> Predict:
    (onnxruntime,) = _needed("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def _write_torchscript(model: Scorer, description: Description, path: Path) -> None:
    with _quiet(), torch.no_grad():
        traced = torch.jit.freeze(torch.jit.trace(model, _example(description), check_trace=False))
        torch.jit.save(traced, str(path), _extra_files={EXTRA_FILE: json.dumps(description)})


def _load_torchscript(path: Path, description: Description) -> Predict:
    with _quiet():
        return torch.jit.load(str(path), map_location="cpu")


def _timm_line(path: Path, description: Description) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in _arguments(description).items())
    return (
        f"timm.create_model({description['model']!r}, {arguments}, checkpoint_path={str(path)!r})"
    )


FORMATS = {
    "timm": Format(
        ".safetensors",
        False,
        _write_timm,
        _load_timm,
        own=lambda model, images: model.classifier(images),
        load_line=_timm_line,
    ),
    "onnx": Format(
        ".onnx",
        True,
        _write_onnx,
        _load_onnx,
        own=lambda model, images: model(images),
        load_line=lambda path, description: f"onnxruntime.InferenceSession({str(path)!r})",
    ),
    "torchscript": Format(
        ".pt",
        True,
        _write_torchscript,
        _load_torchscript,
        own=lambda model, images: model(images),
        load_line=lambda path, description: f"torch.jit.load({str(path)!r})",
    ),
}


def _example(description: Description) -> torch.Tensor:
    """Two images, not one: exporters take a 1 for a constant."""
    return torch.zeros(
        2, len(description["channels"]), description["size"], description["size"], dtype=torch.uint8
    )


def _strings(description: Description) -> dict[str, str]:
    """Spell each value as text, as JSON where it is none: what ONNX takes as metadata."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in description.items()
    }


def _needed(*names: str) -> list[Any]:
    try:
        return [importlib.import_module(name) for name in names]
    except ModuleNotFoundError as error:
        raise DataError(f"format onnx needs the package {error.name}: {EXTRA}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what exporters print about themselves: torch.jit is deprecated, which its users
    know.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
