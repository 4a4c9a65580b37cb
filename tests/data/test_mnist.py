import gzip
import hashlib
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen import data
from tinygen.data import mnist

NAMES = list(mnist.DIGESTS)
OWN = Path(os.environ.get("TINYGEN_DATA", ""), "mnist")
real_files = pytest.mark.skipif(
    not os.environ.get("TINYGEN_DATA") or not all((OWN / name).is_file() for name in NAMES),
    reason="set TINYGEN_DATA to a folder that holds mnist/ with the four files",
)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


ARRAYS = [
    np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4),
    np.arange(5, dtype=np.uint8),
    np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) + 100,
    np.array([7, 9], np.uint8),
]
FILES = {name: gzip.compress(idx(array)) for name, array in zip(NAMES, ARRAYS)}
BAD = {
    "truncated": (FILES[NAMES[0]][:-9], "truncated"),
    "cut in its header": (FILES[NAMES[0]][:5], "truncated"),
    "corrupted": (FILES[NAMES[0]][:30] + b"\xff\xff" + FILES[NAMES[0]][32:], "not a sound gzip file"),
    "a web page": (b"<html>please log in</html>", "not a sound gzip file"),
    "empty": (b"", "not MNIST's: its 0 decompressed bytes"),
    "of other content": (gzip.compress(idx(ARRAYS[0] + 1)), "not MNIST's: its 76 decompressed bytes"),
}
each_bad_file = pytest.mark.parametrize("content, wrong", BAD.values(), ids=BAD)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Small files in the place of MNIST's, an empty cache, no folder of the reader's own, and no mirror."""
    monkeypatch.setattr(mnist, "DIGESTS", {name: hashlib.sha256(gzip.decompress(FILES[name])).hexdigest() for name in NAMES})
    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.setattr(mnist, "_cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("TINYGEN_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def own(cache, tmp_path, monkeypatch):
    """The reader's own folder, which holds the four files."""
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "own"))
    return fill(tmp_path / "own" / "mnist")


@pytest.fixture
def mirror(monkeypatch):
    """A web server, and what it serves: a dictionary of contents; None is cut off in the middle of the answer."""
    contents = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path not in contents:
                return self.send_error(404)
            content = contents[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(100 if content is None else len(content)))
            self.end_headers()
            self.wfile.write(b"\x1f\x8b" if content is None else content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(mnist, "MIRRORS", (f"{address}/first/", f"{address}/second/"))
    yield contents
    server.shutdown()
    server.server_close()


def fill(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def serve(mirror, which):
    mirror.update({f"/{which}/{name}": content for name, content in FILES.items()})


def assert_loaded(arrays):
    assert len(arrays) == 4
    for array, expected in zip(arrays, ARRAYS):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == np.uint8


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, min_side=0)))
def test_parsing_undoes_writing(array):
    parsed = mnist.parse(idx(array))
    np.testing.assert_array_equal(parsed, array)
    assert parsed.shape == array.shape


def test_every_truncation_is_recognised(cache):
    for length in range(len(FILES[NAMES[0]])):
        with pytest.raises(ValueError, match="truncated" if length > 1 else None):
            mnist.decompressed(FILES[NAMES[0]][:length], NAMES[0])


