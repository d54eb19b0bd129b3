"""The chain on stand-in programs: exit statuses, status lines, records, stops, restarts, interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ppcls.utils.errors import UserError
from test_tipc.runner import jobs
from test_tipc.runner.dialects import TRAIN_CLAS
from test_tipc.runner.output import fresh_folder
from tests.tipc.conftest import PROGRAMS, ROOT, TEMPLATE, file_of, results, stages, status_lines

MODE = "lite_train_lite_infer"
RUN = "test_tipc/output/toy/lite_train_lite_infer/norm_train_gpus_-1_autocast_null_nodes_1"
ORDER = ["task1", "train", "evaluate", "look", "export", "inference", "inference", "last"]


def test_all_commands_come_from_the_file_in_order(place):
    assert place.run() == 0
    output = f"test_tipc/output/toy/{MODE}"
    log = f"{output}/python_infer_cpu_gpus_-1_usemkldnn_False_threads_1_precision_False_batchsize"
    assert place.calls() == [
        ["first.py", "--out", f"{output}/task1", "--steps", "0", "20"],
        ["train.py", "--seed", "1", "--logs-dir", RUN, "--epochs", "2", "--batch-size", "8"],
        ["evaluate.py", "--ckpt", f"{RUN}/checkpoint.pdparams"],
        ["look.py", f"{RUN}/eval.json"],
        ["export.py", "--ckpt", f"{RUN}/checkpoint.pdparams", "--save-inference-dir", f"{RUN}/inference"],
        *(
            ["infer.py", "--show", "--model-dir", f"{RUN}/inference", "--img-path", "images", "--benchmark"]
            + ["--no-use-gpu", "--batch-size", size]
            for size in ("1", "16")
        ),
        ["last.py", f"{log}_1.log"],
    ]
    folder = place.output / MODE
    assert {path.name for path in folder.iterdir()} >= {"results.json", "results_python.log", "task1.log", "last.log"}
    assert (folder / f"{RUN.split('/')[-1]}_eval.log").read_text() == "working as evaluate.py\n"


def test_status_lines_byte_by_byte_as_in_the_first_port(place, capsys):
    assert place.run() == 0
    expected = (
        f"\033[33m Run successfully with command - python evaluate.py --ckpt {RUN}/checkpoint.pdparams !  \033[0m"
    )
    assert status_lines(place.output / MODE)[2] == expected
    assert expected + "\n" in capsys.readouterr().out


def test_status_lines_of_the_other_dialect_name_model_and_log(place, capsys):
    (place.folder / "deploy").mkdir()
    values = {
        "model_name": "toy",
        "python": "python",
        "gpu_list": "-1",
        "trainer": "norm_train",
        "norm_train": "last.py",
    }
    values |= {"train_model_name": "w", "pact_train": "last.py --die"}
    name = place.write("\n".join(file_of(TRAIN_CLAS, **values)).replace("-o Global.output_dir", "null"))
    assert jobs.train_infer(name, MODE, None, place.environment) == 0
    log = f"{RUN}.log"
    assert status_lines(place.output / MODE) == [
        f"\033[33m Run successfully with command - toy - python last.py - {log} ! \033[0m"
    ]
    name = place.write((place.folder / name).read_text().replace("trainer:norm_train", "trainer:pact_train"))
    assert jobs.train_infer(name, MODE, None, place.environment) == 1
    assert " Run failed with command - toy - python last.py --die - test_tipc/" in capsys.readouterr().out


def test_results_json_records_every_command(place):
    assert place.run() == 0
    found = results(place.output / MODE)
    assert (found["status"], found["mode"], found["dialect"], found["config"]) == (
        "successful", MODE, "template", "config.txt",
    )  # fmt: skip
    assert [entry["stage"] for entry in found["commands"]] == ORDER
    by_stage = {entry["stage"]: entry for entry in found["commands"]}
    for entry in found["commands"]:
        assert entry["exit_status"] == 0 and entry["seconds"] > 0 and (place.folder / entry["log"]).is_file()
        assert entry["command"].split() == entry["argv"]
    assert by_stage["train"]["metrics"] == {"pid_loss": 0.5, "ips": 8.0}
    assert by_stage["evaluate"]["metrics"] == {"market": {"mAP": 0.25, "R1": 0.5}}
    assert by_stage["inference"]["metrics"]["inference_time_ms"] == 20


@pytest.mark.parametrize("stage", PROGRAMS)
def test_a_broken_script_fails_the_chain_where_it_is(place, stage, capsys):
    words = PROGRAMS[stage]
    assert place.run({words: f"{words} --die"}) == 1
    at = ORDER.index(stage)
    assert stages(place.output / MODE) == [
        (name, "successful" if i < at else "failed" if i == at else "not run") for i, name in enumerate(ORDER)
    ]
    lines = status_lines(place.output / MODE)
    assert len(lines) == at + 1 and lines[-1].startswith("\033[33m Run failed with command - python ")
    assert all(" Run successfully with command - " in line for line in lines[:-1])
    assert lines[-1] in capsys.readouterr().out
    entry = results(place.output / MODE)["commands"][at]
    assert entry["exit_status"] == 7 and "it went wrong" in (place.folder / entry["log"]).read_text()
    assert len(place.calls()) == at + 1


@pytest.mark.parametrize("stage", PROGRAMS)
def test_a_script_that_does_not_exist_fails_the_chain(place, stage):
    words = PROGRAMS[stage]
    assert place.run({words: words.replace(".py", "_DOES_NOT_EXIST.py")}) == 1
    assert " Run failed with command - " in status_lines(place.output / MODE)[-1]
    assert results(place.output / MODE)["status"] == "failed"


@pytest.mark.parametrize(("stage", "made"), [("train", "checkpoint.pdparams"), ("export", "inference")])
def test_a_program_that_leaves_nothing_has_not_succeeded(place, stage, made):
    words = PROGRAMS[stage]
    assert place.run({words: f"{words} --lazy"}) == 1
    entry = results(place.output / MODE)["commands"][ORDER.index(stage)]
    assert (entry["status"], entry["exit_status"]) == ("failed", 0)
    assert made in entry["note"] and "was not written" in entry["note"]


def test_what_an_earlier_run_left_does_not_make_the_next_one_pass(place):
    assert place.run() == 0
    assert place.run({PROGRAMS["train"]: "train.py --lazy"}) == 1
    folder = place.output / MODE
    assert len(status_lines(folder)) == 2 and not (place.folder / RUN).exists()
    assert place.run() == 0 and len(status_lines(folder)) == len(ORDER)
    assert place.run() == 0 and len(status_lines(folder)) == len(ORDER)


def test_whole_runs_are_kept_beside(place):
    mode = "whole_train_whole_infer"
    assert place.run(mode=mode) == place.run(mode=mode) == 0
    folder = place.output / mode
    assert (folder / "earlier-1" / "results.json").is_file() and not (folder / "earlier-2").exists()
    assert "80" in place.calls()[1]


def test_an_unreadable_record_of_an_evaluation_is_a_failure(place):
    (place.folder / "evaluate.py").write_text(f"open('{RUN}/eval.json', 'w').write('[1]')", encoding="utf-8")
    assert place.run() == 1
    assert "is not the record of one evaluation" in results(place.output / MODE)["commands"][2]["note"]


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ({"trainer:norm_train": "trainer:norm_trian"}, "line 13 (trainer): no trainer 'norm_trian'"),
        ({"gpu_list:-1": "gpu_list:cpu"}, "line 4 (gpu_list): cpu: expected -1"),
        ({"gpu_list:-1": "gpu_list:10.0.0.1,10.0.0.2;0,1"}, "several machines are not supported"),
        ({"gpu_list:-1": "gpu_list:0,0"}, "a GPU stands there twice"),
        ({"python:python": "python:null"}, "line 3 (python): expected the name of a Python interpreter"),
        ({"python:python": "python:python9.9"}, "there is no program 'python9.9' on PATH"),
        ({"model_name:toy": "model_name:null"}, "line 2 (model_name): must not be null"),
        ({"train.py --seed 1": "train.py --seed '1"}, "line 14 (norm_train): no closing quotation"),
        ({"{run}": "{rnu}"}, "unknown place '{rnu}'; did you mean 'run'?"),
        ({"--batch-size:8": "--batch-size:8|16"}, "line 8 (--batch-size): one value is needed here, not a list: 8|16"),
        ({"norm_export:export.py": "norm_export:null"}, "the inference command needs an exported model"),
        ({"img-path:images": "img-path:nowhere"}, "nowhere does not exist, which 'inference' reads (--img-path)"),
        ({"evaluate.py": "evaluate.py --dataset market"}, "data set folder data/market does not exist; expected"),
    ],
)
def test_mistakes_in_the_file_are_errors_that_name_the_line(place, replace, message):
    with pytest.raises(UserError) as error:
        place.run(replace)
    assert message in str(error.value)
    assert not [call for call in place.calls() if call[0] == "train.py"]


def test_whole_infer_exports_the_weights_named_and_infers(place):
    with pytest.raises(UserError, match=r"line 24 \(train_model\): weights.pdparams does not exist"):
        place.run(mode="whole_infer")
    (place.folder / "weights.pdparams").write_text("")
    assert place.run(mode="whole_infer", gpu="2") == 0
    assert [call[0] for call in place.calls()] == ["export.py", "infer.py", "infer.py", "last.py"]
    assert place.calls()[0][1:4] == ["--whole", "--ckpt", "weights.pdparams"]
    logs = [path.name for path in (place.output / "whole_infer").glob("python_infer_*")]
    assert len(logs) == 2 and all("_gpus_2_" in name for name in logs)


def test_whole_infer_takes_a_model_that_is_exported_already(place):
    (place.folder / "exported").mkdir()
    change = {
        "train_model:weights.pdparams": "train_model:exported",
        "infer_export:export.py --whole": "infer_export:null",
    }
    assert place.run(change, mode="whole_infer") == 0
    assert place.calls()[0][:4] == ["infer.py", "--show", "--model-dir", "exported"]


def test_a_gpu_number_belongs_to_whole_infer(place):
    with pytest.raises(UserError, match="GPUID belongs to MODE whole_infer"):
        place.run(gpu="0")


def test_lists_multiply_and_several_processes_are_launched(place):
    more = "\n=====more_params=====\nmore:inference\n--cpu-threads:1|2\n--enable-mkldnn:True|False\n"
    assert place.run({"last:last.py {first_infer}.log\n": f"last:last.py{more}"}) == 0
    infer = [call for call in place.calls() if call[0] == "infer.py"]
    assert len(infer) == len({tuple(call) for call in infer}) == 8
    assert infer[0][-3:] == ["--cpu-threads", "1", "--enable-mkldnn"]
    names = {path.name for path in (place.output / MODE).glob("python_infer_*.log")}
    assert len(names) == 8
    assert "python_infer_cpu_gpus_-1_usemkldnn_True_threads_2_precision_False_batchsize_16.log" in names


def test_a_program_that_python_does_not_run(place):
    program = place.folder / "bin/mytrain"
    program.write_text(f'#!/bin/sh\nexec python "{place.folder}/train.py" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    assert place.run({"train.py --seed 1": "mytrain --seed 1"}) == 0
    assert place.calls()[1][:3] == ["train.py", "--seed", "1"]
    with pytest.raises(UserError, match="several processes need a .py file"):
        place.run({"train.py --seed 1": "mytrain --seed 1", "gpu_list:-1": "gpu_list:-1,-1"})


@pytest.mark.parametrize(
    ("gpus", "words"),
    [("-1,-1", ["--nproc_per_node", "2"]), ("0,1", ["--devices=0,1"])],
)
def test_two_processes_are_started_by_the_launcher(place, gpus, words):
    python = place.folder / "bin/python"
    python.write_text(f'#!/bin/sh\necho "$@" >> "{place.folder}/launched"\nexit 3\n', encoding="utf-8")
    assert place.run({"gpu_list:-1": f"gpu_list:{gpus}", "task1:first.py": "task1:true"}) == 1
    launched = (place.folder / "launched").read_text().split()
    folder = RUN.replace("gpus_-1", f"gpus_{gpus}")
    assert launched[: 6 + len(words)] == [
        "-m", "paddle.distributed.launch", *words, "--log_dir", f"{folder}_workers", "train.py", "--seed",
    ]  # fmt: skip


def test_each_device_of_the_list_gets_a_run_and_sees_only_its_own(place):
    (place.folder / "train.py").write_text(
        (place.folder / "train.py").read_text() + "\nimport os; print('sees', repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    )
    assert place.run({"gpu_list:-1": "gpu_list:-1|3"}) == 0
    folder = place.output / MODE
    for gpu, seen in (("-1", ""), ("3", "3")):
        text = (folder / f"norm_train_gpus_{gpu}_autocast_null_nodes_1.log").read_text()
        assert f"sees {seen!r}" in text
    assert [name for name, _ in stages(folder)] == ["task1", *ORDER[1:-1], *ORDER[1:-1], "last"]
    logs = [entry["log"] for entry in results(folder)["commands"]]
    assert len(set(logs)) == len(logs)


def test_two_runs_of_one_mode_do_not_mix(place):
    with fresh_folder(place.output / MODE, keep=False), pytest.raises(UserError, match="another run is writing"):
        place.run()


SLEEPER = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("pids", "w").write(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interruption_ends_all_that_was_started(place, number):
    (place.folder / "train.py").write_text(SLEEPER, encoding="utf-8")
    name = place.write(TEMPLATE)
    command = [sys.executable, str(ROOT / "test_tipc/tipc.py"), "train_infer", name, MODE]
    runner = subprocess.Popen(
        command,
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As at a terminal: a shell's background jobs, and so what tests run from there, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        pids = place.folder / "pids"
        deadline = time.monotonic() + 30
        while not (pids.exists() and len(pids.read_text().split()) == 2) and time.monotonic() < deadline:
            time.sleep(0.05)
        runner.send_signal(number)
        text, _ = runner.communicate(timeout=30)
    finally:
        runner.kill()
    assert runner.returncode == 130 and "Traceback" not in text
    for pid in pids.read_text().split():
        assert not alive(int(pid))
    assert dict(stages(place.output / MODE)) == {
        "task1": "successful", "train": "interrupted", **dict.fromkeys(ORDER[2:], "not run"),
    }  # fmt: skip
    assert "Run successfully with command - python train.py" not in text


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    for _ in range(50):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "Z":
                return False
        except (ProcessLookupError, FileNotFoundError):
            return False
        time.sleep(0.05)
    return True


def test_the_record_is_whole_after_every_command(place):
    (place.folder / "evaluate.py").write_text(
        f"import json\nfound = json.load(open('test_tipc/output/toy/{MODE}/results.json'))\n"
        "assert [e['stage'] for e in found['commands']] == ['task1', 'train'] and found['status'] == 'running'\n"
    )
    assert place.run() == 0


def test_no_shell_ever_sees_a_command(place):
    words = "train.py --seed '1;touch pwned' $(touch pwned) `touch pwned` > pwned && x"
    assert place.run({"train.py --seed 1": words}) == 0
    assert not (place.folder / "pwned").exists()
    assert place.calls()[1][2:5] == ["1;touch pwned", "$(touch", "pwned)"]
    assert json.dumps(results(place.output / MODE)["commands"][1]["argv"]).count("touch pwned") == 1


def clas(place, **values):
    """A file of PaddleClas' dialect with an inference, run in the lite mode."""
    base = {"model_name": "toy", "python": "python", "gpu_list": "-1", "train_model_name": "checkpoint.pdparams"}
    base |= {"trainer": "norm_train", "norm_train": "train.py", "norm_export": "export.py", "inference": "infer.py"}
    lines = file_of(TRAIN_CLAS, **base | values)
    for position, flag in ((7, "logs_dir"), (27, "save_inference_dir"), (28, "ckpt")):
        lines[position] = f"-o {flag}:null"
    (place.folder / "deploy").mkdir(exist_ok=True)
    (place.folder / "deploy/infer.py").write_text((place.folder / "infer.py").read_text())
    return jobs.train_infer(place.write("\n".join(lines)), MODE, None, place.environment)


