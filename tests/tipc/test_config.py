"""Configuration files: positions, keys, first colons, modes, sections, and messages that name the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppcls.utils.errors import UserError
from test_tipc.runner.commands import fill, flag_words
from test_tipc.runner.config import parse, read_config
from test_tipc.runner.dialects import CLAS, LAYOUTS, ONNX_CLAS, SERVING_CLAS, TEMPLATE, TRAIN_CLAS, TRAIN_TEMPLATE
from test_tipc.runner.modes import MODES, TRAIN_MODES, check_mode, for_mode
from tests.tipc.conftest import ROOT, file_of
from tests.tipc.conftest import TEMPLATE as TOY

MODE = "lite_train_lite_infer"
SHIPPED = sorted((ROOT / "test_tipc/configs").rglob("*.txt"))
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1).filter(lambda t: t != "null")
NAMES = [f"{layout.kind}-{layout.dialect}" for layout in LAYOUTS]


def test_the_dialects_have_the_published_number_of_lines():
    assert [len(layout.slots) for layout in LAYOUTS] == [32, 52, 14, 14, 13, 16]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_are_valid_and_say_which_program_stands_where(path):
    config = read_config(path)
    assert config["model_name"].value and config["python"].value == "python"


@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
def test_every_wrong_key_is_named_with_its_line(layout):
    good = file_of(layout)
    assert parse("\n".join(good), "c.txt").layout is layout
    for number, _ in enumerate(layout.slots, 1):
        lines = [*good[: number - 1], "surprise:1", *good[number:]]
        with pytest.raises(UserError, match=rf"c\.txt, line {number}: expected .*; found: surprise:1"):
            parse("\n".join(lines), "c.txt")


@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
def test_a_file_that_ends_early_says_what_is_missing(layout):
    lines = file_of(layout)
    for count in range(1, len(lines)):
        with pytest.raises(UserError, match=rf"c\.txt ends after {count} of |c\.txt, line"):
            parse("\n".join(lines[:count]), "c.txt")


@given(TEXT, TEXT)
def test_a_value_is_everything_behind_the_first_colon(first, second):
    value = f"{first}:{second}"
    line = parse("\n".join(file_of(SERVING_CLAS, model_url=value)), "c.txt")["model_url"]
    assert line.value == value and line.number == 4


def test_urls_survive():
    config = parse("\n".join(file_of(ONNX_CLAS, model_url="https://host:8080/x.tar")), "c.txt")
    assert config["model_url"].at("paddle2onnx_infer") == "https://host:8080/x.tar"


@given(st.lists(st.tuples(st.sampled_from(MODES), st.from_regex(r"[\w./:, -]+", fullmatch=True)), min_size=1))
def test_a_mode_gets_its_own_value(pairs):
    value = "|".join(f"{mode}={text}" for mode, text in pairs)
    names = [mode for mode, _ in pairs]
    if len(set(names)) < len(names):
        with pytest.raises(UserError, match="twice"):
            for_mode(value, names[0], "line 1")
        return
    for mode, text in pairs:
        assert for_mode(value, mode, "line 1") == text
    for mode in {*TRAIN_MODES} - {*names}:
        with pytest.raises(UserError, match=f"line 1: no value for mode '{mode}'"):
            for_mode(value, mode, "line 1")


@given(st.from_regex(r"[\w./ -]+(\|[\w./ -]+)*", fullmatch=True))
def test_a_value_without_modes_is_the_same_in_all(value):
    assert {for_mode(value, mode, "line 1") for mode in MODES} == {value}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("lite_trian_lite_infer=2", r"line 6 \(--epochs\): unknown mode 'lite_trian_lite_infer'; did you mean"),
        ("lite_train_lite_infer=2|80", r"line 6 .*'80' names no mode"),
    ],
)
def test_wrong_modes_are_errors_when_the_file_is_read(value, message):
    with pytest.raises(UserError, match=message):
        parse("\n".join(file_of(TRAIN_TEMPLATE, epochs=value)), "c.txt")


def test_a_benchmark_takes_the_sizes_of_the_lite_chain():
    assert for_mode("lite_train_lite_infer=2|benchmark_train=7", "benchmark_train", "") == "7"
    assert for_mode("lite_train_lite_infer=2", "benchmark_train", "") == "2"


@pytest.mark.parametrize("mode", ["klquant_whole_infer", "lite", ""])
def test_modes_that_no_script_runs(mode):
    with pytest.raises(UserError, match="MODE '"):
        check_mode(mode, TRAIN_MODES)


def test_lists_and_null():
    config = parse("\n".join(file_of(TRAIN_CLAS, threads="1|6", mkldnn="True|null", use_gpu="")), "c.txt")
    assert config["threads"].items(MODE) == ["1", "6"]
    assert config["mkldnn"].items(MODE) == ["True", None]
    assert config["use_gpu"].value is None and config["use_gpu"].items(MODE) == [None]


def test_the_two_dialects_are_told_apart():
    assert parse("\n".join(file_of(TRAIN_CLAS)), "c.txt").layout.dialect == CLAS
    assert parse("\n".join(file_of(TRAIN_TEMPLATE)), "c.txt").layout.dialect == TEMPLATE


def test_blank_lines_windows_endings_and_a_byte_order_mark_do_not_count(tmp_path):
    lines = file_of(TRAIN_TEMPLATE, epochs="3")
    lines[4:4] = ["", "   "]
    path = tmp_path / "c.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    epochs = read_config(path, "train_params")["epochs"]
    assert (epochs.value, epochs.number) == ("3", 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no configuration file"),
        (b"", "line 1: expected a banner"),
        (b"\x00\xff\xfe\x80", "cannot be read as text"),
        (b"model_name:AGD\n", "line 1: expected a banner"),
        ("\n".join(file_of(SERVING_CLAS)).encode(), "line 1: this script needs train_params, the file holds serving"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, content, message):
    path = tmp_path / "c.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_config(path, "train_params")


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("batch_size:3", "line 33: superfluous line"),
        ("=====after_prams=====", "line 33: unknown section 'after_prams'; did you mean 'after_params'"),
        ("=====after_params=====\n--flag:1", "line 34 .*: expected the name of a stage"),
        ("=====after_params=====\na:b.py\nc:d.py", r"line 35 \(c\): expected a flag"),
        ("=====more_params=====\nmore:infrence\n--x:1", "line 34 .*did you mean 'inference'"),
        ("=====more_params=====\ninference:x.py", "line 34 .*expected 'more:'"),
        ("=====train_benchmark_params=====\nbatchsize:8", "line 34 .*did you mean 'batch_size'"),
        ("=====before_params=====\na:b.py\n=====before_params=====\na:b.py", "twice"),
    ],
)
def test_mistakes_in_the_sections_at_the_end(tail, message):
    with pytest.raises(UserError, match=message):
        parse("\n".join([*file_of(TRAIN_TEMPLATE), tail]), "c.txt")


def test_sections_hold_stages_and_flags():
    config = parse(TOY, "c.txt")
    (task1,) = config.blocks("before_params")
    assert task1.name == "task1" and [line.key for line in task1.flags] == ["--steps"]
    assert config.blocks("prepare_params") == ()


def test_flags_become_arguments_and_nothing_is_expanded():
    assert flag_words("--steps", "0 20", "") == ["--steps", "0", "20"]
    assert flag_words("--use-gpu", "True", "") == ["--use-gpu"]
    assert flag_words("--use-gpu", "False", "") == ["--no-use-gpu"]
    assert flag_words("-o use_gpu", "False", "") == ["-o", "use_gpu=False"]
    assert flag_words("-o Global.epochs", "3", "") == ["-o", "Global.epochs=3"]
    assert flag_words("--opt op.reid.devices", "0", "") == ["--opt", "op.reid.devices:0"]
    assert flag_words(None, "3", "") == flag_words("--x", None, "") == []
    assert flag_words("--x", "'a b' $HOME `id` *;", "") == ["--x", "a b", "$HOME", "`id`", "*;"]
    with pytest.raises(UserError, match="line 3: no closing quotation"):
        flag_words("--x", "'a b", "line 3")


def test_places_are_filled_and_unknown_ones_named():
    assert fill(["{run}/x", "--a={run}{run}", "{1}"], {"run": "r"}, "") == ["r/x", "--a=rr", "{1}"]
    with pytest.raises(UserError, match=r"line 9: unknown place '\{rum\}'; did you mean 'run'"):
        fill(["{rum}"], {"run": "r", "model": "m"}, "line 9")


def test_the_seeds_file_with_stages_left_out_is_read():
    """The first Paddle port ships 32 lines whose export and inference are null."""
    lines = file_of(TRAIN_TEMPLATE, model_name="AGD", python="python3.7", gpu_list="0", trainer="norm_train")
    config = parse("\n".join(lines), "c.txt")
    assert config["norm_export"].value is None and config["inference"].value is None
    assert Path(config.path).name == "c.txt"
