"""The runner: resume, staleness, extension, deletion, on fake jobs and empty pictures."""

import fcntl
import json
import os
import shutil

import pytest

from ppcls.engine.checkpoint import CHECKPOINT
from ppcls.engine.stream import deletion as stream_deletion
from ppcls.engine.stream import report as stream_report
from ppcls.engine.stream import run_stream, show_plan
from ppcls.utils.errors import UserError
from tests.engine.stream_fakes import FakeWork, Killed, make_data, make_options

TASKS = ("msmt17", "market", "duke")
STAGES = [
    "task1-msmt17", "evaluation-1/msmt17", "dreams-1", "task2-market", "evaluation-2/msmt17", "evaluation-2/market",
    "dreams-2", "task3-duke", "evaluation-3/msmt17", "evaluation-3/market", "evaluation-3/duke",
]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data; the pictures of the report, which have their own tests, are not drawn."""
    make_data(tmp_path / "data", *TASKS)
    for name in ("matrix_heatmap", "curves"):
        monkeypatch.setattr(stream_report, name, lambda *args, **names: None)
    return tmp_path


def run(place, *tasks, work=None, **changes):
    work = work or FakeWork()
    return run_stream(make_options(place, *(tasks or TASKS), **changes), work), work.done


def report_of(place):
    return (place / "logs" / "report.json").read_bytes()


def test_all_stages_run_once_and_the_second_call_only_reports(place):
    report, done = run(place)
    assert done == STAGES
    written = report_of(place)
    assert [row[:t] for t, row in enumerate(json.loads(written)["matrices"]["mAP"], 1)] == [
        [report.matrices["mAP"][t, d] for d in range(t + 1)] for t in range(3)
    ]
    assert report.matrices["R1"][2, 0] == report.matrices["mAP"][2, 0] / 2 < 0.5
    again, done = run(place)
    assert done == [] and report_of(place) == written
    assert again.summary("mAP") == report.summary("mAP")
    assert {path.name for path in (place / "logs").iterdir()} >= {"report.md", "config.yaml", "log.txt"}


def test_a_stream_killed_in_any_stage_ends_the_same(place):
    run(place)
    whole = report_of(place)
    for name in ("task1-msmt17", "evaluation-1", "dreams-1", "task2-market", "evaluation-3", "dreams-2"):
        shutil.rmtree(place / "logs")
        with pytest.raises(Killed):
            run(place, work=FakeWork(kill_at=name))
        assert "started" in show_plan(make_options(place, *TASKS))
        _, done = run(place)
        assert set(done) < set(STAGES) or name == "task1-msmt17"
        assert report_of(place) == whole


def test_data_of_done_stages_may_be_gone(place):
    report, _ = run(place)
    shutil.rmtree(place / "data")
    assert run(place)[0].as_dict() == report.as_dict()


def test_other_options_are_an_error_before_any_work(place):
    run(place)
    with pytest.raises(UserError, match=r"task2-market was begun with other options \(epochs is 50, was 80\)"):
        run(place, epochs=50)
    with pytest.raises(UserError, match="dreams-1 .*shots is 5, was 2"):
        run(place, shots=5)
    with pytest.raises(UserError, match="task2-market .*it is to be 'finetune', was 'increment'"):
        run(place, algo_config="finetune")
    with pytest.raises(UserError, match="task2-market .*algorithm"):
        run(place, algo={"distillation": {"factor": 9}})


def test_an_option_that_the_project_did_not_have_then_had_its_default(place):
    run(place)
    path = place / "logs" / "task1-msmt17" / "stage.json"
    marker = json.loads(path.read_text())
    assert marker["settings"].pop("re_area") == 0.4
    path.write_text(json.dumps(marker))
    assert run(place)[1] == []
    with pytest.raises(UserError, match="re_area is 0.3, was 0.4"):
        run(place, re_area=0.3)


def test_a_started_stage_is_not_gone_on_with_under_other_options(place):
    with pytest.raises(Killed):
        run(place, work=FakeWork(kill_at="task2-market"))
    with pytest.raises(UserError, match="task2-market .*epochs is 70, was 80"):
        run(place, epochs=70, work=(work := FakeWork()))
    assert work.done == []


def test_a_changed_checkpoint_is_noticed(place):
    run(place)
    checkpoint = place / "logs" / "task1-msmt17" / CHECKPOINT
    before = checkpoint.read_text()
    checkpoint.write_text("another network")
    with pytest.raises(UserError, match="task1-msmt17 left .* was changed after its end"):
        run(place)
    checkpoint.write_text(before)
    run(place)


def test_later_stages_of_an_earlier_stage_made_anew_are_stale(place):
    run(place)
    later = [place / "logs" / name for name in ("evaluation-1", "dreams-1", "task2-market", "evaluation-2")]
    shutil.rmtree(place / "logs" / "task1-msmt17")
    with pytest.raises(UserError, match="evaluation-1 is stale: it was made from task1-msmt17 with digest"):
        run(place, first_epochs=70, work=(work := FakeWork()))
    assert work.done == ["task1-msmt17"]
    for folder in later:
        shutil.rmtree(folder)
    with pytest.raises(UserError, match="dreams-2 is stale"):
        run(place, first_epochs=70)


def test_an_earlier_stage_made_anew_the_same_changes_nothing(place):
    run(place)
    whole = report_of(place)
    shutil.rmtree(place / "logs" / "task1-msmt17")
    assert run(place)[1] == ["task1-msmt17"]
    assert report_of(place) == whole


def test_dreams_must_be_whole_until_they_are_learned_from(place):
    with pytest.raises(Killed):
        run(place, work=FakeWork(kill_at="task2-market"))
    victim = next((place / "logs" / "dreams-1").glob("0_*.jpg"))
    victim.unlink()
    with pytest.raises(UserError, match="dreams-1 left .* was changed"):
        run(place)
    victim.write_bytes(b"dream")
    run(place)
    victim.unlink()
    assert run(place)[1] == []


def test_a_stream_grows_but_does_not_change(place):
    run(place, "msmt17", "market")
    with pytest.raises(UserError, match="holds the stream msmt17 market, not market msmt17"):
        run(place, "market", "msmt17")
    assert run(place)[1] == STAGES[6:]
    with pytest.raises(UserError, match="--no-resume"):
        run(place, resume=False)


def test_unseen_domains_can_be_evaluated_later(place):
    run(place)
    report, done = run(place, evaluate_unseen=True)
    assert done == [
        "task0-untrained", *(f"evaluation-0/{task}" for task in TASKS),
        "evaluation-1/market", "evaluation-1/duke", "evaluation-2/duke",
    ]  # fmt: skip
    assert report.as_dict()["summary"]["mAP"]["forward_transfer"] is not None
    narrow, done = run(place)
    assert done == [] and narrow.as_dict()["matrices"]["mAP"][0][1:] == [None, None]


def test_a_drawn_seed_is_kept(place):
    first, _ = run(place, seed=None)
    again, done = run(place, seed=None)
    assert again.options["seed"] == first.options["seed"] is not None and done == []


def test_missing_data_stops_the_stream_before_it_starts(place):
    shutil.rmtree(place / "data" / "duke" / "query")
    with pytest.raises(UserError, match="duke"):
        run(place)
    assert not (place / "logs").exists()


def test_the_same_data_set_by_two_names(place):
    with pytest.raises(UserError, match="twice: market and Market1501"):
        run(place, "market", "duke", "Market1501")


def test_too_few_ids_are_noticed_before_anything_starts(place):
    make_data(place / "data", "cuhk03", ids=3)
    with pytest.raises(UserError, match="task2-cuhk03 cannot draw its batches.*largest batch size that fits is 12"):
        run(place, "msmt17", "cuhk03")
    with pytest.raises(UserError, match="task2-market needs 4 persons in a batch of dreamed.*tasks before it have 3"):
        run(place, "cuhk03", "market", first_batch_size=12)
    assert not (place / "logs").exists()


def test_two_processes_do_not_work_on_one_stream(place):
    (place / "logs").mkdir()
    handle = os.open(place / "logs", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another process"):
        run(place)
    os.close(handle)


def test_the_plan_is_shown_and_nothing_is_written(place):
    options = make_options(place, *TASKS, earlier_data="delete", dry_run=True)
    assert show_plan(options).count("to do") == 10
    assert not (place / "logs").exists()
    with pytest.raises(UserError, match="dry_run"):
        run_stream(options, FakeWork())


def images(place, name, split="bounding_box_train"):
    return sorted((place / "data" / name / split).glob("*.jpg"))


def test_original_images_go_only_with_agreement(place):
    with pytest.raises(UserError, match="will remove the original training images of msmt17; add --yes"):
        run(place, earlier_data="delete")
    assert not (place / "logs").exists()
    report, _ = run(place, earlier_data="delete", yes=True)
    assert [len(images(place, name)) for name in TASKS] == [0, 0, 8]
    assert all(len(images(place, name, split)) == 8 for name in TASKS for split in ("query", "bounding_box_test"))
    assert report.deleted[0] == {
        "what": "training images of msmt17", "files": 8, "bytes": 24, "kept": 0, "links": 0,
    }  # fmt: skip
    written = report_of(place)
    for name in ("msmt17", "market"):
        (place / "data" / name / "bounding_box_train").rmdir()
    run(place, earlier_data="delete")
    assert report_of(place) == written


def test_a_removal_killed_half_way_is_gone_on_with(place, monkeypatch):
    real = stream_deletion.Path.unlink
    calls = []

    def unlink(path, missing_ok=False):
        if path.parent.name == "bounding_box_train":
            calls.append(path)
            if len(calls) == 4:
                raise Killed
        real(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(stream_deletion.Path, "unlink", unlink)
        run(place, earlier_data="delete", yes=True)
    assert len(images(place, "msmt17")) == 5
    with pytest.raises(UserError, match="add --yes"):
        run(place, earlier_data="delete")
    late = place / "data" / "msmt17" / "bounding_box_train" / "0900_c1_1.jpg"
    late.write_bytes(b"put there meanwhile")
    report, _ = run(place, earlier_data="delete", yes=True)
    assert images(place, "msmt17") == [late]
    assert (report.deleted[0]["files"], report.deleted[0]["bytes"]) == (8, 24)


def test_what_other_tasks_need_is_kept(place):
    report, _ = run(place, "duke", "market+duke", "msmt17", earlier_data="delete", yes=True)
    assert [(entry["files"], entry["kept"]) for entry in report.deleted] == [(0, 8), (16, 0)]
    assert len(images(place, "duke")) == 0


def test_links_are_removed_but_not_what_they_point_to(place):
    image = images(place, "msmt17")[0]
    target = place / "precious.jpg"
    image.rename(target)
    image.symlink_to(target)
    report, _ = run(place, earlier_data="delete", yes=True)
    assert target.is_file() and not image.exists() and report.deleted[0]["links"] == 1


def test_images_of_a_table_are_removed_too(place):
    table = place / "mine.csv"
    rows = [
        f"{path},{path.name[:4]},{path.name[6]},{split}"
        for split, folder in (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test"))
        for path in images(place, "msmt17", folder)
    ]
    table.write_text("path,pid,camid,split\n" + "\n".join(rows))
    report, _ = run(place, f"csv:{table}", "duke", earlier_data="delete", yes=True)
    assert report.deleted[0]["files"] == 8 and not images(place, "msmt17")
    assert run(place, f"csv:{table}", "duke", earlier_data="delete", yes=True)[1] == []


def test_dreams_go_once_they_are_used(place):
    report, done = run(place, earlier_data="delete-dreams")
    assert done == STAGES
    assert [(entry["what"], entry["files"]) for entry in report.deleted] == [
        ("dreamed images in dreams-1", 2), ("dreamed images in dreams-2", 2),
    ]  # fmt: skip
    assert not list((place / "logs").glob("dreams-*/*.jpg"))
    assert len(images(place, "msmt17")) == 8
    assert run(place, earlier_data="delete-dreams")[1] == []
