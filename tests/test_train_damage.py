"""Checkpoints that are damaged, old, or made by strangers."""

import hashlib
import os
import pickle
import random
import re
import zipfile

import pytest
import torch
from training_runs import checkpoint, train

from evenconv_cuda.training.checkpoint import read_checkpoint
from evenconv_cuda.training.restore import restored


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    train(out, epochs=1)
    return out / "last.ckpt"


def refusal(path):
    with pytest.raises(SystemExit) as refused:
        restored(path)
    assert "\n" not in refused.value.code
    assert refused.value.code.startswith(f"CHECKPOINT: {path} ")
    return refused.value.code


def test_digest_is_of_all_bytes_before_it(trained):
    content = trained.read_bytes()
    written = re.search(rb"sha256:([0-9a-f]{64})$", content)
    assert written[1].decode() == hashlib.sha256(content[: written.start()]).hexdigest()


def test_others_read_it(trained):
    assert zipfile.ZipFile(trained).testzip() is None
    assert torch.load(trained, weights_only=True)["epoch"] == 0


def flipped(content, position, bit):
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


def test_every_flipped_bit_is_noticed(trained, tmp_path):
    """Some in the whole file, and some in its last bytes, where the digest is."""
    content, path = trained.read_bytes(), tmp_path / "last.ckpt"
    chosen = random.Random(0)
    positions = [chosen.randrange(len(content)) for _ in range(200)]
    for position in positions + list(range(len(content) - 95, len(content))):
        path.write_bytes(flipped(content, position, chosen.randrange(8)))
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_checkpoint(path)


def test_checkpoint_without_a_digest_is_read(trained, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(checkpoint(trained.parent), path)
    module, _ = restored(path)
    expected, _ = restored(trained)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(module.state_dict()[name], tensor), name


def test_flipped_bit_in_a_tensor_without_a_digest_is_noticed(trained, tmp_path):
    path = tmp_path / "last.ckpt"
    saved = checkpoint(trained.parent)
    torch.save(saved, path)
    weights = saved["state_dict"]["model.classifier.weight"].numpy().tobytes()
    content = path.read_bytes()
    path.write_bytes(flipped(content, content.index(weights) + 7, 3))
    assert "is truncated or no checkpoint" in refusal(path)


class Call:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_no_code_of_a_checkpoint_is_run(trained, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(checkpoint(trained.parent) | {"epoch": Call(tmp_path / "ran")}, path)
    assert "is truncated or no checkpoint" in refusal(path)
    path.write_bytes(pickle.dumps(Call(tmp_path / "ran")))
    assert "is truncated or no checkpoint" in refusal(path)
    assert not (tmp_path / "ran").exists()


def test_compressed_entries_are_refused(trained, tmp_path):
    """Of which a few bytes come to any number in memory."""
    path = tmp_path / "last.ckpt"
    with zipfile.ZipFile(trained) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert torch.load(path, weights_only=True)["epoch"] == 0
    assert "is truncated or no checkpoint" in refusal(path)


def test_keys_that_take_for_ever_are_refused(tmp_path):
    """The pickle of {(((), ()), ((), ())): 0}, 24 levels deep: a hash takes two to the power of them."""
    path = tmp_path / "last.ckpt"
    key = b")q\0" + b"".join(b"h" + bytes([level]) + b"\x86q" + bytes([level + 1]) for level in range(24))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("data.pkl", b"\x80\2}" + key + b"K\0s."), ("byteorder", b"little"), ("version", b"3")):
            archive.writestr(f"last/{name}", content)
    assert "is truncated or no checkpoint" in refusal(path)


def test_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "last.ckpt")
    assert "is no regular file" in refusal(tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("recipe", "model", ["resnet20"], "its recipe has no model, or one that is no str"),
        ("recipe", "model", "resnet21", "is of a network that cannot be built"),
        ("recipe", "model", "resnet20:c3", "does not fit resnet20:c3"),
        ("recipe", "width", 10**6, "does not fit resnet20:c2sp"),
        ("recipe", "width", -1, "is of a network that cannot be built"),
        ("recipe", "width", "wide", "its recipe has no width"),
        ("recipe", "lr", [[0.1]], "lr of its recipe is neither a number nor a text, nor a list of them"),
        ("data", "num_classes", 10**9, "does not fit resnet20:c2sp"),
        ("data", "num_classes", 10**30, "is of a network that cannot be built"),
        ("data", "classes", [["a"]], "classes of its data is neither a number nor a text, nor a list of them"),
        ("data", "mean", [], "is of a network that cannot be built"),
        ("data", "std", None, "its data has no std, or one that is no list"),
    ],
)
def test_wrong_content_is_named_with_the_file(part, name, value, said, trained, tmp_path):
    path = tmp_path / "last.ckpt"
    saved = checkpoint(trained.parent)
    saved["hyper_parameters"][part][name] = value
    torch.save(saved, path)
    assert said in refusal(path)


def test_state_of_another_kind_is_named(trained, tmp_path):
    path = tmp_path / "last.ckpt"
    for state in ([], {"model.classifier.weight": 3}, {1: 2}):
        torch.save(checkpoint(trained.parent) | {"state_dict": state}, path)
        refusal(path)
