"""The export command end to end: what it writes and prints, its exit statuses, and what a kill leaves."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import pytest

from ppcls.configs.exported import read_exported
from tests.e2e.conftest import ROOT, command, environment

pytestmark = pytest.mark.slow

#: The command, with a graph of weights that are not those of the checkpoint.
PERTURBED = """
import runpy, sys
from ppcls.utils.tuning import apply_cpu_tuning, import_paddle_quietly
apply_cpu_tuning()
import_paddle_quietly()
from ppcls.export import job
build = job.build_embedder
def perturbed(net, **shape):
    net = net.copy()
    net.backbone.bn.weight.set_value(net.backbone.bn.weight.numpy() * 1.001)
    return build(net, **shape)
job.build_embedder = perturbed
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_trained_network_is_exported_with_its_accuracy(run, data, task1, tmp_path):
    pytest.importorskip("paddle2onnx")
    target = tmp_path / "modèle exporté"
    images = ["--dataset", "market", "--data-root", data]
    said = run("export_model", "--pretrained", task1, "--save_inference_dir", target, "--onnx", *images).stdout
    found = re.findall(r"parity of (\S+) .*largest difference (\S+) of .*mAP (\S+)% → (\S+)% ", said)
    assert [line[0] for line in found] == ["inference.json", "inference.onnx"]
    for _, difference, before, after in found:
        assert float(difference) < 1e-4 and abs(float(before) - float(after)) <= 0.05
    evaluated = run("evaluate", "--ckpt", task1, *images).stdout
    assert f"Mean AP: {float(found[0][2]):.1f}%" in evaluated
    model = read_exported(target)
    assert (model.input.height, model.input.width, model.source.classes_dropped) == (32, 16, 8)
    assert {path.name for path in target.iterdir()} == {
        "inference.json", "inference.pdiparams", "inference.onnx", "inference.yml"
    }  # fmt: skip


def test_a_failed_gate_is_status_1_and_leaves_nothing(task1, data, tmp_path):
    arguments = command(
        "export_model", "--ckpt", task1, "--save-inference-dir", tmp_path / "model",
        "--dataset", "market", "--data-root", data,
    )[1:]  # fmt: skip
    program = (
        f"import sys; sys.argv = {arguments!r}; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tools')!r}]\n{PERTURBED}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), timeout=120
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "failed the parity gate" in line and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--ckpt", "nowhere"], "no checkpoint at nowhere"),
        (["--precision", "int8"], "add --onnx"),
        (["--dataset", "market", "--data-root", "nowhere"], "does not exist"),
    ],
)
def test_mistakes_are_status_2(run, task1, tmp_path, wrong, message):
    done = run("export_model", "--ckpt", task1, "--save-inference-dir", tmp_path / "model", *wrong, status=2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_is_swept_by_the_next(run, task1, tmp_path):
    target = tmp_path / "model"
    arguments = ["--ckpt", task1, "--save-inference-dir", target]
    left = []
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(
            command("export_model", *arguments), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while process.poll() is None and not any(tmp_path.glob(".model.*.part/.lock")):
                time.sleep(0.02)
        finally:
            process.send_signal(signal_number)
            process.wait(60)
        left.append(len(list(tmp_path.iterdir())))
        assert not target.exists()
    assert left == [0, 1]
    run("export_model", *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
