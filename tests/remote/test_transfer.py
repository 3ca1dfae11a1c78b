"""One object from servers that misbehave: the right bytes, or one line that names the object."""

import hashlib
import io
import random
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from benchmarks.object_server import ObjectServer
from shards.errors import DataError
from shards.remote import http_store, patience
from shards.remote.address import Address
from shards.remote.patience import (
    MissingError,
    ObjectChangedError,
    TransferError,
    UnreachableError,
)
from shards.remote.transfer import Transfer, open_store
from tests.remote.faulty_server import (
    HASTY,
    IMPATIENT,
    FaultyObjects,
    FaultyServer,
    wait_until,
)

BODY = hashlib.shake_256(b"body").digest(300_000)
pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "a.tar").write_bytes(BODY)
    return tmp_path / "objects"


NUM_BYTES = len(BODY)
# so long that a server on a busy machine still sends its head, and a byte now and then
SLOW = HASTY._replace(attempts=2, window_s=2.0)


def fetch(url, name="a.tar", num_bytes=NUM_BYTES, have=b""):
    """Fetch an object; return its bytes, of which `have` are there before."""
    file = io.BytesIO(have)
    root = Address.parse(url)
    transfer = Transfer(open_store(root), root / name, file, num_bytes, num_bytes or 1 << 20)
    transfer.take_up()
    assert transfer.run() == hashlib.sha256(file.getvalue()).hexdigest()
    return file.getvalue()


def test_an_object_is_fetched_in_one_request(folder):
    with ObjectServer(folder) as server:
        assert fetch(server.url) == BODY
        assert server.asked == {"a.tar": 1}
        assert server.num_sent == len(BODY)


def test_a_part_is_continued_where_it_ends(folder):
    with ObjectServer(folder) as server:
        assert fetch(server.url, have=BODY[:100_000]) == BODY
        assert server.num_sent == len(BODY) - 100_000


def test_a_range_answered_whole_is_taken_from_its_start(folder):
    with FaultyServer(folder, always="whole for a range") as server:
        assert fetch(server.url, have=BODY[:100_000]) == BODY


@pytest.mark.parametrize("fault", ["500", "503", "reset", "cut", "unmarked cut", "garbage"])
def test_what_passes_is_tried_again(folder, fault):
    class Flaky(FaultyServer):
        def draw(self, name):
            return fault if self.asked[name] < 4 else ""

    with Flaky(folder) as server:
        assert fetch(server.url) == BODY


def test_tries_leave_the_randomness_of_the_run_alone(folder):
    """How often a server fails is chance: what a user draws from `random` must not depend on it."""

    class Flaky(FaultyServer):
        def draw(self, name):
            return "500" if self.asked[name] < 4 else ""

    before = random.getstate()
    with Flaky(folder) as server:
        assert fetch(server.url) == BODY
    assert server.asked["a.tar"] == 4
    assert random.getstate() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "limits", "says"),
    [
        ("500", HASTY, "the server answers 500, 5 times one after the other"),
        ("503", HASTY, "the server answers 503, 5 times"),
        ("reset", HASTY, "the connection failed"),
        ("trickle", SLOW, "slowly"),
        ("header trickle", IMPATIENT, "5 times one after the other"),
        ("silence", IMPATIENT, "5 times one after the other"),
        ("wrong range", HASTY, "another range"),
        ("gzip", HASTY, "compressed"),
        ("garbage", HASTY, "the connection failed: BadStatusLine"),
    ],
)
def test_what_stays_is_one_line_with_the_object(folder, monkeypatch, fault, limits, says):
    monkeypatch.setattr(patience, "PATIENCE", limits)
    with FaultyServer(folder, always=fault) as server:
        with pytest.raises(UnreachableError) as caught:
            fetch(server.url)
        assert str(caught.value).startswith(f"{server.url}/a.tar: ")
        assert says in str(caught.value)
        assert "secret" not in str(caught.value)


