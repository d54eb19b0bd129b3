"""The planner: which stages, in which order, with which options."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ppcls.configs.lifelong import LifelongOptions
from ppcls.configs.schema import FinetuneOptions, IncrementalOptions, InversionOptions, NetOptions, TrainOptions
from ppcls.engine.stream.plan import describe, plan_stream, task_names
from ppcls.utils.errors import UserError

TASKS = ["msmt17", "market", "duke"]


def plan(**changes):
    return plan_stream(LifelongOptions(**{"tasks": TASKS, "logs_dir": "L", **changes}), 7)


def names(stages):
    return [stage.name for stage in stages]


def test_three_tasks_with_dreams():
    stages = plan()
    assert [(s.name, s.kind, s.inputs) for s in stages] == [
        ("task1-msmt17", "train", ()),
        ("evaluation-1", "evaluate", ("task1-msmt17",)),
        ("dreams-1", "dream", ("task1-msmt17",)),
        ("task2-market", "increment", ("task1-msmt17", "dreams-1")),
        ("evaluation-2", "evaluate", ("task2-market",)),
        ("dreams-2", "dream", ("task2-market",)),
        ("task3-duke", "increment", ("task2-market", "dreams-2")),
        ("evaluation-3", "evaluate", ("task3-duke",)),
    ]
    assert [s.parts for s in stages if s.kind == "evaluate"] == [tuple(TASKS[:t]) for t in (1, 2, 3)]


def test_the_first_task_has_the_defaults_of_main_and_the_others_those_of_main_incremental():
    first, later = plan()[0].options, plan()[3].options
    own = {"logs_dir", "resume", "seed", "evaluate", "dataset"}
    assert first.model_dump(exclude=own) == TrainOptions().model_dump(exclude=own)
    own |= {"previous", "inversion_dir", "algo_config", "peers", "save_freq"}
    own |= set(NetOptions.model_fields)  # a stream says them for all its tasks
    assert later.model_dump(exclude=own) == IncrementalOptions().model_dump(exclude=own)
    assert (first.dataset, later.dataset, first.seed, later.seed) == ("msmt17", "market", 7, 7)
    assert (later.previous, later.inversion_dir) == ("L/task1-msmt17", "L/dreams-1")
    assert (later.algo_config, later.peers, first.peers) == ("inverXion", 2, 1)


def test_dreams_have_the_published_settings_and_own_keys():
    defaults = InversionOptions()
    dream = plan(dream={"r_feature": 0.5}, steps=(4, 3), height=64)[2].options
    assert (dream.teacher, dream.generation_dir, dream.seed) == ("L/task1-msmt17", "L/dreams-1", 7)
    assert (dream.shots, dream.steps, dream.height, dream.r_feature) == (40, (4, 3), 64, 0.5)
    assert (dream.lr, dream.bs, dream.tv_l2) == (defaults.lr, defaults.bs, defaults.tv_l2)


def test_finetuning_needs_no_dreams_and_is_one_view():
    stages = plan(algo_config="finetune")
    assert [s.kind for s in stages] == ["train", "evaluate", "finetune", "evaluate", "finetune", "evaluate"]
    assert type(stages[2].options) is FinetuneOptions and stages[2].options.peers == 1
    assert stages[4].inputs == ("task2-market",)


def test_an_algorithm_without_dreams_does_not_dream():
    assert [s.kind for s in plan(algo_config="LwF")][:3] == ["train", "evaluate", "increment"]
    assert plan(algo_config="LwF")[2].inputs == ("task1-msmt17",)


def test_views_as_asked():
    assert [plan(peers=3, first_peers=2)[k].options.peers for k in (0, 3)] == [2, 3]
    assert plan(algo_config="sim-res-triangle")[3].options.peers == 1


def test_images_go_once_they_are_dreamed_and_before_the_next_task():
    stages = plan(earlier_data="delete")
    assert names(stages)[2:5] == ["dreams-1", "deleted-images-1", "task2-market"]
    assert names(stages)[6:9] == ["dreams-2", "deleted-images-2", "task3-duke"]
    assert len(stages) == 10  # the last task's images are not earlier data
    assert (stages[3].options.dataset, stages[3].options.still_needed) == ("msmt17", ["market", "duke"])


def test_dreams_go_once_the_next_task_is_evaluated():
    stages = plan(earlier_data="delete-dreams")
    assert names(stages)[3:6] == ["task2-market", "evaluation-2", "deleted-dreams-1"]
    assert names(stages)[-1] == "deleted-dreams-2"
    assert stages[5].options.folder == "L/dreams-1" and stages[5].options.dataset is None


def test_unseen_domains_and_the_untrained_network():
    stages = plan(evaluate_unseen=True)
    assert names(stages)[:3] == ["task0-untrained", "evaluation-0", "task1-msmt17"]
    assert all(s.parts == tuple(TASKS) for s in stages if s.kind == "evaluate")


def test_one_task_is_trained_and_evaluated():
    assert names(plan(tasks=["duke"], earlier_data="delete")) == ["task1-duke", "evaluation-1"]


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 6),
    algo=st.sampled_from(["inverXion", "finetune", "LwF"]),
    data=st.sampled_from(["keep", "delete", "delete-dreams"]),
    unseen=st.booleans(),
)
def test_every_stage_reads_only_what_is_there(count, algo, data, unseen):
    tasks = [f"d{i}" for i in range(count)]
    stages = plan(tasks=tasks, algo_config=algo, earlier_data=data, evaluate_unseen=unseen)
    assert len(set(names(stages))) == len(stages)
    there, gone = set(), set()
    for stage in stages:
        assert set(stage.inputs) <= there and not set(stage.inputs) & gone
        there.add(stage.name)
        gone |= {"dreams-" + stage.name[-1]} if stage.name.startswith("deleted-dreams") else set()
    for task in range(1, count + 1):
        evaluation = next(s for s in stages if s.name == f"evaluation-{task}")
        assert set(evaluation.parts) >= set(tasks[:task]) and evaluation.inputs[0].startswith(f"task{task}-")


def test_settings_hold_what_enters_the_result_and_nothing_else():
    def settings_of(**changes):
        return [stage.settings for stage in plan(**changes)]

    free = {"logs_dir": "M", "data_root": "x", "workers": 0, "gpu": ["cpu"], "save_minutes": 1, "print_freq": 9}
    assert settings_of(**free) == settings_of()
    for change in ({"re": 0.1}, {"epochs": 50}, {"shots": 3}, {"algo": {"distillation": {"factor": 9}}}):
        assert settings_of(**change) != settings_of()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": []}, "--tasks is missing"),
        ({"tasks": ["duke", "market", "duke"]}, "duke is named twice"),
        ({"tasks": ["duke", " "]}, "empty"),
        ({"epochs_decay": [5], "warmup": 7}, "--epochs-decay"),
    ],
)
def test_impossible_options(changes, words):
    with pytest.raises(ValidationError, match=words):
        plan(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"algo_config": "inverion"}, "inverXion"),
        ({"algo": {"method": "augmentd"}}, "augmented"),
        ({"first_epochs_decay": [5]}, "task 1 .*--first"),
        ({"dream": {"teacher": "x"}}, "dream.teacher is set by the stream"),
        ({"dream": {"r_featur": 1}}, "r_feature"),
        ({"evaluation": {"metric": "manhattan"}}, "evaluation"),
        ({"evaluation": {"depth": 18}}, "evaluation.depth"),
    ],
)
def test_impossible_plans(changes, words):
    with pytest.raises(UserError, match=words):
        plan(**changes)


def test_names_are_short_and_distinct():
    assert task_names(["market", "folder:/data/shop a", "csv:lists/mine.csv", "duke+market"]) == [
        "market", "shop-a", "mine", "duke+market",
    ]  # fmt: skip
    assert task_names(["folder:/a/x", "duke", "folder:/b/x"]) == ["x-1", "duke", "x-3"]


def test_the_description_names_every_stage_and_its_state():
    stages = plan(earlier_data="delete")
    lines = describe(stages, {"task1-msmt17": "done"}).splitlines()
    assert len(lines) == len(stages) + 1
    assert "task1-msmt17" in lines[1] and " done " in lines[1] and " to do " in lines[2]
    assert lines[4].endswith("DELETE the original training images of msmt17")
