"""The hub's library logs two lines for every attempt; a user sees one."""

import logging

from train.network.hub import hub_says_once

ATTEMPTS = logging.getLogger("huggingface_hub.utils._http")


def test_attempts_at_the_hub_are_said_once(capsys):
    with hub_says_once():
        for number in range(5):
            ATTEMPTS.warning("thrown while requesting HEAD https://huggingface.co/x")
            ATTEMPTS.warning("Retrying in 1s [Retry %d/5].", number)
    said = capsys.readouterr().err
    assert said == "the Hugging Face hub cannot be reached so far; trying for up to a minute\n"
    assert not ATTEMPTS.filters


def test_other_ranks_say_nothing(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with hub_says_once():
        ATTEMPTS.warning("thrown while requesting HEAD https://huggingface.co/x")
    assert capsys.readouterr().err == ""