def test_what_arrives_after_we_gave_up_is_no_failed_connection(folder, monkeypatch):
    """The system then says that the server has reset it; what the matter was is that it was slow."""
    go_on = threading.Event()
    sent = threading.Event()

    class Pausing(FaultyServer):
        def draw(self, name):
            return "pause"

    def pause(self, name, data):
        self._head(len(data))
        self.wfile.write(data[:100])
        self.wfile.flush()
        go_on.wait(60)
        self.connection.sendall(data[100:200])
        sent.set()

    monkeypatch.setattr(FaultyObjects, "_pause", pause, raising=False)
    monkeypatch.setattr(patience, "PATIENCE", IMPATIENT)
    before = set(threading.enumerate())
    with Pausing(folder) as server:
        root = Address.parse(server.url)
        with open_store(root).get("a.tar", 0, NUM_BYTES) as reply:
            assert len(next(reply.chunks)) == 100
            dogs = [
                thread
                for thread in set(threading.enumerate()) - before
                if thread.name == "tarmac-watchdog"
            ]
            assert wait_until(lambda: not any(thread.is_alive() for thread in dogs))
            go_on.set()
            assert sent.wait(60)
            with pytest.raises(TransferError, match=r"^the server sends too slowly$"):
                next(reply.chunks)


@pytest.mark.parametrize("num_bytes", [len(BODY) - 1, len(BODY) + 1])
def test_another_length_than_the_index_says_is_found_before_a_byte_is_kept(folder, num_bytes):
    with ObjectServer(folder) as server, pytest.raises(ObjectChangedError):
        fetch(server.url, num_bytes=num_bytes)


def test_a_stretched_body_is_refused(folder):
    with FaultyServer(folder, always="stretched") as server, pytest.raises(ObjectChangedError):
        fetch(server.url)


def test_a_missing_object_is_not_asked_for_again(folder):
    with ObjectServer(folder) as server:
        with pytest.raises(MissingError, match=r"b.tar: is not there"):
            fetch(server.url, "b.tar")
        assert server.asked["b.tar"] == 1


def redirecting(status, location):
    """Serve one host that sends to another address."""

    class Sending(FaultyServer):
        def draw(self, name):
            return "redirect"

    def redirect(self, name, data):
        self.send_response(status)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    return Sending, redirect


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_without_credentials(folder, monkeypatch, status):
    from fsspec.config import conf

    from tests.remote.faulty_server import FaultyObjects

    monkeypatch.setitem(conf, "http", {"headers": {"Authorization": "Bearer planted-secret"}})
    heads = []
    with ObjectServer(folder) as there:
        handler = there.RequestHandlerClass

        def answer(self, name, data):
            heads.append(dict(self.headers))
            return handler.send(self, 200, data)

        monkeypatch.setattr(handler, "answer", answer)
        kind, redirect = redirecting(status, f"{there.url}/a.tar?X-Amz-Signature=planted-secret")
        monkeypatch.setattr(FaultyObjects, "_redirect", redirect, raising=False)

        def own_answer(self, name, data):
            heads.append(dict(self.headers))
            redirect(self, name, data)

        monkeypatch.setattr(FaultyObjects, "answer", own_answer)
        with kind(folder) as server:
            assert fetch(server.url) == BODY
    assert heads[0]["Authorization"] == "Bearer planted-secret"
    assert "Authorization" not in heads[1]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://x"])
def test_a_redirect_to_another_kind_of_address_is_refused(folder, monkeypatch, location):
    from tests.remote.faulty_server import FaultyObjects

    kind, redirect = redirecting(302, location)
    monkeypatch.setattr(FaultyObjects, "_redirect", redirect, raising=False)
    with kind(folder) as server, pytest.raises(UnreachableError, match="which is not followed"):
        fetch(server.url)


def test_endless_redirects_end(folder, monkeypatch):
    from tests.remote.faulty_server import FaultyObjects

    kind, redirect = redirecting(302, "/a.tar")
    monkeypatch.setattr(FaultyObjects, "_redirect", redirect, raising=False)
    with kind(folder) as server, pytest.raises(UnreachableError, match="more than 5 redirects"):
        fetch(server.url)


