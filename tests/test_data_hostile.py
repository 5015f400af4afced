"""Files made to run code, to fill the memory or to hang are refused by name."""

import os
import pickle
import struct
import zlib

import pytest
from archives import ROWS, cifar10, rows, svhn

from evenconv_cuda.data import open_data
from evenconv_cuda.data.regular import open_regular

GOOD = {b"data": rows(0), b"labels": [0] * ROWS}


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("name", ["data_batch_3", "batches.meta"])
@pytest.mark.parametrize(("function", "command"), [(os.mkdir, "{}"), (os.system, "mkdir {}")])
def test_a_pickle_that_would_run_code_is_refused_unrun(name, function, command, tmp_path):
    cifar10(tmp_path)
    made = tmp_path / "made"
    call = Runs(function, command.format(made))
    harmful = pickle.dumps({b"data": rows(0), b"labels": [0] * ROWS, b"more": [call]})
    (tmp_path / name).write_bytes(harmful)
    with pytest.raises(ValueError, match=rf"{name} cannot be read.*asks for posix\.{function.__name__}; accepted are"):
        open_data(f"cifar10:{tmp_path}")
    assert not made.exists()
    pickle.loads(harmful)
    assert made.exists()


def nested(levels):
    """A list of ROWS times a list of ROWS times ..., each written once: ROWS**levels numbers in a few bytes."""
    value = [0] * ROWS
    for _ in range(levels):
        value = [value] * ROWS
    return value


def deep(levels):
    """A pickle of lists in lists, written without recursion."""
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


def calls(module, name, *arguments):
    """A pickle that calls what it names."""
    called = pickle.GLOBAL + f"{module}\n{name}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + pickle.REDUCE
    return b"\x80\x02" + called + b"."


HOSTILE_PICKLES = {
    # NumPy would take the buffer's bytes for addresses of objects.
    "it calls a Name; accepted are arrays": calls("numpy", "ndarray", (1,), "O", b"A" * 8),
    "asks for builtins.bytearray; accepted are arrays": calls("builtins", "bytearray", 10**10),
    "asks for numpy.load; accepted are arrays": calls("numpy", "load", "file"),
    "it reconstructs numpy.dtype; accepted is numpy.ndarray":
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85C\x01b\x87R.",
    "has labels that are no whole numbers": pickle.dumps({**GOOD, b"labels": nested(12)}),
    "holds a list; accepted is a dictionary": deep(10**5),
    "it has more than 524288 opcodes": deep(10**6),
    "has a tuple in the place of a bytes or str": pickle.dumps({(1, 2): 3}),
    "it encodes more than it holds":
        b"\x80\x02c_codecs\nencode\nq\x00X\xe8\x03\x00\x00" + b"x" * 1000 + b"q\x01X\x06\x00\x00\x00latin1q\x02\x86R"
        + b"h\x00h\x01h\x02\x86R" * 10 + b".",
    "it encodes as 'idna'; accepted is 'latin1'": calls("_codecs", "encode", "x", "idna"),
    "it sets the state of dict; accepted are arrays": b"\x80\x02}}b.",
    "expected 4294967295 bytes in a": b"\x80\x03B\xff\xff\xff\xffx.",
    "holds a bytes; accepted is a dictionary": b"\x80\x02U\x01xr\xff\xff\xff\x7f.",
    "its stack is too short": b"\x80\x02\x87.",
    "it has the opcode INST; accepted": b"(ios\nsystem\n.",
    "it has the opcode BYTEARRAY8; accepted": pickle.dumps(bytearray(9), 5),
}  # fmt: skip


