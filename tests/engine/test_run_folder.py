"""Run folders lose nothing, and agree with the run that they continue."""

import pytest

from ppcls.engine.run_folder import RunFolder
from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger


def test_an_earlier_run_is_moved_aside(tmp_path):
    for seed in (1, 2, 3):
        run = RunFolder(tmp_path)
        run.start({"seed": seed})
        get_logger().info("run %d", seed)
        run.record({"kind": "train", "epoch": 1, "iteration": 1})
        run.save_state({"epoch": seed})
        run.close()
    assert "run 3" in (tmp_path / "log.txt").read_text()
    for number in (1, 2):
        earlier = tmp_path / f"earlier-{number}"
        assert f"run {number}" in (earlier / "log.txt").read_text()
        assert RunFolder(earlier).load_state()["epoch"] == number
        assert RunFolder(earlier).stored_options() == {"seed": number}


def test_resume_refuses_options_that_enter_the_weights(tmp_path):
    run = RunFolder(tmp_path)
    run.start({"seed": 1, "learning_rate": 0.01, "workers": 2})
    with pytest.raises(UserError, match=r"learning_rate is 0\.02 but the stopped run .* has 0\.01"):
        run.go_on({"seed": 1, "learning_rate": 0.02, "workers": 2})
    run.go_on({"seed": 1, "learning_rate": 0.01, "workers": 0})
    run.close()


def test_resume_refuses_other_inputs(tmp_path):
    run = RunFolder(tmp_path)
    run.start({}, {"previous": "aaaa", "dreamed": "bbbb"})
    run.close()
    RunFolder(tmp_path).check({}, {"previous": "aaaa", "dreamed": "bbbb"})
    with pytest.raises(UserError, match="dreamed is not what the stopped run"):
        RunFolder(tmp_path).check({}, {"previous": "aaaa", "dreamed": "cccc"})


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    first = RunFolder(tmp_path)
    first.start({"seed": 1})
    with pytest.raises(UserError, match="another process trains"):
        RunFolder(tmp_path).start({"seed": 2})
    assert first.stored_options() == {"seed": 1}
    first.close()
    second = RunFolder(tmp_path)
    second.start({"seed": 2})
    second.close()


def test_a_run_is_taken_over_without_loss(tmp_path):
    source, target = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    for run, number in ((source, 1), (target, 2)):
        run.start({"seed": number})
        run.save_state({"epoch": number})
        run.close()
    with pytest.raises(UserError, match="holds a run of its own"):
        target.take_over(source)
    assert target.load_state()["epoch"] == 2
    (tmp_path / "b" / "state.pdstate").unlink()
    target.take_over(source)
    target.close()
    assert target.load_state()["epoch"] == source.load_state()["epoch"] == 1
    assert RunFolder(tmp_path / "b" / "earlier-1").stored_options() == {"seed": 2}


def test_what_will_be_recorded_again_is_dropped(tmp_path):
    run = RunFolder(tmp_path)
    for epoch in (1, 2):
        for iteration in (1, 2, 3):
            run.record({"kind": "train", "epoch": epoch, "iteration": iteration})
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "train", "epo')  # a write that a kill cut off
    run.forget_after(2, 1)
    assert [(line["epoch"], line["iteration"]) for line in run.metrics()] == [(1, 1), (1, 2), (1, 3), (2, 1)]


def test_leftovers_of_a_killed_writer_go(tmp_path):
    left = tmp_path / ".state.abc.part.pdstate"
    left.write_bytes(b"half")
    run = RunFolder(tmp_path)
    run.start({})
    run.close()
    assert not left.exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder"):
        RunFolder(tmp_path / "file" / "run").start({})
