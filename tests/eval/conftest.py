"""The small report, open in a browser."""

import pytest

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
