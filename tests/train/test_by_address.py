"""Training and evaluation by address: the same bits as from the folder, and no secret anywhere."""

import os

import numpy as np
import pytest

from shards.errors import DataError
from shards.remote import patience
from tests.remote.faulty_server import HASTY, FaultyServer
from tests.train.conftest import SMALL, command, launch, ranks, succeed
from tests.train.here import evaluate_here, train_here
from train.run import checkpoint
from train.run.folder import read_metrics

pytestmark = pytest.mark.slow
# as train_here trains
SMALL_RUN = [word for word in SMALL if word not in ("--drop-rate", "0.1")] + [
    "--global-batch-size",
    "16",
]
SECRET = "planted-secret-4711"


def figures(run) -> list[dict]:
    kept = ("epoch", "train_loss", "val_loss", "val_mAP")
    return [{name: line[name] for name in kept} for line in read_metrics(run)]


def weights(run) -> bytes:
    (path,) = (run / "last").glob("model*.safetensors")
    return path.read_bytes()


@pytest.fixture
def secrets(monkeypatch):
    """Credentials where fsspec and the cloud's libraries look for them."""
    from fsspec.config import conf

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    headers = {"Authorization": f"Bearer {SECRET}"}
    monkeypatch.setitem(conf, "http", {"headers": headers})


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE", HASTY)


@pytest.fixture(scope="module")
def near(digits, tmp_path_factory):
    """Two epochs from the folder."""
    out = tmp_path_factory.mktemp("near") / "run"
    train_here(digits, out, epochs=2, order="near")
    return out


@pytest.mark.usefixtures("secrets")
def test_training_by_address_gives_the_bits_of_the_folder(digits, near, tmp_path, capfd):
    with FaultyServer(digits) as server:
        out = tmp_path / "far"
        config = train_here(server.url, out, epochs=2, cache_dir=str(tmp_path / "cache"))
        assert weights(out) == weights(near)
        assert figures(out) == figures(near)
        assert config.data == server.url
        _, scores = evaluate_here(out, tmp_path / "results")
        _, own = evaluate_here(near, tmp_path / "own")
        assert np.array_equal(scores["scores"], own["scores"])
    told = capfd.readouterr()
    assert SECRET not in told.out + told.err
    for folder, _, names in os.walk(tmp_path):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                assert SECRET.encode() not in file.read(), name


def test_a_run_goes_on_after_its_server_was_away(digits, near, tmp_path):
    class Away(FaultyServer):
        def draw(self, name):
            return self.always if "val-" in name and name.endswith(".tar") else ""

    options = {"epochs": 2, "cache_dir": str(tmp_path / "cache"), "save_every_steps": 5}
    with Away(digits, always="500") as server:
        with pytest.raises(DataError, match=r"/val/val-00000\d.tar: the server answers 500"):
            train_here(server.url, tmp_path / "run", **options)
        assert checkpoint.exists(tmp_path / "run" / "last")
        server.always = ""
        train_here(server.url, tmp_path / "run", **options, resume=True)
    assert weights(tmp_path / "run") == weights(near)
    assert figures(tmp_path / "run") == figures(near)


def test_a_secret_in_the_address_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DataError) as caught:
        train_here(f"https://user:{SECRET}@host/voc", tmp_path / "run")
    assert SECRET not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_two_ranks_by_address_share_what_is_fetched(digits, tmp_path):
    own = tmp_path / "own"
    one = ["--data", str(digits), "--order", "near", *SMALL_RUN, "--out", str(own)]
    succeed(command("train", *one, "--epochs", "2"))
    with FaultyServer(digits) as server:
        words = ["--data", server.url, "--cache-dir", str(tmp_path / "cache"), *SMALL_RUN]
        succeed(ranks(2, "train", *words, "--epochs", "2", "--out", str(tmp_path / "run")))
        tars = {name: num for name, num in server.wholes.items() if name.endswith(".tar")}
    assert len(tars) > 4
    assert set(tars.values()) == {1}
    for two, other in zip(figures(tmp_path / "run"), figures(own), strict=True):
        # a rounding may swap two scores, which is a step of the mAP
        assert two.pop("val_mAP") == pytest.approx(other.pop("val_mAP"), rel=0.02)
        assert two == pytest.approx(other, rel=1e-4)


def test_a_server_that_is_away_ends_two_ranks_with_one_line(digits, tmp_path):
    with FaultyServer(digits, always="gzip") as server:
        server.only = ".tar"
        words = ["--data", server.url, "--cache-dir", str(tmp_path / "cache"), *SMALL_RUN]
        ended = launch(2, "train", *words, "--epochs", "2", "--out", str(tmp_path / "run"))
    assert ended.returncode != 0
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert lines
    assert "the server sends it compressed" in lines[0]
    assert "shards/remote" not in ended.stderr  # the launcher has a traceback of its own