@pytest.mark.slow
def test_a_server_that_is_not_there_or_never_answers_is_one_line(monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE", IMPATIENT)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UnreachableError, match="Connection refused, 5 times"):
            fetch(url)
        silent.listen(8)
        with pytest.raises(UnreachableError, match="5 times"):
            fetch(url)


def test_a_proxy_of_the_environment_is_asked(folder, monkeypatch):
    seen = []
    with ObjectServer(folder) as server:
        handler = server.RequestHandlerClass
        plain = handler.do_GET

        def get(self):
            seen.append((self.path, self.headers.get("Proxy-Authorization")))
            plain(self)

        monkeypatch.setattr(handler, "do_GET", get)
        host = server.url.removeprefix("http://")
        monkeypatch.setenv("http_proxy", f"http://me:planted-secret@{host}")
        monkeypatch.setenv("no_proxy", "")
        assert fetch("http://shards.invalid", "a.tar") == BODY
    # threads that other tests have left may ask it too
    ours = [each for each in seen if each[0].startswith("http://shards.invalid/")]
    assert ours == [("http://shards.invalid/a.tar", "Basic bWU6cGxhbnRlZC1zZWNyZXQ=")]


@pytest.fixture
def certificate(tmp_path):
    """A certificate of 127.0.0.1 that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    made = [tmp_path / "key.pem", tmp_path / "certificate.pem"]
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    argv += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv += ["-keyout", str(made[0]), "-out", str(made[1])]
    subprocess.run(argv, check=True, capture_output=True)
    return made


def test_https_is_read_where_its_certificate_is_trusted(folder, certificate, monkeypatch):
    key, path = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    server = ObjectServer(folder)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with server:
        url = server.url.replace("http:", "https:")
        http_store._context.cache_clear()
        with pytest.raises(UnreachableError, match="certificate is not trusted"):
            fetch(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        http_store._context.cache_clear()
        assert fetch(url) == BODY
    http_store._context.cache_clear()


@pytest.mark.slow
def test_a_trickle_over_https_is_cut(folder, certificate, monkeypatch):
    key, path = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    http_store._context.cache_clear()
    monkeypatch.setattr(patience, "PATIENCE", IMPATIENT)
    server = FaultyServer(folder, always="trickle")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with server, pytest.raises(UnreachableError, match="5 times one after the other"):
        fetch(server.url.replace("http:", "https:"))
    http_store._context.cache_clear()


def test_threads_of_transfers_end(folder):
    before = set(threading.enumerate())
    with ObjectServer(folder) as server:
        fetch(server.url)
        own = set(threading.enumerate()) - before
        assert own  # the server's at least
    assert wait_until(lambda: not any(thread.is_alive() for thread in own)), own


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_file_systems_of_fsspec_give_the_same_bytes(folder, kind):
    import fsspec

    url = folder.as_uri() if kind == "file" else "memory://objects"
    if kind == "memory":
        fsspec.filesystem("memory").pipe_file("/objects/a.tar", BODY)
    assert fetch(url) == BODY
    assert fetch(url, have=BODY[:70_000]) == BODY
    assert fetch(url, num_bytes=None) == BODY
    with pytest.raises(MissingError, match=f"{kind}://.*/b.tar: is not there"):
        fetch(url, "b.tar")
    with pytest.raises(ObjectChangedError):
        fetch(url, num_bytes=len(BODY) + 1, have=BODY)


def test_what_is_not_installed_is_one_line_with_the_command(monkeypatch):
    import fsspec.core

    def absent(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(
        DataError, match=r"s3:// needs a package.*pip install 'tarmac-vision\[remote\]'"
    ):
        open_store(Address.parse("s3://bucket/voc"))


def test_an_unknown_protocol_is_one_line():
    with pytest.raises(DataError, match="nosuch:// is no protocol that is known here"):
        open_store(Address.parse("nosuch://bucket/voc"))