@given(st.integers(0, len(FILES[NAMES[0]]) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_recognised_or_does_not_matter(position, change):
    damaged = bytearray(FILES[NAMES[0]])
    damaged[position] ^= change
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mnist.DIGESTS, NAMES[0], hashlib.sha256(idx(ARRAYS[0])).hexdigest())
        try:
            assert mnist.decompressed(bytes(damaged), NAMES[0]) == idx(ARRAYS[0])
        except ValueError:
            pass


def test_the_readers_own_files_are_read_without_pooch(own, monkeypatch):
    monkeypatch.setattr(mnist, "_cache_folder", None)
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert_loaded(mnist.load())


@each_bad_file
def test_a_bad_file_of_the_readers_own_is_reported_and_left_alone(own, cache, mirror, content, wrong):
    serve(mirror, "first")
    path = own / NAMES[0]
    path.write_bytes(content)
    with pytest.raises(ValueError) as report:
        mnist.load()
    assert str(path) in str(report.value) and wrong in str(report.value) and "Replace it" in str(report.value)
    assert path.read_bytes() == content
    assert not cache.exists()


def test_a_file_missing_from_the_readers_own_folder_is_taken_from_the_cache(own, cache):
    fill(cache)
    (own / NAMES[2]).unlink()
    assert_loaded(mnist.load())
    assert NAMES[2] not in contents_of(own)


def test_files_are_downloaded_once(cache, mirror, monkeypatch):
    serve(mirror, "first")
    assert_loaded(mnist.load())
    assert contents_of(cache) == FILES
    monkeypatch.setattr(mnist, "MIRRORS", ())
    assert_loaded(mnist.load())


@each_bad_file
def test_a_mirror_that_gives_a_bad_file_is_passed_over(cache, mirror, content, wrong):
    serve(mirror, "second")
    mirror[f"/first/{NAMES[0]}"] = content
    assert_loaded(mnist.load())
    assert contents_of(cache) == FILES


def test_an_answer_that_breaks_off_is_passed_over(cache, mirror):
    serve(mirror, "second")
    mirror[f"/first/{NAMES[0]}"] = None
    assert_loaded(mnist.load())
    assert contents_of(cache) == FILES


@each_bad_file
def test_a_bad_file_in_the_cache_is_reported_and_replaced(cache, mirror, content, wrong):
    serve(mirror, "first")
    (fill(cache) / NAMES[0]).write_bytes(content)
    with pytest.warns(UserWarning) as warnings:
        assert_loaded(mnist.load())
    (message,) = (str(warning.message) for warning in warnings)
    assert str(cache / NAMES[0]) in message and wrong in message and "downloaded again" in message
    assert contents_of(cache) == FILES


def test_a_bad_file_in_the_cache_does_not_stay_there_when_no_mirror_is_reached(cache):
    (fill(cache) / NAMES[0]).write_bytes(b"")
    with pytest.warns(UserWarning, match="removed"), pytest.raises(OSError, match=NAMES[0]):
        mnist.load()
    assert NAMES[0] not in contents_of(cache)


def test_when_no_mirror_has_the_file_the_error_names_each_of_them_and_the_remedy(cache, mirror):
    mirror[f"/second/{NAMES[0]}"] = BAD["truncated"][0]
    with pytest.raises(OSError) as report:
        mnist.load()
    first, second = mnist.MIRRORS
    for part in NAMES[0], f"{first}{NAMES[0]}: 404", f"{second}{NAMES[0]}: the file is truncated", "set TINYGEN_DATA":
        assert part in str(report.value)
    assert not cache.exists()


def test_an_unreachable_mirror_is_reported(cache, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))
    with pytest.raises(OSError, match=f"(?s)no mirror gave it.*127.0.0.1:9/{NAMES[0]}"):
        mnist.load()


def test_an_interrupted_write_leaves_nothing(cache, mirror, monkeypatch):
    def interrupted(source, target):
        assert Path(source).parent.parent == Path(target).parent, "written beside, or the renaming may copy"
        raise KeyboardInterrupt

    serve(mirror, "first")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mnist.load()
    assert list(cache.iterdir()) == []


def test_the_default_cache_is_the_users_own():
    assert mnist._cache_folder().name == "mnist"
    assert "tinygen" in mnist._cache_folder().parts


@real_files
def test_mnist_is_split_as_documented():
    images = data.load("mnist")
    assert (images.name, images.levels) == ("mnist", 256)
    for split, n in (images.train, 55000), (images.validation, 5000), (images.test, 10000):
        assert split.images.shape == (n, 28, 28, 1) and split.images.dtype == np.uint8
        assert split.labels.shape == (n,) and split.labels.dtype == np.int64
    whole = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # of the published training file
    assert (np.bincount(images.train.labels) + np.bincount(images.validation.labels)).tolist() == whole
    assert images.train.labels[:5].tolist() == [5, 0, 4, 1, 9] and images.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


@real_files
def test_the_static_mnist_test_set_is_what_it_has_always_been():
    """Figures on static data are comparable only as long as this digest stands."""
    x = data.prepare_once("static", data.load("mnist").test.images, 256)
    digest = hashlib.sha256(np.packbits(x.astype(bool)).tobytes()).hexdigest()
    assert digest == "c37c8bf6a3f091a1f8b66d90ab5ba7a8cd980d98ba1ec300c3031ce20b9d50fd"