def test_paddleclas_dialect_infers_from_deploy_over_its_lists(place):
    (place.folder / "deploy").mkdir()
    (place.folder / "deploy/a.jpg").write_text("")
    assert clas(place, mkldnn="True|False", threads="1|2", images="b.jpg", train_infer_img_dir="a.jpg") == 0
    infer = [call for call in place.calls() if call[0] == "infer.py"]
    assert len(infer) == 4
    assert infer[0][1:] == [
        "-o", f"Global.rec_inference_model_dir=../{RUN}/inference", "-o", "Global.infer_imgs=a.jpg",
        "-o", "Global.enable_mkldnn=True", "-o", "Global.cpu_num_threads=1",
    ]  # fmt: skip


def test_paddleclas_precisions_of_training(place):
    assert clas(place, autocast="null|amp|fp16", inference="null") == 0
    trained = [call for call in place.calls() if call[0] == "train.py"]
    assert [[word for word in call if word.startswith("amp=")] for call in trained] == [[], ["amp=O1"], ["amp=O2"]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kl_quant": "deploy/slim/quant.py"}, "quantised inference is not built here"),
        ({"infer_quant": "True"}, "quantised inference is not built here"),
        ({"trainer": "pact_train"}, r"\(pact_train\): must not be null"),
        ({"trainer": "to_static_train"}, "must not be null"),
        ({"autocast": "bf16"}, "known are null, amp"),
    ],
)
def test_what_is_not_built_is_an_error(place, values, message):
    with pytest.raises(UserError, match=message):
        clas(place, **values)
    assert place.calls() == []
