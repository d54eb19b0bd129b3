"""Published weights files: names, layouts, coverage, and what must not be loaded."""

import pickle
import struct

import numpy as np
import paddle
import pytest

from ppcls.arch.backbone.resnet import DEPTHS
from ppcls.arch.pretrained import default_pretrained_path, load_pretrained, load_strict, missing_weights_message
from ppcls.arch.reid_net import build_net
from ppcls.arch.weight_names import translate
from ppcls.utils.errors import UserError
from ppcls.utils.weights_io import read_weights, write_pdparams
from tests.parity.weights import draw_state, torch_name


def drawn(net, part="base", prefix="file."):
    """A state for ``net.backbone.<part>`` (or the whole backbone), as a file might hold it, in our names."""
    layer = getattr(net.backbone, part) if part else net.backbone
    return draw_state(prefix, {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()})


def holds(layer, state):
    own = layer.state_dict()
    return list(own) == list(state) and all(np.array_equal(own[name].numpy(), state[name]) for name in own)


def paddleclas_name(name, depth, style):
    """Our trunk name as PaddleClas has it: "blocks" (2.x), "bb" or "res" (dynamic 1.x), "static" (static graph)."""
    *path, last = name.split(".")
    is_conv = path[-1].startswith("conv") or path[-2:] == ["downsample", "0"]
    static_last = {"weight": "weights" if is_conv else "scale", "bias": "offset"}.get(last, last.removeprefix("_"))
    unit = ("conv" if style == "blocks" else "_conv") if is_conv else ("bn" if style == "blocks" else "_batch_norm")
    if len(path) == 1:
        if style == "static":
            return f"{'conv1' if is_conv else 'bn_conv1'}_{static_last}"
        return f"{ {'blocks': 'stem.0', 'bb': 'conv', 'res': 'conv1'}[style] }.{unit}.{last}"
    stage, index = int(path[0][5:]) - 1, int(path[1])
    long = depth == 101 and stage == 2
    letter = (f"b{index}" if index else "a") if long else chr(ord("a") + index)
    short = path[2] == "downsample"
    if style == "static":
        branch = "1" if short else "2" + "abc"[int(path[2][-1]) - 1]
        return f"{'res' if is_conv else 'bn'}{stage + 2}{letter}_branch{branch}_{static_last}"
    flat = sum(DEPTHS[depth][1][:stage]) + index
    block = {"blocks": f"blocks.{flat}", "bb": f"bb_{stage}_{index}", "res": f"res{stage + 2}{letter}"}[style]
    return f"{block}.{'short' if short else 'conv' + str(int(path[2][-1]) - 1)}.{unit}.{last}"


@pytest.mark.parametrize("depth", [50, 101])
@pytest.mark.parametrize("style", ["blocks", "bb", "res", "static"])
def test_paddleclas_names_come_out_as_ours(depth, style):
    ours = list(build_net(depth).backbone.base.state_dict())
    theirs = {paddleclas_name(name, depth, style): name for name in ours}
    assert len(theirs) == len(ours)
    assert translate(theirs, DEPTHS[depth][1]) == theirs


def test_paddleclas_names_by_hand():
    """A few written out, so that the translation above cannot be wrong together with its inverse."""
    examples = {
        "stem.0.conv.weight": "conv1.weight",
        "stem.0.bn._variance": "bn1._variance",
        "blocks.3.short.conv.weight": "layer2.0.downsample.0.weight",
        "blocks.15.conv2.bn.bias": "layer4.2.bn3.bias",
        "conv._batch_norm._mean": "bn1._mean",
        "bb_0_0.short._batch_norm.weight": "layer1.0.downsample.1.weight",
        "res4b.conv0._conv.weight": "layer3.1.conv1.weight",
        "res2a_branch2c_weights": "layer1.0.conv3.weight",
        "bn3a_branch1_offset": "layer2.0.downsample.1.bias",
        "bn_conv1_scale": "bn1.weight",
        "module.layer1.0.bn1.IN.scale": "layer1.0.bn1.IN.weight",
        "backbone.base.layer1.0.bn1.running_var": "layer1.0.bn1._variance",
        "bottleneck.running_mean": "bn._mean",
        "fc.weight": None,
        "bn1.num_batches_tracked": None,
    }
    assert translate(examples, (3, 4, 6, 3)) == examples


