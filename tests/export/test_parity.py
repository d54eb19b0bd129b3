"""The gate's figures and limits, on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ppcls.configs.export import ExportOptions
from ppcls.configs.exported import ExportedModel, InputSpec, OutputSpec, SourceSpec
from ppcls.data.sample import Sample
from ppcls.export import parity
from ppcls.export.gate_images import GateImages, calibration_files, gate_images
from ppcls.export.parity import Parity, ParityError
from ppcls.utils.errors import UserError


def described(layout: str = "NCHW") -> ExportedModel:
    source = SourceSpec(checkpoint="c", digest="0", epoch=1, arch={}, classes_dropped=0)
    output = OutputSpec(name="y", feature_dim=2)
    return ExportedModel(input=InputSpec(height=4, width=2, layout=layout), output=output, source=source, graphs=[])


@pytest.fixture
def pictures(tmp_path) -> list[Sample]:
    """Twenty pictures of three sizes; the red channel is the number of the picture."""
    samples = []
    for number in range(20):
        path = tmp_path / f"{number:02d}.png"
        Image.new("RGB", ((2, 3, 2)[number % 3], (4, 5, 9)[number % 3]), (number, 0, 0)).save(path)
        samples.append(Sample(str(path), number, 1))
    return samples


def test_difference_is_relative_to_the_largest_output():
    reference = np.array([[1.0, -8.0], [2.0, 0.0]], np.float32)
    assert parity.relative_difference(reference, reference) == 0
    assert parity.relative_difference(reference, reference + np.float32([[0, 0], [0, 0.5]])) == 0.5 / 8


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_never_pass(bad):
    reference = np.array([[1.0, 2.0]], np.float32)
    found = Parity(1, parity.relative_difference(reference, np.array([[1.0, bad]], np.float32)), None, None)
    with pytest.raises(ParityError, match="failed the parity gate"):
        parity.require_parity(found, "graph", "test")
    nothing = Parity(1, parity.relative_difference(0 * reference, 0 * reference), None, None)
    with pytest.raises(ParityError):
        parity.require_parity(nothing, "graph", "test")


@pytest.mark.parametrize(
    ("difference", "after", "passes"),
    [(9e-5, 0.5, True), (1.1e-4, 0.5, False), (0, 0.5004, True), (0, 0.5006, False), (0, 0.4994, False)],
)
def test_strict_limits(difference, after, passes):
    found = Parity(10, difference, 0.5, after)
    if passes:
        parity.require_parity(found, "graph", "test")
    else:
        with pytest.raises(ParityError, match="nothing was written"):
            parity.require_parity(found, "graph", "test")


@pytest.mark.parametrize(("after", "passes"), [(0.6, True), (0.491, True), (0.489, False), (float("nan"), False)])
def test_reduced_precision_may_cost_a_little_map(after, passes):
    found = Parity(10, 0.3, 0.5, after)
    if passes:
        parity.require_small_drop(found, "graph", "test", 1.0)
    else:
        with pytest.raises(ParityError, match=r"--max-map-drop 1\.0"):
            parity.require_small_drop(found, "graph", "test", 1.0)


def test_map_is_that_of_the_ranking():
    people = [Sample(f"q{i}", i, 1) for i in (1, 2)], [Sample(f"g{i}", i, 2) for i in (1, 2, 3)]
    images = GateImages("test", [*people[0], *people[1]], [("all", people[0])], people[1])
    right = np.eye(3, dtype=np.float32)[[0, 1, 0, 1, 2]]
    assert parity.mean_ap(right, images) == 1
    swapped = right[[0, 1, 3, 2, 4]]  # the gallery's first two persons exchanged: ties behind one wrong answer
    assert parity.mean_ap(swapped, images) < 0.6
    assert parity.mean_ap(right, GateImages("no ids", images.samples)) is None


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_each_picture_gets_its_own_answer(pictures, layout, monkeypatch):
    monkeypatch.setattr(parity, "_BUFFERED", 10)  # so that groups are also emptied before they are full
    shapes = []

    def run(batch):
        shapes.append(batch.shape)
        red = batch[:, 0, 0, 0] if layout == "NHWC" else np.rint((batch[:, 0, 0, 0] * 0.229 + 0.485) * 255)
        return np.stack([red, red], axis=1).astype(np.float32)

    features = parity.graph_features(run, described(layout), pictures, strict=True)
    np.testing.assert_array_equal(features[:, 0], np.arange(20))
    assert {shape[0] for shape in shapes} >= {1, 7} and max(shape[0] for shape in shapes) == 7
    assert len({shape[1:] for shape in shapes}) == (3 if layout == "NHWC" else 1)


def test_an_answer_that_depends_on_the_batch_fails(pictures):
    def run(batch):
        return np.full((len(batch), 2), len(batch), np.float32)

    with pytest.raises(ParityError, match="depend on the batch"):
        parity.graph_features(run, described(), pictures, strict=True)
    parity.graph_features(run, described(), pictures, strict=False)


def test_a_single_picture_is_also_given_seven_times_at_once(pictures):
    def run(batch):
        return np.full((len(batch), 2), 1 if len(batch) == 1 else 2, np.float32)

    with pytest.raises(ParityError, match="depend on the batch"):
        parity.graph_features(run, described(), pictures[:1], strict=True)


def test_a_graph_that_fails_on_an_image_fails_the_gate(pictures):
    def run(batch):
        raise UserError("values that are not finite")

    with pytest.raises(ParityError, match="fails on real images: values that are not finite"):
        parity.graph_features(run, described(), pictures, strict=False)


def test_a_limit_keeps_whole_people(data):
    with gate_images(ExportOptions(dataset="market", data_root=str(data), limit=13)) as images:
        assert images.origin == "market" and len(images.samples) == 12  # two people, three cameras, two pictures
        assert {sample.pid for sample in images.gallery} == {sample.pid for _, q in images.queries for sample in q}


def test_the_synthetic_set_is_the_same_every_time_and_gone_afterwards():
    seen = []
    for _ in range(2):
        with gate_images(ExportOptions()) as images:
            assert images.queries and images.gallery
            seen.append([(s.pid, s.camid, (p := parity.load_image(s.path)).size, p.tobytes()) for s in images.samples])
            path = images.samples[0].path
    assert seen[0] == seen[1]
    with pytest.raises(UserError, match="does not exist"):
        parity.load_image(path)


def test_calibration_reads_training_images_or_those_given(data):
    training = calibration_files(ExportOptions(dataset="market", data_root=str(data), calibration_images=8))
    assert len(training) == 8 and all("bounding_box_train" in path for path in training)
    given = calibration_files(ExportOptions(dataset="market", data_root=str(data), images=str(data / "market/query")))
    assert len(given) == 12 and all("query" in path for path in given)
