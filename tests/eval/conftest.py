"""A browser, and the small report open in it."""

import shutil

import pytest

from tests.eval.reports import make_predictions, make_report, open_page


@pytest.fixture
def predictions():
    return make_predictions()


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on the PATH to open the report with")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, predictions, tmp_path):
    """The report in a browser, with what it asked for and complained about."""
    page, trouble = open_page(browser, make_report(predictions), tmp_path)
    yield page, trouble
    page.close()
