"""Writes the archives that data sets are read from, small ones."""

import io
import pickle
import struct

import numpy as np

ROWS = 20


class Python2Pickler(pickle._Pickler):
    """Writes bytes as the strings of Python 2, as CIFAR's authors did."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def python2(value):
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"numpy._core", b"numpy.core")


def rows(seed, count=ROWS):
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def cifar10(folder, write=python2):
    """Six batches; image n of batch b has label (n + b) % 10."""
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    for b, name in enumerate(names):
        content = {b"data": rows(b), b"labels": [(n + b) % 10 for n in range(ROWS)], b"batch_label": name.encode()}
        (folder / name).write_bytes(write(content))
    meta = {b"label_names": [b"class %d" % n for n in range(10)], b"num_cases_per_batch": ROWS, b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(write(meta))


def cifar100(folder):
    for b, name in enumerate(("train", "test")):
        labels = [(7 * n + b) % 100 for n in range(ROWS)]
        content = {b"data": rows(b), b"fine_labels": labels, b"coarse_labels": [n % 20 for n in range(ROWS)]}
        (folder / name).write_bytes(python2(content))
    names = {b"fine_label_names": [b"fine %d" % n for n in range(100)], b"coarse_label_names": [b"coarse"] * 20}
    (folder / "meta").write_bytes(python2(names))


def svhn(folder):
    """Labels 1 to 10 in turn."""
    from scipy.io import savemat

    for seed, name in enumerate(("train_32x32.mat", "test_32x32.mat")):
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3, ROWS), dtype=np.uint8)
        labels = np.array([[n % 10 + 1] for n in range(ROWS)], dtype=np.uint8)
        savemat(folder / name, {"X": pixels, "y": labels})


WRITE = {"cifar10": cifar10, "cifar100": cifar100, "svhn": svhn}
