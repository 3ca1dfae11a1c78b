"""Training on data with one label a sample: cross-entropy, accuracy, and what the evaluation makes
of it.
"""

import numpy as np
import pytest
import torch

from eval.prediction.evaluate import Outputs
from shards.errors import DataError
from tests.described import listed, write_listed
from tests.train.conftest import ranks, succeed
from tests.train.here import evaluate_here, train_here
from train.optimise.loss import CrossEntropyLoss
from train.optimise.step import right_answers
from train.run import checkpoint
from train.run.folder import read_metrics
from train.run.validation import measure_validation


@pytest.fixture(scope="module")
def run(shades, tmp_path_factory):
    """Four epochs, of which the best is known by its accuracy."""
    out = tmp_path_factory.mktemp("runs") / "shades"
    train_here(shades, out, epochs=4, optimizer="adamw", lr=0.002)
    return out


def test_a_run_records_accuracy_and_keeps_the_best_epoch_by_it(run, shades, tmp_path, capsys):
    metrics = read_metrics(run)
    for line in metrics:
        assert list(line)[:6] == [
            "epoch",
            "size",
            "train_loss",
            "train_accuracy",
            "val_loss",
            "val_accuracy",
        ]
        assert 0 <= line["train_accuracy"] <= 1
        assert round(line["val_accuracy"] * 45, 6) == round(line["val_accuracy"] * 45)
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    assert metrics[-1]["val_accuracy"] > 0.6  # a third would be chance
    best = checkpoint.read(run / "best").meta.progress.best
    values = [line["val_accuracy"] for line in metrics]
    assert (best.metric, best.value, best.epoch) == (
        "val_accuracy",
        max(values),
        1 + values.index(max(values)),
    )
    train_here(shades, tmp_path / "run")
    output = capsys.readouterr().out
    value = f"accuracy {read_metrics(tmp_path / 'run')[0]['val_accuracy']:.4f}"
    assert f"  {value}*" in output
    assert f"best: epoch 1, {value}, " in output


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_the_evaluation_gives_softmax_probabilities_and_the_same_accuracy(run, tta, tmp_path):
    metrics, predictions = evaluate_here(run, tmp_path, "--tta", tta)
    np.testing.assert_allclose(predictions["scores"].sum(1), 1, atol=1e-5)
    top1 = (predictions["scores"].argmax(1) == predictions["labels"].argmax(1)).mean()
    assert metrics["accuracy"] == pytest.approx(top1)
    if tta == "none":
        assert metrics["accuracy"] == checkpoint.read(run / "best").meta.progress.best.value


def test_validation_measures_loss_and_accuracy_of_what_is_known():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 4, generator=generator)
    labels = torch.eye(4, dtype=torch.bool)[torch.randint(4, (20,), generator=generator)]
    known = torch.arange(20)[:, None].expand(20, 4) < 17  # three are padding
    own = Outputs(logits, labels, known, torch.arange(20), "multiclass")
    measured = measure_validation(own, CrossEntropyLoss(0.1), 17, lambda sums: sums)
    targets = labels.int().argmax(1)[:17]
    expected = torch.nn.functional.cross_entropy(logits[:17], targets)
    assert measured["val_loss"] == pytest.approx(expected.item(), rel=1e-6)
    assert measured["val_accuracy"] == (logits[:17].argmax(1) == targets).double().mean().item()
    nothing = Outputs(logits, labels, torch.zeros_like(known), torch.arange(20), "multiclass")
    assert np.isnan(
        measure_validation(nothing, CrossEntropyLoss(), 17, lambda sums: sums)["val_accuracy"]
    )


def test_right_answers_are_counted_at_the_greater_share_of_a_mixed_label():
    logits = torch.tensor([[3.0, 1, 0], [0, 2, 1], [0, 1, 2], [5, 0, 0]])
    labels = torch.tensor([[0.6, 0.4, 0], [0.6, 0.4, 0], [0, 0, 1], [1, 0, 0]])
    known = torch.tensor([True, True, True, False])[:, None].expand(4, 3)
    assert right_answers(logits, labels, known) == 2


def test_labels_that_are_not_one_a_sample_are_refused(shades, tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir(parents=True)
        for file in (shades / split).iterdir():
            (tmp_path / split / file.name).write_bytes(file.read_bytes())
    described = listed(tmp_path / "train")
    described["statistics"]["ignored"][0] = 3
    write_listed(tmp_path / "train", described)
    with pytest.raises(DataError, match="it has 100 samples with 100 labels and 3 ignored ones"):
        train_here(tmp_path, tmp_path / "run")


@pytest.mark.slow
def test_two_ranks_give_the_same_losses_and_accuracies_with_mixed_images_too(shades, tmp_path):
    """100 samples in batches of 12: the last batch is short, its samples all lie on the first rank."""
    options = {
        "epochs": 2,
        "mixup": 0.4,
        "cutmix": 1.0,
        "label_smoothing": 0.1,
        "global_batch_size": 12,
    }
    train_here(shades, tmp_path / "one", **options)
    config = str(tmp_path / "one/config.yaml")
    succeed(
        ranks(2, "train", "--config", config, "--accumulate", "3", "--out", str(tmp_path / "two"))
    )
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose([x[name] for x in one], [x[name] for x in two], rtol=1e-5)
    for name in ("train_accuracy", "val_accuracy"):
        np.testing.assert_allclose([x[name] for x in one], [x[name] for x in two], atol=0.03)
