"""metrics.json, predictions.npz and per_class.csv: strict, exact, the same bytes for the same
content.
"""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as sklearn_metrics
from sklearn.metrics import average_precision_score

from eval.metrics import tail_accuracy
from eval.prediction.predictions import Predictions
from eval.report.figures import TITLES, draw_figures, figures
from eval.report.gallery import build_galleries
from eval.results.class_curves import class_curves
from eval.results.files import write_metrics, write_per_class, write_plots, write_predictions
from eval.results.measure import measure_predictions
from eval.results.summary import evaluation_summary
from eval.results.tail_grid import TailGrid
from shards.errors import DataError
from shards.pages.palette import PAPER


def make(num_samples=60, num_classes=4, **changes):
    generator = torch.Generator().manual_seed(0)
    shape = (num_samples, num_classes)
    fields = {
        "scores": torch.rand(shape, generator=generator),
        "labels": torch.rand(shape, generator=generator) < 0.3,
        "known": torch.rand(shape, generator=generator) < 0.9,
        "keys": [f"image-{i}" for i in range(num_samples)],
        "class_names": [f"class {c}" for c in range(num_classes)],
        "split": "val",
    }
    return Predictions(**{**fields, **changes})


def strict_json(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_map_is_the_mean_over_the_classes_with_a_positive():
    predictions = make()
    predictions.labels[:, 2] = False
    metrics = measure_predictions(predictions)
    expected = {}
    for c, name in enumerate(predictions.class_names):
        keep = predictions.known[:, c]
        labels, scores = predictions.labels[keep, c], predictions.scores[keep, c]
        assert metrics["per_class"][name]["positives"] == int(labels.sum())
        assert metrics["per_class"][name]["ignored"] == int((~keep).sum())
        if c != 2:
            expected[name] = average_precision_score(labels, scores)
            assert metrics["per_class"][name]["ap"] == pytest.approx(expected[name], abs=1e-9)
    assert metrics["mAP"] == pytest.approx(np.mean(list(expected.values())), abs=1e-9)
    assert metrics["per_class"]["class 2"]["ap"] is None
    assert metrics["classes_without_positives"] == ["class 2"]


def test_the_interval_of_map_lies_between_0_and_1():
    labels = torch.zeros((60, 4), dtype=torch.bool)
    labels[:2] = True
    scores = torch.linspace(0.9, 0.1, 60)[:, None].repeat(1, 4)
    scores[1] = 0.88
    for shown in (scores, 1 - scores):
        low, high = measure_predictions(make(labels=labels, scores=shown))["mAP_interval"]
        assert 0 <= low <= high <= 1


def test_the_other_measures_are_scikit_learns():
    predictions = make(known=torch.ones(60, 4, dtype=torch.bool))
    found = measure_predictions(predictions)
    scores, labels = predictions.scores.double().numpy(), predictions.labels.numpy()
    expected = {
        "mAP_micro": average_precision_score(labels, scores, average="micro"),
        "mAP_weighted": average_precision_score(labels, scores, average="weighted"),
        "mean_roc_auc": sklearn_metrics.roc_auc_score(labels, scores, average="macro"),
        "mean_f1": sklearn_metrics.f1_score(labels, scores >= 0.5, average="macro"),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert found["label_ranking"] == pytest.approx(
        {
            "average_precision": sklearn_metrics.label_ranking_average_precision_score(
                labels, scores
            ),
            "coverage_error": sklearn_metrics.coverage_error(labels, scores),
            "loss": sklearn_metrics.label_ranking_loss(labels, scores),
        },
        abs=1e-9,
    )
    for c, entry in enumerate(found["per_class"].values()):
        predicted = scores[:, c] >= entry["best_f1_threshold"]
        assert entry["best_f1"] == pytest.approx(
            sklearn_metrics.f1_score(labels[:, c], predicted), abs=1e-12
        )
        assert entry["best_f1"] == pytest.approx(
            max(sklearn_metrics.f1_score(labels[:, c], scores[:, c] >= t) for t in scores[:, c]),
            abs=1e-12,
        )
        low, high = entry["ap_interval"]
        assert low < entry["ap"] < high
    assert found["mAP_interval"][0] < found["mAP"] < found["mAP_interval"][1]


def test_thresholds_chosen_elsewhere_give_a_further_f1():
    predictions = make()
    found = measure_predictions(
        predictions, thresholds={"class 0": 0.25, "class 2": 0.75, "class 3": None, "stranger": 0.1}
    )
    for c, limit in ((0, 0.25), (2, 0.75)):
        keep = predictions.known[:, c]
        predicted = predictions.scores[keep, c] >= limit
        expected = sklearn_metrics.f1_score(predictions.labels[keep, c], predicted)
        entry = found["per_class"][f"class {c}"]
        assert entry["f1_at_given"] == pytest.approx(expected, abs=1e-12)
        assert entry["given_threshold"] == limit
    assert [found["per_class"][name]["f1_at_given"] for name in ("class 1", "class 3")] == [
        None,
        None,
    ]
    values = [found["per_class"][name]["f1_at_given"] for name in ("class 0", "class 2")]
    assert found["mean_f1_at_given"] == pytest.approx(np.mean(values))
    assert "mean_f1_at_given" not in measure_predictions(predictions)


def test_histogram_counts_every_known_label_once():
    scores = make().scores
    scores[0, 0], scores[1, 0], scores[2, 0] = 0, 1, 0.02
    predictions = make(scores=scores)
    histogram = measure_predictions(predictions)["score_histogram"]
    for name, keep in (("positives", predictions.labels), ("negatives", ~predictions.labels)):
        values = scores[keep & predictions.known].double().numpy()
        np.testing.assert_array_equal(histogram[name], np.histogram(values, 50, (0, 1))[0])


def test_one_label_a_sample_has_top_1_and_top_5_and_a_confusion_matrix():
    targets = torch.randint(8, (60,), generator=torch.Generator().manual_seed(1))
    scores = make(num_classes=8).scores
    labels = torch.nn.functional.one_hot(targets, 8) > 0
    names = [f"class {c}" for c in range(8)]
    predictions = make(
        scores=scores, labels=labels, known=labels | True, class_names=names, task="multiclass"
    )
    found = measure_predictions(predictions)
    assert found["accuracy"] == pytest.approx((scores.argmax(1) == targets).double().mean().item())
    assert found["top5_accuracy"] == pytest.approx(
        sklearn_metrics.top_k_accuracy_score(targets, scores, k=5)
    )
    assert list(found)[4] == "accuracy"  # before mAP: what a reader of the file looks for
    for name in ("accuracy", "top5_accuracy"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high
    assert found["mean_class_accuracy"] == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(targets, scores.argmax(1))
    )
    precision, recall, *_ = sklearn_metrics.precision_recall_fscore_support(
        targets, scores.argmax(1), labels=range(8), zero_division=np.nan
    )
    entries = list(found["per_class"].values())
    assert [entry["accuracy"] for entry in entries] == pytest.approx(recall)
    assert [entry["precision"] for entry in entries] == pytest.approx(
        [None if v != v else v for v in precision]
    )
    confusion = sklearn_metrics.confusion_matrix(targets, scores.argmax(1), labels=range(8))
    np.testing.assert_array_equal(found["confusion"]["predicted"], confusion)
    assert found["confusion"]["of"][3] == [int((targets == 3).sum())] * 8
    assert "accuracy" not in measure_predictions(make())
    sure, right = scores.max(1).values, scores.argmax(1) == targets
    bins = (sure.double() * 15).long().clamp(max=14)
    expected = (
        sum(
            abs(right[bins == b].double().sum() - sure[bins == b].double().sum()) for b in range(15)
        )
        / 60
    )
    assert found["calibration"]["ece"] == pytest.approx(expected.item())


def test_many_classes_have_no_matrices():
    predictions = make(num_classes=201)
    found = measure_predictions(predictions)
    assert not {"confusion", "co_occurrence"} & set(found)
    assert "confusion" not in figures(found, predictions, class_curves(predictions), [])


@pytest.mark.slow
def test_every_figure_is_a_png_for_paper(tmp_path):
    predictions = make(class_names=["$a_1$", "b" * 40, "<c>", "d"])
    history = [{"epoch": 1, "train_loss": 1.0, "val_mAP": 0.3, "lr": 0.1, "val_accuracy": 0.2}]
    drawn = figures(
        measure_predictions(predictions), predictions, class_curves(predictions), history
    )
    write_plots(tmp_path / "plots", draw_figures(drawn)[1])
    files = sorted((tmp_path / "plots").iterdir())
    assert [path.stem for path in files] == sorted(TITLES)
    for path in files:
        pixels = np.asarray(Image.open(path).convert("L"))
        assert pixels.shape[1] >= 400
        assert pixels[0, 0] == 255
        assert 0.001 < (pixels < 128).mean() < 0.5  # something is drawn in dark ink


def test_lines_of_classes_are_tail_accuracy_above_the_threshold_as_the_mean_is():
    predictions = make()
    # on the thresholds that are drawn
    predictions.scores[:] = (predictions.scores * 200).round() / 200
    found, curves = measure_predictions(predictions), class_curves(predictions)
    lines = figures(found, predictions, curves, [])["tail_accuracy"](PAPER).axes[0].lines
    line = next(line for line in lines if line.get_gid() == "class-0")
    thresholds = torch.from_numpy(np.asarray(line.get_xdata()))
    expected = tail_accuracy(predictions.scores, predictions.labels, thresholds, predictions.known)[
        :, 0
    ]
    assert line.get_ydata().tolist() == expected.tolist()
    assert len(thresholds) > 10


def test_a_list_of_numbers_is_one_line_and_strings_are_left_alone(tmp_path):
    values = {
        "a": [1, 2.5, None, -3e-7],
        "b": [[1, 2], [3]],
        "c": "[\n1,\n2\n]",
        "d": [],
        "e": ["1", "2"],
        "f": [True],
    }
    write_metrics(tmp_path / "metrics.json", values)
    text = (tmp_path / "metrics.json").read_text()
    assert strict_json(text) == values
    assert '"a": [1, 2.5, null, -3e-07]' in text
    assert "    [1, 2],\n" in text


def test_tail_accuracy_agrees_with_a_loop_over_its_own_grids():
    predictions = make()
    tail = measure_predictions(predictions, TailGrid(num_steps=7))["tail_accuracy"]
    scores, labels, known = (
        t.numpy().astype(float) for t in (predictions.scores, predictions.labels, predictions.known)
    )

    def value(c, t):
        above = (known[:, c] > 0) & (scores[:, c] > t)
        return labels[above, c].mean() if above.any() else math.nan

    assert len(tail["thresholds"]) == 7
    assert tail["thresholds"][0] == 0.5
    for t, mean, num_classes in zip(
        tail["thresholds"], tail["mean"], tail["num_classes"], strict=True
    ):
        values = [value(c, t) for c in range(4)]
        assert mean == pytest.approx(np.nanmean(values), abs=1e-12)
        assert num_classes == np.isfinite(values).sum()
    assert tail["mean_over_all"] == pytest.approx(np.mean(tail["mean"]), abs=1e-12)
    for c, name in enumerate(predictions.class_names):
        own = tail["per_class"][name]
        assert own["values"] == pytest.approx([value(c, t) for t in own["thresholds"]], abs=1e-12)
    columns = zip(
        *(tail["per_class"][name]["values"] for name in predictions.class_names), strict=True
    )
    assert tail["mean_by_step"] == pytest.approx([np.mean(column) for column in columns], abs=1e-12)


def test_metrics_json_is_strict_even_without_a_single_value(tmp_path):
    predictions = make(scores=torch.full((60, 4), 0.1), labels=torch.zeros(60, 4))
    metrics = measure_predictions(predictions)
    assert metrics["mAP"] is None
    assert metrics["tail_accuracy"]["mean_over_all"] is None
    write_metrics(tmp_path / "metrics.json", metrics)
    assert strict_json((tmp_path / "metrics.json").read_text(encoding="utf-8")) == metrics
    assert "mAP -" in evaluation_summary(metrics)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_metrics(tmp_path / "metrics.json", {"mAP": math.nan})
    assert strict_json((tmp_path / "metrics.json").read_text(encoding="utf-8")) == metrics


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_score_dtype_is_measured(dtype):
    predictions = make(scores=make().scores.to(dtype))
    assert measure_predictions(predictions)["mAP"] == pytest.approx(
        measure_predictions(make())["mAP"], abs=0.05
    )


def test_predictions_npz_has_the_same_bytes_for_the_same_content(tmp_path, monkeypatch):
    predictions = make(keys=["größe", *(f"k{i}" for i in range(59))])
    write_predictions(tmp_path / "a.npz", predictions)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_predictions(tmp_path / "b.npz", make(keys=predictions.keys))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["keys", "known", "labels", "scores"]
        assert arrays["scores"].dtype == np.float32
        assert arrays["labels"].dtype == arrays["known"].dtype == bool
        assert arrays["keys"].tolist() == list(predictions.keys)
        np.testing.assert_array_equal(arrays["scores"], predictions.scores)
        np.testing.assert_array_equal(arrays["known"], predictions.known)


def test_per_class_csv_survives_hostile_names(tmp_path):
    names = ["plain", 'with, comma and "quotes"', "two\nlines", "ünï"]
    predictions = make(class_names=names)
    predictions.labels[:, 3] = False
    metrics = measure_predictions(predictions)
    write_per_class(tmp_path / "per_class.csv", metrics)
    with open(tmp_path / "per_class.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == names
    assert float(rows[0]["ap"]) == metrics["per_class"]["plain"]["ap"]
    assert rows[3]["ap"] == ""
    assert int(rows[1]["positives"]) == metrics["per_class"][names[1]]["positives"]


def test_nan_scores_are_refused_with_count_and_keys_but_only_where_known():
    scores = make().scores
    scores[3, 1] = scores[7, 2] = scores[7, 3] = math.nan
    known = torch.ones(60, 4, dtype=torch.bool)
    message = r"3 scores are NaN, in 2 of 60 samples \(first keys: 'image-3', 'image-7'\)"
    with pytest.raises(DataError, match=message):
        measure_predictions(make(scores=scores, known=known))
    known[3], known[7] = False, False
    assert measure_predictions(make(scores=scores, known=known))["mAP"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scores": torch.full((60, 4), 3.5)},
            "probabilities in .0, 1., got values from 3.5 to 3.5",
        ),
        ({"class_names": ["a", "b", "a", "c"]}, "class names must differ, repeated: 'a'"),
        (
            {"keys": [], **{n: torch.zeros(0, 4) for n in ("scores", "labels", "known")}},
            "split 'val' holds no samples",
        ),
    ],
)
def test_what_cannot_be_measured_is_named(changes, message):
    with pytest.raises(DataError, match=message):
        measure_predictions(make(**changes))


def test_predictions_of_unequal_shapes_are_refused():
    with pytest.raises(
        ValueError, match=r"labels must be \[samples, classes\] = \(60, 4\), got \(60, 3\)"
    ):
        make(labels=torch.zeros(60, 3))


@pytest.mark.parametrize(
    ("num_classes", "most_lines"), [(3, 12), (20, 30), (21, 20), (50, 35), (1000, 36)]
)
def test_summary_fits_one_screen(num_classes, most_lines):
    names = [f"a class with a very long name {c}" for c in range(num_classes)]
    text = evaluation_summary(
        measure_predictions(make(num_classes=num_classes, class_names=names)),
        ["runs/x/eval-val/report.html"],
    )
    lines = text.splitlines()
    assert len(lines) <= most_lines
    assert max(map(len, lines)) <= 100
    assert text.startswith("mAP 0.")
    assert lines[-1].endswith("report.html")


def test_summary_sorts_by_ap_and_disarms_terminal_escapes():
    predictions = make(class_names=["\x1b[2J", "b", "c", "d"])
    metrics = measure_predictions(predictions)
    text = evaluation_summary(metrics)
    assert "\x1b" not in text
    shown = [float(line.split()[-3]) for line in text.splitlines()[3:7]]
    assert shown == sorted(shown, reverse=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_measures_the_same():
    on_cpu = make(num_samples=200)
    moved = {name: getattr(on_cpu, name).cuda() for name in ("scores", "labels", "known")}
    on_gpu = make(num_samples=200, **moved)
    given = dict.fromkeys(on_cpu.class_names, 0.4)
    expected, found = (
        measure_predictions(on_cpu, thresholds=given),
        measure_predictions(on_gpu, thresholds=given),
    )
    # the last one has means too
    for name in ("mAP", "mAP_interval", "mean_f1_at_given", "precision_recall"):
        assert found[name] == pytest.approx(expected[name], abs=1e-12)
    for name in ("confusion", "co_occurrence", "score_histogram"):
        assert found[name] == expected[name]
    assert build_galleries(on_gpu, [0], 50) == build_galleries(on_cpu, [0], 50)
