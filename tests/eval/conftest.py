"""The small report, open in a browser; the commands of evaluation and prediction in this process."""

import sys

import numpy as np
import pytest
from accelerate.state import AcceleratorState

from eval.__main__ import main as evaluate
from eval.predict import main as predict_pictures
from shards.commandline import run
from tests.eval.reports import make_predictions, make_report, open_page


@pytest.fixture
def predictions():
    return make_predictions()


@pytest.fixture
def opened(browser, predictions, tmp_path):
    """The report in a browser, with what it asked for and complained about."""
    page, trouble = open_page(browser, make_report(predictions), tmp_path)
    yield page, trouble
    page.close()


@pytest.fixture
def predict(monkeypatch, capsys):
    """Run the command in this process: its arguments -> (exit status, stdout, stderr)."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, args)])
        status = 0
        try:
            run(predict_pictures)
        except SystemExit as leaving:
            status = leaving.code
        return status, *capsys.readouterr()

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return call


@pytest.fixture
def call_eval(monkeypatch):
    """Run `python -m eval` in this process without a report: its arguments, --out the last ->
    scores.
    """

    def call(*args):
        AcceleratorState._reset_state(reset_partial_state=True)
        monkeypatch.setattr(sys, "argv", ["eval", *map(str, args)])
        evaluate()
        AcceleratorState._reset_state(reset_partial_state=True)
        return np.load(args[-1] / "predictions.npz")["scores"]

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr("eval.evaluation.render_report", lambda *_, **__: "")
    monkeypatch.setattr("eval.evaluation.draw_figures", lambda *_: ({}, {}))
    monkeypatch.setattr("eval.evaluation.grids", lambda *_: {})
    return call