def test_torch_to_paddle_conversion_of_resnet50_loads_whole(tmp_path):
    """``resnet50-19c8e357_torch2paddle.pdparams``: torch names (either kind of statistics), and a fc."""
    net = build_net(50)
    state = drawn(net)
    for rename in (torch_name, str):
        path = tmp_path / "resnet50-19c8e357_torch2paddle.pdparams"
        content = {rename(name): array for name, array in state.items()}
        write_pdparams({**content, "fc.weight": np.ones((2048, 1000), "float32")}, path)
        report = load_pretrained(net, path)
        assert holds(net.backbone.base, state)
        assert (report.coverage, report.missing, report.unexpected) == (1.0, [], [])
        assert "265 tensors loaded (100.0% of the trunk)" in str(report)


def test_paddle_vision_weights_give_the_same_features(tmp_path):
    theirs = paddle.vision.models.resnet18(num_classes=0)
    paddle.save(theirs.state_dict(), str(tmp_path / "resnet18.pdparams"))
    net = build_net(18)
    load_pretrained(net, tmp_path / "resnet18.pdparams")
    net.eval()
    theirs.eval()
    x = paddle.to_tensor(np.random.RandomState(0).randn(2, 3, 64, 32).astype("float32"))
    np.testing.assert_allclose(net(x).global_feat.numpy(), theirs(x).flatten(1).numpy(), rtol=1e-5, atol=1e-5)


def test_safetensors_in_half_precision(tmp_path):
    """The file is written by hand after the format's description; values arrive as float32."""
    net, header, body = build_net(18), {}, b""
    state = {name: array.astype("float16") for name, array in drawn(net).items()}
    for name, array in state.items():
        header[torch_name(name)] = {
            "dtype": "F16",
            "shape": array.shape,
            "data_offsets": [len(body), len(body) + array.nbytes],
        }
        body += array.tobytes()
    text = str(header).replace("'", '"').replace("(", "[").replace(",)", "]").replace(")", "]").encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    load_pretrained(net, tmp_path / "w.safetensors")
    assert holds(net.backbone.base, {name: array.astype("float32") for name, array in state.items()})


def test_ibn_a_takes_its_own_file_and_refuses_the_plain_one(tmp_path):
    plain, ibn = build_net(18), build_net(18, variant="ibn_a")
    write_pdparams({f"module.{torch_name(n)}": a for n, a in drawn(ibn).items()}, tmp_path / "ibn.pdparams")
    write_pdparams(drawn(plain), tmp_path / "plain.pdparams")
    assert load_pretrained(ibn, tmp_path / "ibn.pdparams").coverage == 1.0
    assert holds(ibn.backbone.base, drawn(ibn))
    with pytest.raises(UserError, match=r"covers only .* missing \(layer1.0.bn1.IN.weight"):
        load_pretrained(ibn, tmp_path / "plain.pdparams")
    assert holds(ibn.backbone.base, drawn(ibn))  # nothing was half loaded


def test_cbam_and_separable_start_from_plain_weights(tmp_path):
    state = drawn(build_net(18))
    write_pdparams(state, tmp_path / "plain.pdparams")
    cbam = build_net(18, variant="cbam")
    report = load_pretrained(cbam, tmp_path / "plain.pdparams")
    assert report.coverage == 1.0
    assert len(report.missing) == 8 * 3 and all(".ca." in n or ".sa." in n for n in report.missing)
    separable = build_net(18, variant="separable", num_domains=3)
    report = load_pretrained(separable, tmp_path / "plain.pdparams")
    assert (report.coverage, report.missing) == (1.0, [])
    banks = separable.backbone.base.layer3[0].bn2.bns
    for bank in banks:
        np.testing.assert_array_equal(bank._variance.numpy(), state["layer3.0.bn2._variance"])
        np.testing.assert_array_equal(bank.weight.numpy(), state["layer3.0.bn2.weight"])


def test_reid_checkpoint_brings_trunk_and_neck_but_no_classifier(tmp_path):
    net = build_net(18, num_classes=4)
    head, state = net.classifier.W.numpy(), drawn(net, part=None)
    checkpoint = {"backbone": state, "classifier": {"W": np.ones((4, 512), "float32")}, "epoch": 3}
    write_pdparams(checkpoint, tmp_path / "checkpoint.pdparams")
    report = load_pretrained(net, tmp_path / "checkpoint.pdparams")
    assert holds(net.backbone, state)
    assert "bn._variance" in report.loaded and report.unexpected == []
    np.testing.assert_array_equal(net.classifier.W.numpy(), head)


