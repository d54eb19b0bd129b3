"""The commands end to end: what they write, and what they say about bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ppcls.engine.checkpoint import load_checkpoint
from tests.e2e.conftest import ROOT, SHORT, environment

pytestmark = pytest.mark.slow


def test_run_folder_describes_itself(task1):
    names = {path.name for path in task1.iterdir()}
    assert {"config.yaml", "log.txt", "metrics.jsonl", "checkpoint.pdparams", "state.pdstate", "visualdl"} <= names
    log = (task1 / "log.txt").read_text()
    assert "Epoch: [2][1/" in log and "Pid Loss: " in log and "ips: " in log and "eta: " in log
    assert " * Finished epoch 2 learning rate 0.01" in log and "Mean AP: " in log and "  top-1  " in log
    lines = [json.loads(line) for line in (task1 / "metrics.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"train", "evaluate"}
    assert load_checkpoint(task1).epoch == 3


def one_epoch_of_task2(data, task1) -> list[object]:
    where = ["--data-root", data, "--dataset", "market", "--previous", task1]
    return [*where, "--epochs", 1, "--evaluate", 0]


def test_new_classes_stand_in_front_of_the_old(run, data, task1, dreams, tmp_path):
    arguments = [*SHORT, *one_epoch_of_task2(data, task1), "--learning-rate", "1e-9"]
    run("main_finetune", *arguments, "--logs-dir", tmp_path / "ft")
    dreamed = ["--inversion-dir", dreams, "--algo-config", "sim-res-triangle"]
    run("main_incremental", *arguments, *dreamed, "--logs-dir", tmp_path / "gd")
    old = load_checkpoint(task1).net.classifier.W.numpy()
    for name in ("ft", "gd"):
        grown = load_checkpoint(tmp_path / name).net.classifier.W.numpy()
        assert grown.shape == (16, 512)
        np.testing.assert_allclose(grown[8:], old, atol=1e-6)


def test_evaluate_records_text_and_json(run, data, task1):
    out = run("evaluate", "--data-root", data, "--dataset", "msmt17", "market", "--ckpt", task1, "--output").stdout
    assert "Mean AP:" in out and "  top-1  " in out
    text = (task1 / "eval.txt").read_text()
    assert (
        text.startswith("Namespace(")
        and "Epoch: 3\n" in text
        and "market:\n    mAP: " in text
        and "    CMC-1  : " in text
    )
    entry = json.loads((task1 / "eval.json").read_text())["checkpoint.pdparams"]
    assert [line["dataset"] for line in entry["results"]] == ["msmt17", "market"]
    run("evaluate", "--data-root", data, "--dataset", "market", "--ckpt", task1, "--output", "--re-ranking", "--flip")
    assert (task1 / "eval.txt").read_text().startswith(text)
    mixed = run("evaluate", "--data-root", data, "--dataset", "market+msmt17", "--ckpt", task1, "--recursive").stdout
    assert mixed.count("Mean AP:") == 3 and "avg" in mixed


def test_embeddings_and_nearest_images(run, data, task1, dreams, tmp_path):
    output, picture = tmp_path / "e.npz", tmp_path / "e.png"
    gallery = data / "market" / "query"
    arguments = ["--images", gallery, "--gallery", gallery, "--top-k", 2, "--output", output, "--picture", picture]
    out = run("ez_inference", "--previous", task1, "--inversion-dir", dreams, *arguments).stdout
    assert "32 dreamed images of 8 ids: accuracy" in out
    with np.load(output) as arrays:
        assert arrays["embeddings"].shape == (8, 512) and arrays["nearest"].shape == (8, 2)
        np.testing.assert_array_equal(arrays["nearest"][:, 0], np.arange(8))  # each image is its own nearest
        np.testing.assert_allclose(arrays["distances"][:, 0], 0, atol=1e-5)
    with Image.open(picture) as image:
        assert image.width > 50


def test_two_processes_train_one_network(data, tmp_path):
    logs = tmp_path / "dp"
    arguments = [
        *SHORT,
        "--data-root",
        data,
        "--dataset",
        "market",
        "--epochs",
        "1",
        "--evaluate",
        "0",
        "--logs-dir",
        logs,
    ]
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", tmp_path / "log"]
    done = subprocess.run(
        [str(part) for part in [*launch, ROOT / "tools" / "main.py", *arguments]],
        capture_output=True, text=True, env={**environment(), "PYTHONPATH": str(ROOT)}, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = [json.loads(line) for line in (logs / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(np.isfinite(line["pid_loss"]) for line in lines)
    assert all(np.isfinite(value.numpy()).all() for value in load_checkpoint(logs).net.state_dict().values())


def test_published_spelling_of_the_tools_folder(run):
    done = subprocess.run(
        [sys.executable, ".tools/main_incrementalX.py", "-h"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert done.returncode == 0 and "--peers" in done.stdout


@pytest.fixture(scope="module")
def broken(data, tmp_path_factory):
    """A copy of the market data with a truncated JPEG among the training images."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "whole").symlink_to(data / "market")
    train = folder / "market" / "bounding_box_train"
    train.mkdir(parents=True)
    images = sorted((data / "market" / "bounding_box_train").iterdir())
    for path in images:
        (train / path.name).write_bytes(path.read_bytes())
    (train / images[0].name).write_bytes(images[0].read_bytes()[:200])
    (folder / "empty" / "bounding_box_train").mkdir(parents=True)
    one = folder / "one" / "bounding_box_train"
    one.mkdir(parents=True)
    (one / images[0].name).write_bytes(images[0].read_bytes())
    return folder, images[0].name


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("main", ["--dataset", "nowhere"], "nowhere"),
        ("main", ["--dataset", "duke"], "duke does not exist; expected"),
        ("main", ["--data-root", "BROKEN", "--dataset", "empty"], "no usable image"),
        ("main", ["--data-root", "BROKEN", "--dataset", "one"], "persons"),
        ("main", ["--data-root", "BROKEN", "--dataset", "market"], "cannot decode"),
        ("main", ["--batch-size", "512"], "persons"),
        ("main", ["--pretrained", "nowhere.pdparams"], "nowhere.pdparams"),
        ("main", ["--depth", "18", "--embedding", "2048"], "embedding is 512"),
        ("main", ["--resume", "nowhere"], "no run folder with a state.pdstate"),
        ("main_finetune", ["--previous", "nowhere"], "no checkpoint at"),
        ("main_incremental", ["--previous", "TASK1"], "--algo-config is missing"),
        ("main_incremental", ["--previous", "TASK1", "--algo-config", "cosine", "--inversion-dir", "no"], "no"),
        ("main_incrementalX", ["--previous", "TASK1", "--algo-config", "cosine"], "use tools/main_incremental.py"),
        ("evaluate", ["--ckpt", "nowhere"], "no checkpoint at"),
        ("inversion", ["--teacher", "nowhere"], "no checkpoint at"),
        ("ez_inference", ["--previous", "TASK1"], "give --inversion-dir"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(run, data, task1, broken, tmp_path, tool, arguments, message):
    words = {"BROKEN": broken[0], "TASK1": task1}
    arguments = [words.get(argument, argument) for argument in arguments]
    if tool.startswith("main"):
        logs = tmp_path / "logs"
        base = [*SHORT, "--data-root", data, "--dataset", "market", "--epochs", 1, "--evaluate", 0, "--logs-dir", logs]
        arguments = [*base, *arguments]
    elif tool == "evaluate":
        arguments = ["--data-root", data, "--dataset", "market", *arguments]
    done = run(tool, *arguments, status=2, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0], done.stderr
    assert not list(tmp_path.rglob("*.pdparams"))


def test_later_tasks_inherit_the_input_size_and_may_freeze_the_neck(run, data, task1, tmp_path):
    options = ["--data-root", data, "--dataset", "market", "--previous", task1, "-b", 16, "--seed", 1, "--workers", 1]
    options += ["--epochs", 1, "--evaluate", 0]
    run("main_finetune", *options, "--logs-dir", tmp_path / "train")
    run("main_finetune", *options, "--neck-bias", "frozen", "--logs-dir", tmp_path / "frozen")
    trained, frozen = load_checkpoint(tmp_path / "train"), load_checkpoint(tmp_path / "frozen")
    assert (trained.arch["height"], trained.arch["width"]) == (32, 16)
    before = load_checkpoint(task1).net.backbone.bn.bias.numpy()
    np.testing.assert_array_equal(frozen.net.backbone.bn.bias.numpy(), before)
    assert np.abs(trained.net.backbone.bn.bias.numpy() - before).max() > 0
    assert frozen.arch["neck_bias"] == "frozen" and trained.arch["neck_bias"] == "train"


def test_mixed_synthetic_data_start_from_random_weights(run, data, tmp_path):
    options = [option for option in SHORT if option not in ("--pretrained", "none")]
    options += ["--data-root", data, "--dataset", "msmt17+market", "--epochs", 1, "--evaluate", 0]
    out = run("main", *options, "--logs-dir", tmp_path / "joint").stdout
    assert "no ImageNet weights" in out and "Synthetic data: going on from random weights" in out
    assert out.count("no ImageNet weights") == 1
    assert load_checkpoint(tmp_path / "joint").net.num_classes == 16


def test_a_later_task_is_repeated_from_its_configuration(run, data, task1, dreams, tmp_path):
    options = [*SHORT[:-2], *one_epoch_of_task2(data, task1)]
    options = [option for option in options if option not in ("--depth", "18")]
    first, second = tmp_path / "first", tmp_path / "second"
    dreamed = ["--inversion-dir", dreams, "--algo-config", "cosine", "--embedding", 512]
    run("main_incremental", *options, *dreamed, "--logs-dir", first)
    run("main_incremental", "-c", first / "config.yaml", "--logs-dir", second)
    assert (first / "checkpoint.pdparams").read_bytes() == (second / "checkpoint.pdparams").read_bytes()
    wrong = run("main_incremental", *options, *dreamed[:-1], 2048, "--logs-dir", tmp_path / "x", status=2).stderr
    assert "512" in wrong and not (tmp_path / "x" / "checkpoint.pdparams").exists()


def test_every_checkpoint_of_a_folder_keeps_its_figures(run, data, tmp_path):
    logs = tmp_path / "run"
    options = [*SHORT, "--data-root", data, "--dataset", "market", "--classifier", "arc"]
    run("main", *options, "--epochs", 2, "--save-freq", 1, "--evaluate", 0, "--logs-dir", logs)
    arguments = ["--data-root", data, "--dataset", "market", "--recursive", "--output", "--rank-list", 2]
    run("evaluate", *arguments, "--ckpt", logs)
    entries = json.loads((logs / "eval.json").read_text())
    assert set(entries) == {"checkpoint.pdparams", "checkpoint-epoch1.pdparams", "checkpoint-epoch2.pdparams"}
    assert entries["checkpoint.pdparams"]["results"] == entries["checkpoint-epoch2.pdparams"]["results"]
    assert (logs / "ranks-market.png").exists() and (logs / "ranks-checkpoint-epoch1-market.png").exists()
    assert load_checkpoint(logs).arch["classifier"] == "arc"


def test_a_run_folder_that_cannot_be_made(run, data, tmp_path):
    (tmp_path / "file").write_text("")
    options = [*SHORT, "--data-root", data, "--dataset", "market", "--epochs", 1, "--evaluate", 0]
    done = run("main", *options, "--logs-dir", tmp_path / "file" / "run", status=2)
    assert "cannot make the folder" in done.stderr and "Traceback" not in done.stderr
