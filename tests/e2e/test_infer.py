"""The inference command on a really exported network: what it writes, prints and refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppcls.retrieval import find_images
from tests.e2e.conftest import ROOT, environment

pytestmark = pytest.mark.slow
INFER = ROOT / "deploy/inference_python/infer.py"


@pytest.fixture(scope="session")
def model(run, data, task1, tmp_path_factory):
    """The network of task 1, exported."""
    pytest.importorskip("paddle2onnx")
    folder = tmp_path_factory.mktemp("exported") / "modèle"
    run("export_model", "--ckpt", task1, "--save-inference-dir", folder, "--onnx", "--images", data / "market/query")
    return folder


def infer(*arguments: object, status: int = 0, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(INFER), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=cwd, timeout=120, check=False)
    assert done.returncode == status, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
    return done


def test_embeddings_are_those_of_the_checkpoint(model, data, task1, run, tmp_path):
    query, gallery = data / "market/query", data / "market/bounding_box_test"
    run("ez_inference", "--previous", task1, "--images", query, "--output", tmp_path / "expected.npz")
    expected = np.load(tmp_path / "expected.npz")["embeddings"]
    arguments = ["--model-dir", model, "--img-path", query, "--gallery", gallery, "--top-k", 3]
    for backend in ("paddle", "onnxruntime"):
        out = infer(*arguments, "--backend", backend, "--output", f"{backend}.npz", cwd=tmp_path).stdout
        assert f"{backend} " in out and f"{len(expected)} embeddings of size 512 in {backend}.npz" in out
        with np.load(tmp_path / f"{backend}.npz") as arrays:
            assert np.abs(arrays["embeddings"] - expected).max() < 1e-4 * np.abs(expected).max()
            assert arrays["distances"].shape == arrays["nearest_paths"].shape == (len(expected), 3)
            assert (np.diff(arrays["distances"], axis=1) >= 0).all()


def test_the_way_that_test_chains_call_it(model, data, tmp_path):
    """Underscore-free template flags with True and False as values; the benchmark's lines; a line per image."""
    images = data / "market/query"
    flags = ["--use-gpu=False", "--enable-mkldnn=False", "--cpu-threads=1", "--batch-size=3", "--precision=fp32"]
    flags += [f"--model-dir={model}", f"--img-path={images}", "--benchmark=True", "--print-embeddings=True"]
    out = infer(*flags, "--output", "e.jsonl", cwd=tmp_path).stdout
    assert "paddle 3" in out and " enable_mkldnn: False\n" in out and " cpu_math_library_num_threads: 1\n" in out
    assert re.search(
        r"\n preprocess_time\(ms\): [\d.]+, inference_time\(ms\): [\d.]+, postprocess_time\(ms\): [\d.]+\n$", out
    )
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [str(path) for path in find_images(images)]
    printed = dict(line.split("\t") for line in out.splitlines() if "\t" in line)
    assert {Path(line["path"]).name: line["embedding"] for line in lines} == {
        name: json.loads(text)["embedding"] for name, text in printed.items()
    }


def test_a_gallery_is_built_once_and_searched_by_anybody(model, data, run, tmp_path):
    folder = tmp_path / "galerie"
    images = ["--model-dir", model, "--gallery", folder, "--img-path"]
    assert "images in" in run("build_gallery", *images, data / "market/bounding_box_test").stdout
    one = find_images(data / "market/query")[0]
    assert "1 images added, 0 were there already" in run("build_gallery", *images, one, "--operation", "add").stdout
    out = infer("--model-dir", model, "--img-path", one, "--gallery", folder, "--top-k", 1, cwd=tmp_path).stdout
    label = int(one.name.split("_")[0])
    assert re.search(rf"   1  0\.0000  label {label}  {re.escape(str(one))}\n", out)
    run("build_gallery", *images, one, status=2)
    listed = run("build_gallery", "--operation", "list", "--gallery", folder).stdout
    assert f"\t{label}\t{one}\n" in listed


def test_unreadable_images(model, data, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    whole = find_images(data / "market/query")[:2]
    (tmp_path / "list.txt").write_text("\n".join(map(str, [whole[0], "broken.jpg", "gone.jpg", whole[1]])))
    arguments = ["--model-dir", model, "--img-path", tmp_path / "list.txt", "--output", tmp_path / "e.npz"]
    out = infer(*arguments, status=1, cwd=tmp_path).stdout
    assert out.count("left out: ") == 2 and "2 image(s) could not be read and were left out" in out
    with np.load(tmp_path / "e.npz") as arrays:
        assert arrays["paths"].tolist() == list(map(str, whole))
    (tmp_path / "e.npz").unlink()
    done = infer(*arguments, "--strict", status=2, cwd=tmp_path)
    assert "error: cannot decode" in done.stderr and "broken.jpg" in done.stderr and not (tmp_path / "e.npz").exists()


def test_mistakes_are_one_line(model, data, tmp_path):
    one = find_images(data / "market/query")[0]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for arguments, message in (
        ([], "give --img-path"),
        (["--img-path", tmp_path / "empty"], "holds no image"),
        (["--img-path", tmp_path / "nowhere"], "no such image or folder"),
        (["--img-path", one, "--model-dir", tmp_path / "empty"], "holds no exported model"),
        (["--img-path", one, "--output", tmp_path / "file" / "e.npz"], "cannot write"),
        (["--img-path", one, "--benchmark=perhaps"], "takes True or False"),
        (["--img-path", one, "--use-gpu"], "no GPU that this build"),
    ):
        given = arguments if "--model-dir" in arguments else ["--model-dir", model, *arguments]
        done = infer(*given, status=2, cwd=tmp_path)
        assert message in done.stderr and "error: " in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]
