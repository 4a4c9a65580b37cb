"""The four files of MNIST: found, or downloaded, and in either case checked.

    $TINYGEN_DATA/mnist       the reader's own folder, if the variable is set: read, never written
    the user's cache folder   what an earlier download left there
    MIRRORS                   downloaded, checked, and only then put into the cache folder

What is checked is the SHA-256 of the *decompressed* bytes, since gzip streams differ from mirror to mirror.
Source: LeCun, Bottou, Bengio & Haffner 1998, *Gradient-based learning applied to document recognition*.
"""

import gzip
import hashlib
import io
import os
import warnings
import zlib
from pathlib import Path

import numpy as np

from ..files import write_whole

DIGESTS = {
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SECONDS_OF_SILENCE = 30  # before a mirror is given up


def load():
    """Images uint8 (60000, 28, 28) and labels (60000,) for training, images (10000, 28, 28) and labels (10000,) for testing.

    ValueError for a file of the reader's own that is not MNIST's; OSError if a file is nowhere and cannot be downloaded.
    """
    return [parse(_find(name)) for name in DIGESTS]


def parse(idx):
    """The uint8 array in idx bytes: 0, 0, the type (8 is uint8), the number of dimensions, each of them in 4 bytes, data."""
    dimensions = idx[3]
    return np.frombuffer(idx, np.uint8, offset=4 + 4 * dimensions).reshape(np.frombuffer(idx, ">u4", dimensions, 4))


def decompressed(compressed, name):
    """The bytes of the file `name`, checked. ValueError, which says what is wrong, if they are not MNIST's."""
    try:
        idx = gzip.decompress(compressed)
    except EOFError:
        raise ValueError(f"the file is truncated: its {len(compressed)} bytes end before the gzip stream does") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"the file is not a sound gzip file ({error})") from None
    digest = hashlib.sha256(idx).hexdigest()
    if digest != DIGESTS[name]:
        raise ValueError(
            f"the file is not MNIST's: its {len(idx)} decompressed bytes have SHA-256 {digest}, expected {DIGESTS[name]}"
        )
    return idx


def _find(name):
    own = os.environ.get("TINYGEN_DATA")
    if own and (path := Path(own, "mnist", name)).is_file():
        try:
            return decompressed(path.read_bytes(), name)
        except ValueError as error:
            raise ValueError(
                f"mnist: {path}: {error}. Replace it by a good copy, or remove it so that one is downloaded"
            ) from None
    path = _cache_folder() / name
    if path.is_file():
        try:
            return decompressed(path.read_bytes(), name)
        except ValueError as error:
            warnings.warn(f"mnist: {path}: {error}. It is removed, and downloaded again", stacklevel=2)
            path.unlink()
    return _download(name, path)


def _cache_folder():
    import pooch

    return pooch.os_cache("tinygen") / "mnist"


def _download(name, path):
    """The checked bytes of the first mirror that has them; the file is kept at `path`. OSError if no mirror does."""
    import pooch

    download, failures = pooch.HTTPDownloader(timeout=SECONDS_OF_SILENCE), []
    for mirror in MIRRORS:
        compressed = io.BytesIO()
        try:
            download(mirror + name, compressed, None)
            idx = decompressed(compressed.getvalue(), name)
        except (OSError, ValueError) as error:
            failures.append(f"{mirror}{name}: {error}")
        else:
            write_whole(path, compressed.getvalue())
            return idx
    raise OSError(
        f"mnist: {name} is neither in $TINYGEN_DATA/mnist nor in {path.parent}, and no mirror gave it:\n  "
        + "\n  ".join(failures)
        + f"\nGet the four files {', '.join(DIGESTS)} by other means, put them into a folder `mnist`, and set TINYGEN_DATA"
        " to the folder that holds it; or try again with a network connection"
    )
