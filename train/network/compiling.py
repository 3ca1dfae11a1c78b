"""Compiled networks (torch.compile): one graph for each size of training, one for validation.

What is compiled takes the place of a method, not of a module: names of weights stay as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType

import torch

from eval.prediction.evaluate import Forward
from shards.errors import DataError, one_line
from train.network.model import Classifier

BACKEND = "inductor"
REMEDY = "leave out --compile"


def compile_for_training(classifier: Classifier, device: torch.device) -> None:
    """Compile what a training step calls. Raises DataError where this machine cannot.

    Batches of one size have one shape, the padded last one too. Each size has a graph of its own,
    made when it first comes: one graph for all would have to do without what is known of a shape.
    """
    _check_compiler(device)
    torch._dynamo.reset()  # a run before this one in the process counts towards torch's limit
    plain = classifier.forward
    compiled: dict[int, Forward] = {}

    def forward(images: torch.Tensor) -> torch.Tensor:
        size = images.shape[-1]
        if size not in compiled:
            compiled[size] = torch.compile(
                _function_of_its_own(plain), backend=BACKEND, dynamic=False
            )
        return compiled[size](images)

    classifier.forward = forward  # type: ignore[method-assign]


def compiled_for_validation(classifier: Classifier) -> Forward:
    """Compile what validation calls."""

    def validated(images: torch.Tensor) -> torch.Tensor:
        return Classifier.forward(classifier, images)

    return torch.compile(validated, backend=BACKEND, dynamic=False)


def _function_of_its_own(forward: Forward) -> Forward:
    """Make a function that torch has not seen: it takes a second graph of the same code for a
    recompilation of the first, and makes eight of them at most.
    """

    def called(images: torch.Tensor) -> torch.Tensor:
        return forward(images)

    code = called.__code__.replace()  # another object, which is what torch keeps graphs by
    return FunctionType(code, called.__globals__, closure=called.__closure__)


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
