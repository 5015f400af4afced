"""Who writes what, and when: folders in use, killed writers, full disks; outputs that would destroy their input."""

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
from test_train_checkpoint import stopping
from training_runs import SMALL, checkpoint, train

from evenconv_cuda.__main__ import main
from evenconv_cuda.training import files
from evenconv_cuda.training.checkpoint import AtomicCheckpointIO
from evenconv_cuda.training.files import hold, replacing


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    train(out, epochs=1)
    return out / "last.ckpt"


def refusal(*arguments):
    with pytest.raises(SystemExit) as refused:
        main([str(argument) for argument in arguments])
    assert "\n" not in refused.value.code
    return refused.value.code


@pytest.fixture
def other_process():
    """Starts Python code that prints a line once it has done what it is there for, and waits."""
    started = []

    def start(code, *arguments):
        command = [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\ninput()", *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


HOLD = f"import runpy, sys, pathlib; held = runpy.run_path({files.__file__!r})['hold'](pathlib.Path(sys.argv[1]))"
FORK = "\nimport os, time\nif not os.fork(): os.close(1); time.sleep(20); os._exit(0)"


def test_folder_in_use_is_refused_until_its_process_is_killed(other_process, tmp_path):
    """Though a child of it, as a data loader's worker, lives on."""
    process = other_process(HOLD + FORK, tmp_path)
    assert refusal("train", *SMALL, "--out", tmp_path).startswith(f"--out is {tmp_path}: another process writes there")
    assert os.listdir(tmp_path) == [".lock"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert train(tmp_path, epochs=1)["epoch"] == 0


def test_compare_holds_its_folder(other_process, tmp_path):
    other_process(HOLD, tmp_path)
    given = ["compare", "--models", "resnet20:c2sp", "--out", tmp_path, *SMALL]
    assert refusal(*given).startswith(f"--out is {tmp_path}: another process writes there")


def test_folder_is_held_while_training(tmp_path):
    lock = (
        "import fcntl, sys\n"
        "try: fcntl.lockf(open(sys.argv[1], 'ab'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: print('held')\nelse: print('free')"
    )

    def state():
        return subprocess.run([sys.executable, "-c", lock, tmp_path / ".lock"], capture_output=True, text=True).stdout

    seen = []
    with stopping(2, lambda: seen.append(state())):
        train(tmp_path, epochs=1)
    assert [*seen, state()] == ["held\n", "free\n"]


def test_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.warns(UserWarning, match="cannot be locked: No locks available"), hold(tmp_path):
        AtomicCheckpointIO().save_checkpoint({"epoch": 3}, tmp_path / "last.ckpt")
    assert checkpoint(tmp_path) == {"epoch": 3}


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "run"
    assert refusal("train", *SMALL, "--out", out) == f"--out is {out}: [Errno 20] Not a directory: '{out}'"


def test_writers_at_the_same_time_do_not_mix(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as first:
        first.write(b"first")
        with replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


def test_parts_of_dead_writers_are_removed(other_process, tmp_path):
    """Those of living ones and of other files are not."""
    dead, old, other = (tmp_path / f"last.ckpt{end}" for end in (".0123.part", ".part", "2.0123.part"))
    for part in (dead, old, other):
        part.touch()
    writing = "import fcntl, sys; file = open(sys.argv[1], 'wb'); fcntl.flock(file, fcntl.LOCK_EX)"
    living = tmp_path / "last.ckpt.4567.part"
    process = other_process(writing, living)
    write = AtomicCheckpointIO().save_checkpoint
    write({}, tmp_path / "last.ckpt")
    assert set(tmp_path.iterdir()) == {tmp_path / "last.ckpt", living, other}
    process.kill()
    process.wait()
    write({}, tmp_path / "last.ckpt")
    assert set(tmp_path.iterdir()) == {tmp_path / "last.ckpt", other}


@pytest.fixture
def full_disk():
    """No file can grow beyond 20 kB, which the system reports as it does a full disk, as an error of write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_the_last_checkpoint_and_no_part(full_disk, tmp_path):
    with stopping(4, full_disk):
        said = refusal("train", *SMALL, "--epochs", 3, "--out", tmp_path)
    path = tmp_path / "last.ckpt"
    assert said == f"--out cannot be written to; --resume goes on from {path}, if that is there: {path}: File too large"
    assert checkpoint(tmp_path)["epoch"] == 0
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("command", ["fold", "export"])
def test_full_disk_leaves_the_output_as_it_was(command, full_disk, trained, tmp_path):
    if command == "export":
        pytest.importorskip("onnxscript")
    out = tmp_path / "out"
    out.write_bytes(b"before")
    full_disk()
    assert refusal(command, trained, out) == f"OUT cannot be written: {out}: File too large"
    assert out.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("command", ["fold", "export"])
@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_checkpoint_is_no_output(command, link, trained, tmp_path):
    content = trained.read_bytes()
    out = tmp_path / "link" if link else trained
    if link:
        getattr(out, link)(trained)
    assert refusal(command, trained, out) == f"OUT is {out}, which is the checkpoint; accepted is another name"
    assert trained.read_bytes() == content


def test_only_a_file_is_replaced(trained, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "which is no regular file" in refusal("fold", trained, tmp_path / "pipe")


def test_link_to_an_output_stays_a_link(trained, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "out")
    main(["fold", str(trained), str(tmp_path / "link")])
    assert (tmp_path / "link").is_symlink()
    assert torch.load(tmp_path / "folder" / "out", weights_only=True)["model"] == "resnet20:c2sp"