@pytest.mark.parametrize(("message", "content"), HOSTILE_PICKLES.items(), ids=HOSTILE_PICKLES)
def test_hostile_pickle_is_refused(message, content, tmp_path):
    cifar10(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(ValueError, match=f"{tmp_path / 'data_batch_2'} .*{message}"):
        open_data(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("key", ["label_names", "num_cases_per_batch"])
def test_nested_meta_is_refused(key, tmp_path):
    cifar10(tmp_path)
    meta = {b"label_names": [b"name"] * 10, key.encode(): nested(12)}
    (tmp_path / "batches.meta").write_bytes(pickle.dumps(meta))
    with pytest.raises(ValueError, match=rf"batches\.meta has .*'{key}'"):
        open_data(f"cifar10:{tmp_path}")


def test_a_file_larger_than_any_batch_is_not_read(tmp_path):
    cifar10(tmp_path)
    os.truncate(tmp_path / "data_batch_2", 2**40)
    with pytest.raises(ValueError, match=r"data_batch_2 cannot be read: it has 1099511627776 bytes; accepted are"):
        open_data(f"cifar10:{tmp_path}")


def part(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def compressed(content):
    packed = zlib.compress(content)
    return struct.pack("<II", 15, len(packed)) + packed


def matrix(name, shape, numbers, kind=9, size=None):
    """An element of a MATLAB file that has ``size`` bytes, or says so."""
    sizes = part(5, struct.pack(f"<{len(shape)}i", *shape))
    content = part(6, struct.pack("<II", kind, 0)) + sizes + part(1, name) + numbers
    return struct.pack("<II", 14, len(content) if size is None else size) + content


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
X, Y = matrix(b"X", (32, 32, 3, 4), part(2, bytes(12288))), matrix(b"y", (4, 1), part(2, bytes([1, 2, 9, 10])))
BROKEN_MATLAB_FILES = {
    "its X has 4294967288 bytes; accepted are 268435456":
        compressed(matrix(b"X", (32, 32, 3, 10**6), part(2, b""), size=2**32 - 8)) + Y,
    "an element at byte .* of 12352 has 1000000000 bytes":
        compressed(matrix(b"X", (32, 32, 3, 4), struct.pack("<II", 2, 10**9) + bytes(12288))) + Y,
    "it has 12288 numbers for the shape": matrix(b"X", (32, 32, 3, 2**30), part(2, bytes(12288))) + Y,
    "it has y twice": X + Y + Y,
    "it has more than 1024 elements": X + Y + bytes(8 * 1023),
    "an element at byte 128 of 136 has 80 bytes": struct.pack("<II", 14, 80),
    "its numbers are of the type 14": matrix(b"X", (1, 1), part(14, part(14, b""))) + Y,
    "has no variable X": matrix(b"X", (1, 1), part(14, part(14, b"")), kind=1) + Y,
    "cannot be read as a MATLAB file: Error -3": struct.pack("<II", 15, 8) + b"no zlib.",
}  # fmt: skip


@pytest.mark.parametrize(("message", "content"), BROKEN_MATLAB_FILES.items(), ids=BROKEN_MATLAB_FILES)
def test_broken_matlab_file_is_refused(message, content, tmp_path):
    svhn(tmp_path)
    (tmp_path / "test_32x32.mat").write_bytes(HEADER + content)
    with pytest.raises(ValueError, match=rf"test_32x32\.mat .*{message}"):
        open_data(f"svhn:{tmp_path}")


@pytest.mark.parametrize("write", [bytes, compressed])
def test_matlab_file_of_these_elements_is_read(write, tmp_path):
    svhn(tmp_path)
    (tmp_path / "test_32x32.mat").write_bytes(HEADER + write(X) + write(Y))
    images, labels = open_data(f"svhn:{tmp_path}").test[range(4)]
    assert not images.any()
    assert labels.tolist() == [1, 2, 9, 0]


@pytest.mark.parametrize(("write", "name"), [(cifar10, "data_batch_2"), (svhn, "test_32x32.mat")])
def test_a_pipe_in_the_place_of_an_archive_is_refused(write, name, tmp_path):
    write(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        open_data(f"{write.__name__}:{tmp_path}")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no such files here")
def test_a_kernels_file_is_read_as_long_as_it_says(tmp_path):
    """It says 0 bytes, and there are more."""
    cifar10(tmp_path)
    (tmp_path / "data_batch_2").unlink()
    (tmp_path / "data_batch_2").symlink_to("/proc/self/status")
    with pytest.raises(ValueError, match=r"data_batch_2 .*pickle exhausted before seeing STOP"):
        open_data(f"cifar10:{tmp_path}")


def test_a_regular_file_is_never_waited_for(tmp_path):
    """What replaces it after the look at it, like a file of the kernel, may have nothing to read yet."""
    file = tmp_path / "file"
    file.write_bytes(b"content")
    with open_regular(file, 7) as stream:
        assert not os.get_blocking(stream.fileno())
        assert stream.read() == b"content"
    with pytest.raises(ValueError, match="it has 7 bytes; accepted are 6"), open_regular(file, 6):
        pass
