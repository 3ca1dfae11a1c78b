"""The average of a run's weights: timm's bits, in as few calls as there are kinds of tensors."""

import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from train.optimise.ema import Average, decay_at


def network() -> nn.Module:
    """Floats and counters, parameters and buffers, in both memory formats."""
    parts = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 5))
    return parts.to(memory_format=torch.channels_last)


def change(model: nn.Module, step: int) -> None:
    """Change every tensor in place, as an optimiser and a batch norm do."""
    torch.manual_seed(step)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(torch.randn(value.shape) if value.is_floating_point() else 1)


def test_every_step_gives_the_bits_of_timm():
    model = network()
    own, timms = Average(model, 0.93), ModelEmaV3(model, 0.93, use_warmup=True)
    for step in (*range(30), 5000):
        change(model, step)
        own.update(step)
        timms.update(model, step=step)
        expected = timms.module.state_dict()
        for name, value in own.module.state_dict().items():
            assert torch.equal(value, expected[name]), (step, name)
    assert not torch.equal(own.module[0].weight, model[0].weight)


def test_the_decay_is_that_of_timm_in_every_step():
    timms = ModelEmaV3(nn.Linear(1, 1), 0.999, use_warmup=True)
    for step in (*range(2000), 10**6):
        assert decay_at(step, 0.999) == timms.get_decay(step)


class Counting(TorchDispatchMode):
    """Counts operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_an_update_is_one_call_for_all_floats_and_one_for_all_counters(monkeypatch):
    model = network()
    average = Average(model, 0.9)
    average.update(6)
    monkeypatch.setattr(nn.Module, "state_dict", None)  # looking names up is what cost time
    with Counting() as counting:
        average.update(7)
    assert counting.names == ["aten::_foreach_lerp_.Scalar", "aten::_foreach_copy_"] or (
        counting.names == ["aten::_foreach_lerp_", "aten::_foreach_copy_"]
    )


def test_a_state_that_is_loaded_is_followed():
    """Resuming loads weights into both: the lists must still be of the tensors in use."""
    model, other = network(), network()
    average = Average(model, 0.5)
    change(other, 1)
    model.load_state_dict(other.state_dict())
    average.module.load_state_dict(other.state_dict())
    change(model, 2)
    before = average.module[0].weight.clone()
    average.update(100)
    assert torch.equal(average.module[0].weight, torch.lerp(before, model[0].weight, 0.5))
    assert torch.equal(average.module[1].num_batches_tracked, model[1].num_batches_tracked)


def test_a_model_whose_tensors_are_exchanged_before_the_first_step_is_followed():
    """DistributedDataParallel does so."""
    model = network()
    average = Average(model, 0.5)
    for value in (*model.parameters(), *model.buffers()):
        value.data = value.data.clone()
    change(model, 1)
    average.update(1)
    assert torch.equal(average.module[0].weight, model[0].weight)
    assert torch.equal(average.module[1].running_var, model[1].running_var)
