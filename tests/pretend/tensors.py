"""Tensors that say cuda:0 and compute on the CPU: real values, and the rules of a device.

    with Pretend():
        x = torch.rand(3, device="cuda")
        y = f(x)

A `There` holds its values in a tensor of the host, `own`. Each operator on one is done on the
host's tensors; what mixes host and device, as no real device allows, raises. Every launch, wait and
copy is imagined: those are for the pretended runtime to count.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from shards.pipeline.device_maker import DeviceMaker

DEVICE = torch.device("cuda:0")
# CUDA takes ids of the host
BY_HOST_IDS = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
MIXED = "{name}: tensors of cuda:0 and of the host, as no device takes them together"


class There(Tensor):
    """A tensor that says cuda:0; `own` is the host's tensor behind it."""

    own: Tensor

    @staticmethod
    def __new__(cls, own: Tensor) -> "There":
        made = Tensor._make_wrapper_subclass(
            cls,
            own.size(),
            strides=own.stride(),
            storage_offset=own.storage_offset(),
            dtype=own.dtype,
            device=DEVICE,
        )
        made.own = own
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> "There":
        copied = There(self.own.detach().clone())
        return (
            nn.Parameter(copied, self.requires_grad) if isinstance(self, nn.Parameter) else copied
        )

    def __reduce_ex__(self, protocol: Any) -> Any:  # saved as what `map_location="cpu"` would read
        return self.own.__reduce_ex__(protocol)

    def tolist(self) -> Any:
        return self.own.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with Pretend():  # of a thread that is not pretending, such as autograd's of the device
            return func(*args, **(kwargs or {}))


def here(values: Any) -> Any:
    """Put the host's tensors in the place of pretended ones, anywhere in a structure."""
    return tree_map(lambda value: value.own if isinstance(value, There) else value, values)


def _adopted(value: Any) -> Any:
    """Take over what was made on the device below the mode, as torch.tensor(..., device="cuda")
    does.
    """
    real = (
        isinstance(value, Tensor) and not isinstance(value, There) and value.device.type == "cuda"
    )
    return There(value.cpu()) if real else value


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class Pretend(TorchDispatchMode):
    """Do on the host what is asked of cuda:0. Inference tensors are none here: they could not be
    wrapped again.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return self._do(func, tree_map(_adopted, args), tree_map(_adopted, dict(kwargs or {})))

    def _do(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.split("::")[1]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = {id(leaf.own): leaf for leaf in tensors if isinstance(leaf, There)}
        if name == "record_stream":
            return None
        if name == "copy_":
            func(*here(args), **kwargs)
            return args[0]
        if name == "_to_copy":
            return self._copied(func, args, kwargs)
        if there:
            self._check(name, args, tensors)
        makes = _is_there(kwargs.get("device"))
        if makes:
            kwargs["device"] = torch.device("cpu")
        out = func(*here(args), **here(kwargs))
        if not there and not makes:
            return out

        # what comes out of an operator in place is the tensor that went in
        def taken(one: Any) -> Any:
            # sparse: as the host's, beside pretended
            if not isinstance(one, Tensor) or one.layout != torch.strided:
                return one
            return there[id(one)] if id(one) in there else There(one)

        return tree_map(taken, out)

    def _copied(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        to = kwargs.get("device")
        to = to if to is not None else args[0].device
        copied = func(*here(args), **{**kwargs, "device": torch.device("cpu")})
        return There(copied) if _is_there(to) else copied

    def _check(self, name: str, args: Any, tensors: list[Tensor]) -> None:
        of_host = [
            one
            for one in tensors
            if not isinstance(one, There) and one.ndim and one.layout == torch.strided
        ]
        if of_host and not (name in BY_HOST_IDS and isinstance(args[0], There)):
            raise RuntimeError(MIXED.format(name=name))


_to = nn.Module.to


def _module_to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """Move a module as Module.to does, which would write the device's values into the host's
    tensors.
    """
    given = next(
        (value for value in (*args, *kwargs.values()) if isinstance(value, torch.device | str)),
        None,
    )
    if not _is_there(given):
        return _to(module, *args, **kwargs)
    for part in module.modules():
        for name, one in part._parameters.items():
            if one is not None and not isinstance(one, There):
                part._parameters[name] = nn.Parameter(
                    There(one.data), requires_grad=one.requires_grad
                )
        for name, one in part._buffers.items():
            if one is not None and not isinstance(one, There):
                part._buffers[name] = There(one)
    return module


def _in_its_thread(make: Callable[..., Any]) -> Callable[..., Any]:
    """Let a loader's thread pretend too: a mode is of one thread alone."""

    def call(maker: DeviceMaker, *where: int) -> Any:
        if maker.device.type != "cuda":
            return make(maker, *where)
        with Pretend():
            return make(maker, *where)

    return call


def install() -> None:
    """Teach this process what cannot be had from the mode."""
    torch.backends.cudnn.enabled = False  # its operators have no counterpart on the CPU
    nn.Module.to = _module_to  # type: ignore[method-assign]
    DeviceMaker.make = _in_its_thread(DeviceMaker.make)  # type: ignore[method-assign]
