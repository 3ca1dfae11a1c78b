"""The whole trainer and evaluator on pretended tensors: the bits of the CPU, and no tensor on the
wrong device.
"""

from typing import get_args

import pytest

from shards.choices import TestTimeName
from tests.pretend.values import TRAININGS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(pretended, digits, tmp_path_factory):
    """Results of each command, made when first asked for."""
    made = {}

    def call(what: str) -> dict:
        if what not in made:
            made[what] = pretended(
                "tests.pretend.values", what, digits, tmp_path_factory.mktemp(what)
            )
        return made[what]

    return call


@pytest.mark.parametrize("way", TRAININGS)
def test_training_gives_the_bits_of_the_cpu(found, way):
    on_cpu, on_device = found("train")[way]
    assert on_device == on_cpu
    assert len(on_cpu["sums"]) > 20


def test_a_stopped_run_goes_on_to_the_bits_of_the_cpu(found):
    whole, resumed = found("resume")["resumed"]
    assert resumed == whole
    assert len(whole["metrics"]) == 2


@pytest.mark.parametrize("tta", get_args(TestTimeName))
def test_evaluation_gives_the_bits_of_the_cpu(found, tta):
    on_cpu, on_device = found("eval")[tta]
    assert on_device == on_cpu
    assert len(on_cpu["scores"]) == 40
