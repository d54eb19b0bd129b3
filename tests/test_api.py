"""The library face: light to import, typed, and as documented."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import ppcls

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, **settings) -> subprocess.CompletedProcess[str]:
    """``code`` in a process of its own, with the repository on its path."""
    setup = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", setup + textwrap.dedent(code)], capture_output=True, text=True, check=False, **settings
    )


def test_import_is_light_and_names_without_a_network_stay_so():
    answer = python("""
        import ppcls
        assert not {"paddle", "numpy", "scipy", "PIL"} & set(sys.modules), "import ppcls imports too much"
        assert ppcls.__version__
        ppcls.evaluate_features, ppcls.open_dataset, ppcls.make_lite_data, ppcls.UserError, ppcls.RankingResult
        assert "paddle" not in sys.modules
    """)
    assert answer.returncode == 0, answer.stderr


def test_the_first_name_that_needs_paddle_tunes_the_processor_before_importing_it():
    answer = python("""
        import os
        os.environ.pop("OMP_NUM_THREADS", None)
        import ppcls, ppcls.utils.tuning as tuning
        ppcls.load_model
        assert "paddle" in sys.modules
        print(tuning.apply_cpu_tuning())
        print(os.environ["OMP_NUM_THREADS"] == str(tuning.usable_cores()))
    """)
    assert answer.returncode == 0, answer.stderr
    line, threads = answer.stdout.splitlines()
    assert line.startswith("CPU tuning: ")
    assert "not applied" not in line
    assert threads == "True"


def test_every_public_name_is_there_and_documented():
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert dir(ppcls) == sorted(ppcls.__all__)
    for name in ppcls.__all__:
        assert getattr(ppcls, name) is not None
        if not name.startswith("__"):
            assert getattr(ppcls, name).__doc__, f"{name} has no docstring"
            assert name in page, f"docs/api.md does not name {name}"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        ppcls.load_modle  # noqa: B018


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "ppcls/py.typed").is_file()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from ppcls.arch.reid_net import build_net
    from ppcls.engine.checkpoint import save_checkpoint

    net = build_net(depth=18, num_classes=3, seed=5)
    net.backbone.bn.weight.set_value(np.full(512, 2.0, np.float32))
    arch = {"depth": 18, "last_stride": 2, "pooling": "avg", "neck_bias": "train", "variant": "plain"}
    path = tmp_path_factory.mktemp("run") / "checkpoint.pdparams"
    save_checkpoint(path, net, 1, {**arch, "height": 32, "width": 16})
    return ppcls.load_model(path.parent)


@pytest.fixture
def pictures(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (40 + number, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


def test_all_kinds_of_images_give_the_same_embeddings(model, pictures):
    from PIL import Image

    from ppcls.data.sample import Sample

    assert (model.num_classes, model.feature_dim, model.height, model.width) == (3, 512, 32, 16)
    files = ppcls.find_images(pictures)
    expected = model.embed(pictures)
    assert expected.shape == (3, 512) and expected.dtype == np.float32
    opened = [Image.open(path) for path in files]
    kinds = {
        "paths": files,
        "strings": [str(path) for path in files],
        "samples": [Sample(str(path), 1, 1) for path in files],
        "pictures": opened,
        "arrays": [np.asarray(picture) for picture in opened],
        "mixed": [opened[0], files[1], np.asarray(opened[2])],
    }
    for kind, images in kinds.items():
        np.testing.assert_allclose(model.embed(images), expected, rtol=1e-4, atol=1e-5, err_msg=kind)
    np.testing.assert_allclose(ppcls.embed(model.path, files[1], workers=0), expected[1:2], rtol=1e-4, atol=1e-5)


def test_options_of_embed_change_the_feature_as_they_say(model, pictures):
    from PIL import Image

    image = np.asarray(Image.open(pictures / "0.png"))
    plain, mirrored = model.embed([image, image[:, ::-1].copy()], feature="global")
    both = model.embed([image], feature="global", flip=True)[0]
    np.testing.assert_allclose(both, (plain + mirrored) / 2, rtol=1e-3, atol=1e-4)
    # The neck of the fixture has running statistics 0 and 1, weight 2 and bias 0.
    np.testing.assert_allclose(model.embed([image])[0], 2 * plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("nowhere/at/all", "no such image or folder"),
        ([], "empty"),
        ([np.zeros((4, 4, 3), np.float32)], r"cannot embed a float32 array \[4, 4, 3\]"),
        ([np.zeros((4, 4), np.uint8)], r"cannot embed a uint8 array \[4, 4\]"),
        ([7], "cannot embed a int"),
    ],
)
def test_wrong_images_are_named(model, images, message):
    with pytest.raises(ppcls.UserError, match=message):
        model.embed(images)


def test_wrong_options_are_named_with_the_nearest_right_one(model, tmp_path):
    with pytest.raises(ppcls.UserError, match="tv_l3.*tv_l"):
        ppcls.dream(model, tmp_path / "dreams", tv_l3=1.0)
    with pytest.raises(ppcls.UserError, match=r"train\(\).*epoks.*epochs"):
        ppcls.train(epoks=3)
    with pytest.raises(ppcls.UserError, match=r"run_stream\(\).*bathc_size.*batch_size"):
        ppcls.run_stream(["market"], bathc_size=3)


def test_figures_of_features_worked_out_by_hand():
    # Ranking of query 0: junk (left out), a miss, a hit, own camera (left out), a hit: precisions 1/2 and 2/3.
    qf = np.array([[1.0, 0.0], [0.0, 1.0]])
    angles = np.radians([1.0, 5.0, 10.0, 15.0, 20.0])
    gf = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    g_pids, g_cams = [-1, 8, 7, 7, 7], [2, 2, 2, 1, 3]
    result = ppcls.evaluate_features(qf, gf, [7, 9], g_pids, [1, 1], g_cams, max_rank=3)
    assert result.num_valid == 1
    assert result.mAP == pytest.approx((1 / 2 + 2 / 3) / 2)
    np.testing.assert_allclose(result.cmc, [0, 1, 1])
    assert np.isnan(result.ap_per_query[1])

    trapezoid = ppcls.evaluate_features(qf, gf, [7, 9], g_pids, [1, 1], g_cams, ap="trapezoid")
    assert trapezoid.mAP == pytest.approx(((0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2)


def test_re_ranking_finds_a_match_through_its_neighbours():
    rng = np.random.default_rng(1)
    centres = np.array([[0.0, 0.0], [3.0, 0.0]])
    persons = np.arange(60) % 2
    features = centres[persons] + rng.normal(0, 0.6, (60, 2))
    cams = np.arange(60) // 2 % 3
    arguments = (features[:20], features[20:], persons[:20], persons[20:], cams[:20], cams[20:])
    plain = ppcls.evaluate_features(*arguments, metric="euclidean")
    better = ppcls.evaluate_features(*arguments, re_ranking=True)
    assert plain.mAP < 1.0
    assert better.mAP > plain.mAP


def blocks(page: Path, language: str) -> list[str]:
    """Fenced code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_examples_of_the_documentation_run_in_order(tmp_path):
    examples = blocks(ROOT / "docs/api.md", "python")
    assert len(examples) >= 6
    answer = python("\n".join(examples), cwd=tmp_path, timeout=300)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert answer.stdout.startswith("8 512 (64, 32)")
    assert "no checkpoint at logs/nowhere" in answer.stdout
    assert (tmp_path / "logs/stream/report.json").is_file()