def test_a_deeper_or_different_network_is_refused(tmp_path):
    before = drawn(build_net(18), prefix="before.")
    net = build_net(18)
    load_strict(net.backbone.base, before, "memory")
    extra = {"layer1.0.downsample.0.weight": np.ones((64, 64, 1, 1), "float32")}
    write_pdparams({**drawn(net), **extra}, tmp_path / "projected.pdparams")
    with pytest.raises(UserError, match="1 tensors .layer1.0.downsample.0.weight. that this trunk lacks"):
        load_pretrained(net, tmp_path / "projected.pdparams")
    write_pdparams(drawn(build_net(34)), tmp_path / "deeper.pdparams")
    with pytest.raises(UserError, match="deeper"):
        load_pretrained(net, tmp_path / "deeper.pdparams")
    wrong = {**drawn(net), "conv1.weight": np.ones((64, 3, 3, 3), "float32")}
    write_pdparams(wrong, tmp_path / "shape.pdparams")
    with pytest.raises(UserError, match=r"conv1.weight has shape \[64, 3, 3, 3\].*\[64, 3, 7, 7\]"):
        load_pretrained(net, tmp_path / "shape.pdparams")
    assert holds(net.backbone.base, before)


def test_coverage_below_the_minimum_is_refused_unless_allowed(tmp_path):
    net = build_net(18)
    state = drawn(net)
    half = {name: array for name, array in state.items() if not name.startswith(("layer3", "layer4"))}
    write_pdparams({**half, "note.extra": np.zeros(1, "float32")}, tmp_path / "half.pdparams")
    with pytest.raises(UserError, match="covers only 50.0%"):
        load_pretrained(net, tmp_path / "half.pdparams")
    report = load_pretrained(net, tmp_path / "half.pdparams", min_coverage=0.4)
    assert sorted(report.loaded + report.missing) == sorted(state)
    assert report.coverage == len(half) / len(state)
    assert report.unexpected == ["note.extra"]
    assert "1 unexpected (note.extra)" in str(report)


def test_load_strict_takes_torch_names_and_wants_all_of_them():
    net = build_net(18)
    state = drawn(net, part=None)
    torch_state = {torch_name(name): array for name, array in state.items()}
    load_strict(net.backbone, {**torch_state, "bn.num_batches_tracked": np.int64(3)}, "file.pth")
    assert holds(net.backbone, state)
    del torch_state["bn.weight"]
    with pytest.raises(UserError, match=r"file.pth .*1 tensors missing \(bn.weight\), 1 unexpected \(what\)"):
        load_strict(net.backbone, {**torch_state, "what": np.ones(1)}, "file.pth")


def test_a_file_without_arrays_is_refused(tmp_path):
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({"epoch": 3}))
    assert read_weights(tmp_path / "x.pdparams") == {"epoch": 3}
    with pytest.raises(UserError, match="no arrays"):
        load_pretrained(build_net(18), tmp_path / "x.pdparams")


def test_default_path_and_message(tmp_path):
    assert default_pretrained_path(50, folder=tmp_path) is None
    names = ["resnet50-0676ba61.pth", "ResNet50_pretrained.pdparams", "resnet50-19c8e357_torch2paddle.pdparams"]
    for name in names:
        (tmp_path / name).touch()
        assert default_pretrained_path(50, folder=tmp_path).name == name
        assert default_pretrained_path(50, "cbam", tmp_path).name == name
    (tmp_path / "ResNet18_pretrained.pdparams").touch()
    assert default_pretrained_path(18, folder=tmp_path) is None
    assert default_pretrained_path(50, "ibn_a", tmp_path) is None
    (tmp_path / "resnet50_ibn_a-d9d0bb7b.pth").touch()
    assert default_pretrained_path(50, "ibn_a", tmp_path).name == "resnet50_ibn_a-d9d0bb7b.pth"
    for depth in DEPTHS:
        message = missing_weights_message(depth, folder=tmp_path)
        assert f"resnet{depth}-" in message and "--pretrained none" in message and "\n" not in message
