"""Checkpoints: round trip, what is read from the weights, contradictions, foreign files."""

import numpy as np
import paddle
import pytest

from ppcls.arch.reid_net import build_net
from ppcls.engine.checkpoint import load_checkpoint, save_checkpoint
from ppcls.utils.errors import UserError
from ppcls.utils.weights_io import write_pdparams

ARCH = {
    "depth": 18, "last_stride": 1, "pooling": "max", "neck_bias": "frozen", "variant": "ibn_a", "classifier": "arc",
    "height": 64, "width": 32,
}  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    net = build_net(18, 3, last_stride=1, pooling="max", neck_bias="frozen", variant="ibn_a", classifier="arc", seed=5)
    save_checkpoint(tmp_path / "checkpoint.pdparams", net, 7, ARCH)
    return tmp_path, net


def test_round_trip(saved):
    folder, net = saved
    for source in (folder, folder / "checkpoint.pdparams"):
        loaded = load_checkpoint(source)
        assert (loaded.epoch, loaded.arch, loaded.net.num_classes) == (7, ARCH, 3)
        for name, value in net.state_dict().items():
            np.testing.assert_array_equal(loaded.net.state_dict()[name].numpy(), value.numpy())
    images = paddle.randn([2, 3, 64, 32])
    net.eval()
    loaded.net.eval()
    np.testing.assert_array_equal(net(images).embedding.numpy(), loaded.net(images).embedding.numpy())


def test_paddle_reads_it(saved):
    state = paddle.load(str(saved[0] / "checkpoint.pdparams"))
    assert set(state) == {"backbone", "classifier", "epoch", "arch"}
    assert list(state["classifier"]["W"].shape) == [3, 512]


def test_contradicting_flags(saved):
    for wish, message in (({"depth": 50}, "--depth 18, not 50"), ({"pooling": "avg"}, "--last-pooling max, not avg")):
        with pytest.raises(UserError, match=message):
            load_checkpoint(saved[0], **wish)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_depth_is_read_from_files_without_an_arch_entry(tmp_path, depth):
    net = build_net(depth, 2)
    state = {name: value.numpy() for name, value in net.backbone.state_dict().items()}
    path = tmp_path / "foreign.pdparams"
    write_pdparams({"backbone": state, "classifier": {"W": net.classifier.W.numpy()}, "epoch": 3}, path)
    loaded = load_checkpoint(path, last_stride=1)
    assert (loaded.arch["depth"], loaded.arch["last_stride"], loaded.net.num_classes) == (depth, 1, 2)


def test_files_that_are_no_checkpoints(tmp_path, saved):
    with pytest.raises(UserError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "nowhere")
    write_pdparams({"weights": np.zeros(3)}, tmp_path / "other.pdparams")
    with pytest.raises(UserError, match="no 'backbone' entry"):
        load_checkpoint(tmp_path / "other.pdparams")
    whole = (saved[0] / "checkpoint.pdparams").read_bytes()
    (tmp_path / "cut.pdparams").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.pdparams"):
        load_checkpoint(tmp_path / "cut.pdparams")


def test_the_trunk_of_a_library_network_is_remembered(tmp_path):
    trunk = {"groups": 4, "width_per_group": 16, "stem_relu": False, "non_local": "one"}
    net = build_net(50, 2, **trunk)
    save_checkpoint(tmp_path / "checkpoint.pdparams", net, 1, {"depth": 50, **trunk})
    loaded = load_checkpoint(tmp_path)
    assert trunk.items() <= loaded.arch.items()
    images = paddle.randn([1, 3, 64, 32])
    net.eval()
    loaded.net.eval()
    np.testing.assert_array_equal(net(images).embedding.numpy(), loaded.net(images).embedding.numpy())
