"""The ONNX chain on stand-in programs, in both dialects."""

from __future__ import annotations

import pytest

from test_tipc.runner import jobs
from test_tipc.runner.dialects import ONNX_CLAS, ONNX_TEMPLATE
from tests.tipc.conftest import file_of, stages, status_lines

MODE = "paddle2onnx_infer"
VALUES = {
    "model_name": "toy",
    "python": "python",
    "convert": "convert.py",
    "model": "{output}/model",
    "opset": "17",
    "checker": "True",
    "inference": "infer.py --show",
    "onnx_file": "m.onnx",
    "images": "images",
    "use_onnx": "True",
    "use_gpu": "False",
    "infer_config": "configs/rec.yaml",
}
AFTER = "=====after_params=====\nlast:last.py {output}/paddle2onnx_infer_cpu.log"


def run(place, layout, **changes):
    name = place.write("\n".join([*file_of(layout, **VALUES | changes), AFTER]))
    return jobs.paddle2onnx(name, MODE, place.environment)


def test_template_dialect(place):
    assert run(place, ONNX_TEMPLATE) == 0
    output = f"test_tipc/output/toy/{MODE}"
    assert place.calls() == [
        ["convert.py", "--model_dir", f"{output}/model", "--opset_version", "17", "--enable_onnx_checker"],
        ["infer.py", "--show", "--onnx_file", "m.onnx", "--img-path", "images"],
        ["last.py", f"{output}/paddle2onnx_infer_cpu.log"],
    ]
    assert len(status_lines(place.output / MODE, "results_paddle2onnx.log")) == 3


def test_paddleclas_dialect_infers_from_deploy(place):
    (place.folder / "deploy").mkdir()
    (place.folder / "deploy" / "infer.py").write_text((place.folder / "infer.py").read_text())
    assert run(place, ONNX_CLAS) == 0
    assert place.calls()[1] == [
        "infer.py", "--show", "-o", "Global.use_onnx=True", "-o", "Global.rec_inference_model_dir=m.onnx",
        "-o", "Global.use_gpu=False", "-c", "configs/rec.yaml",
    ]  # fmt: skip
    assert " - toy - python convert.py " in status_lines(place.output / MODE, "results_paddle2onnx.log")[0]


@pytest.mark.parametrize(
    ("field", "program", "at"),
    [("convert", "convert.py", 0), ("inference", "infer.py", 1)],
)
@pytest.mark.parametrize("broken", ["{} --die", "no_{}"])
def test_whatever_breaks_fails_the_chain(place, field, program, at, broken):
    assert run(place, ONNX_TEMPLATE, **{field: broken.format(program)}) == 1
    expected = ["successful"] * at + ["failed"] + ["not run"] * (2 - at)
    assert [status for _, status in stages(place.output / MODE)] == expected
    assert "Run failed" in status_lines(place.output / MODE, "results_paddle2onnx.log")[-1]
