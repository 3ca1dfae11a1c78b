"""Compiled networks (torch.compile): one graph for training, one for validation.

What is compiled takes the place of a method, not of a module: names of weights stay as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from eval.prediction.evaluate import Forward
from shards.errors import DataError, one_line
from train.network.model import Classifier

BACKEND = "inductor"
REMEDY = "leave out --compile"


def compile_for_training(classifier: Classifier, device: torch.device) -> None:
    """Compile what a training step calls. Raises DataError where this machine cannot.

    Batches have one shape, the padded last one too: so nothing is compiled for other shapes.
    """
    _check_compiler(device)
    torch._dynamo.reset()  # a run before this one in the process counts towards torch's limit
    forward = torch.compile(classifier.forward, backend=BACKEND, dynamic=False)
    classifier.forward = forward  # type: ignore[method-assign]


def compiled_for_validation(classifier: Classifier) -> Forward:
    """Compile what validation calls: a function of its own, as torch takes a second graph of one
    function for a recompilation of the first.
    """

    def validated(images: torch.Tensor) -> torch.Tensor:
        return Classifier.forward(classifier, images)

    return torch.compile(validated, backend=BACKEND, dynamic=False)


@contextmanager
def one_line_where_compiling_fails(asked: bool) -> Iterator[None]:
    """Turn the errors of torch.compile, which come with the first steps, into one line."""
    if not asked:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import CppCompileError

    try:
        yield
    except (TorchDynamoException, CppCompileError) as error:
        raise DataError(
            f"torch.compile failed on this network or machine ({one_line(error)[:300]}); {REMEDY}"
        ) from error


def _check_compiler(device: torch.device) -> None:
    if device.type != "cpu" or BACKEND != "inductor":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except (RuntimeError, OSError) as error:
        raise DataError(
            "compile is set, but on a CPU torch.compile needs a C++ compiler and finds none: "
            f"install one, such as g++, or {REMEDY}"
        ) from error
