"""The table and the plan of a comparison."""

from pathlib import Path

import pytest

from ppcls.engine import comparison
from ppcls.engine.comparison import Runner, Settings, Stage
from ppcls.engine.comparison_report import forgotten, page, table


def run_of(old, new):
    return {"msmt17": {"mAP": old, "R1": old + 0.1}, "market": {"mAP": new, "R1": new + 0.1}}


FOUND = {
    "task1": [run_of(0.6, 0.2), run_of(0.5, 0.2)],
    "finetune": [run_of(0.3, 0.5), run_of(0.4, 0.5)],
    "AD": [run_of(0.5, 0.4), run_of(0.4, 0.5)],
}


def test_forgetting_is_paired_by_seed():
    assert forgotten(FOUND, "finetune", "msmt17", "mAP") == pytest.approx([0.3, 0.1])
    lines = table(FOUND, "msmt17", "market").splitlines()
    assert lines[2].startswith("| task 1 (msmt17 only) | 55.0 ± 7.1 | 65.0 ± 7.1 | 20.0 ± 0.0 |")
    assert lines[3].split(" | ")[5:7] == ["20.0 ± 14.1", "20.0 ± 14.1"]


def test_the_order_is_judged_by_the_figures():
    found = {**FOUND, "sim-res (GD)": FOUND["AD"], "res-triangle (GD)": FOUND["AD"], "joint": [run_of(0.3, 0.5)] * 2}
    text = page(found, Settings(), [1, 2], "machine", 60)
    assert "`finetune` < `sim-res (GD)`: +10.0 ± 14.1 points of mAP, in 1 of 2 seeds: undecided" in text
    assert "`AD` < `joint`: -15.0" in text and "NOT as published" in text


def test_every_stage_waits_for_what_it_reads(tmp_path):
    stages = comparison.plan(tmp_path, Settings(dream_shards=2), list(comparison.METHODS), [1, 2])
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names) == 1 + 2 * (2 + 2 + 2 * 8)
    for stage in stages:
        assert all(names.index(needed) < names.index(stage.name) for needed in stage.after)
    ad = next(stage for stage in stages if stage.name == "seed1/AD")
    assert ad.after == ("seed1/dreams-0", "seed1/dreams-1") and ad.tool == "main_incrementalX"


def test_cores_are_not_overbooked(tmp_path):
    stages = [Stage("a", "x", (), cores=2), Stage("b", "x", ()), Stage("c", "x", ()), Stage("d", "x", (), ("b",))]
    runner = Runner(Path(tmp_path), cores=2)
    assert [s.name for s in runner._startable(stages, [], set())] == ["a"]
    assert [s.name for s in runner._startable(stages[1:], [], set())] == ["b", "c"]
    assert [s.name for s in runner._startable(stages[2:], [stages[1]], {"b"})] == ["c"]
