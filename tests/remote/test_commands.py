"""Commands by address: results folders, and what is refused."""

import sys

import pytest

from eval.config import EvalConfig, results_name
from preprocess import inspect
from shards import bench
from shards.errors import DataError
from shards.host.picture_files import IMAGE_SUFFIXES

URL = "https://host/voc"


def test_results_of_another_address_have_a_folder_of_their_own(monkeypatch, tmp_path):
    name = results_name(EvalConfig(data=URL), "data/voc", "val")
    assert name.startswith("eval-val-of-voc-")
    monkeypatch.chdir(tmp_path)  # not of where the command was started
    assert results_name(EvalConfig(data=f"{URL}/"), "data/voc", "val") == name
    assert results_name(EvalConfig(data=URL), URL, "val") == "eval-val"
    assert results_name(EvalConfig(data="s3://bucket/voc"), URL, "val") != name


def test_the_speed_of_an_address_is_measured(server, tmp_path, capsys):
    argv = [server.url, "--cache-dir", str(tmp_path / "cache"), "--seconds", "0.1"]
    bench.main([*argv, "--size", "32", "--global-batch-size", "8", "--num-threads", "1"])
    assert f"{server.url}/train: 70 images" in capsys.readouterr().out


def test_a_cache_of_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="are for data by address"):
        bench.main([str(tmp_path), "--cache-gb", "3"])


def test_an_address_is_not_inspected():
    with pytest.raises(DataError, match=f"^{URL}: every image is decoded here, so give a folder"):
        inspect.main([URL])


def test_a_split_by_address_is_no_picture(monkeypatch, capsys):
    from eval import predict
    from shards.commandline import run

    monkeypatch.setattr(sys, "argv", ["predict", f"{URL}/val"])
    with pytest.raises(SystemExit) as ended:
        run(predict.main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {URL}/val: is no picture by its name (suffixes {' '.join(IMAGE_SUFFIXES)}), and an "
        "address is not listed: name its pictures; to predict a packed dataset: python -m eval "
        "--data https://host/voc --split val --export csv\n"
    )
