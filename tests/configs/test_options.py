"""Flags, YAML files and overrides: precedence, and errors that help."""

import argparse

import pytest

from ppcls.configs.algo import load_algo
from ppcls.configs.evaluation import EvaluateOptions
from ppcls.configs.options import add_flags, resolve
from ppcls.configs.schema import (
    AugmentedOptions,
    IncrementalOptions,
    InversionOptions,
    TrainOptions,
)
from ppcls.utils.errors import UserError

EVERY = [TrainOptions, IncrementalOptions, AugmentedOptions, InversionOptions, EvaluateOptions]


def parse(schema, text):
    return resolve(schema, add_flags(argparse.ArgumentParser(), schema).parse_args(text.split()))


def test_published_defaults():
    task1, task2 = TrainOptions(), IncrementalOptions()
    assert (task1.batch_size, task1.epochs, task1.epochs_decay, task1.warmup, task1.save_freq) == (
        128,
        90,
        [61],
        10,
        1000,
    )
    assert (task2.batch_size, task2.epochs, task2.epochs_decay, task2.warmup, task2.save_freq) == (64, 80, [41], 0, 100)
    assert (task1.learning_rate, task1.re, task1.re_area, task1.height, task1.width) == (0.01, 0.5, 0.4, 256, 128)
    assert task2.exemplars == 40 and AugmentedOptions().peers == 2
    dream = InversionOptions()
    assert (dream.bs, dream.shots, dream.steps, dream.lr, dream.r_feature) == (64, 10, (2000, 1000), 0.2, 0.01)
    assert (dream.first_bn_multiplier, dream.tv_l1, dream.tv_l2, dream.l2, dream.adi_scale) == (10, 0, 1e-4, 1e-5, 0)


def test_precedence(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("epochs: 20\nheight: 64\nwidth: 32\nepochs_decay: [15]\n")
    found = parse(TrainOptions, f"-c {path} --height 96 -o width=48")
    assert (found.epochs, found.height, found.width, found.batch_size) == (20, 96, 48, 128)


def test_the_published_spelling_of_epochs_is_not_ambiguous():
    assert parse(AugmentedOptions, "--epoch 80").epochs == 80


@pytest.mark.parametrize(
    ("schema", "text", "message"),
    [
        (TrainOptions, "-o epochz=3", "unknown key 'epochz'; did you mean 'epochs'"),
        (TrainOptions, "--epochs many", "epochs='many': input should be a valid integer"),
        (TrainOptions, "--epochs 0", "greater than or equal to 1"),
        (TrainOptions, "--depth 49", "18, 34, 50, 101"),
        (TrainOptions, "--depth 18 --embedding 2048", "embedding is 512"),
        (TrainOptions, "--depth 50 -e 512", "embedding is 2048"),
        (TrainOptions, "--epochs-decay 8", "must come after the 10 epochs of --warmup"),
        (TrainOptions, "--batch-size 30", "not a multiple of --instances 4"),
        (TrainOptions, "-o epochs", "expected KEY=VALUE"),
        (TrainOptions, "-o a=[1", "not YAML"),
        (TrainOptions, "-c nowhere.yaml", "no such configuration file"),
        (InversionOptions, "--shard 2 --num-shards 2", "must be below"),
        (InversionOptions, "--steps 5 0", "N2 ≥ 1"),
        (InversionOptions, "--adi_scale 1", "go together"),
    ],
)
def test_wrong_values_are_named(schema, text, message):
    with pytest.raises(UserError, match=message.replace("[", r"\[")) as caught:
        parse(schema, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["just words", "- a\n- b", "a: [1", "\t- :"])
def test_yaml_that_is_no_mapping(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        parse(TrainOptions, f"-c {path}")


def test_what_a_checkpoint_decides_is_not_asked_for():
    found = parse(AugmentedOptions, "--embedding 512")
    assert found.depth is None and found.embedding == 512  # checked against the stored network


def test_words_that_yaml_takes_for_something_else():
    assert parse(TrainOptions, "-o amp=off").amp == "off"
    for text in ("--learning-rate .inf", "--learning-rate nan", "--seed -5"):
        with pytest.raises(UserError):
            parse(TrainOptions, text)


def test_yaml_cannot_run_code(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("epochs: !!python/object/apply:os.system ['touch /dev/null']")
    with pytest.raises(UserError, match="not valid YAML"):
        parse(TrainOptions, f"-c {path}")


def test_algorithm_by_name_path_and_override():
    assert load_algo("inverXion").distillation.cross_factor == 0.9
    assert load_algo("ppcls/configs/res-triangle.yaml").distillation.type == "res-triangle"
    options = parse(AugmentedOptions, "-o algo.distillation.factor=4")
    changed = load_algo(options.algo_config, options.algo)
    assert (changed.distillation.factor, changed.distillation.type) == (4, "sim-res")
    with pytest.raises(UserError, match="did you mean 'factor'"):
        load_algo("inverXion", {"distillation": {"facto": 1}})
    with pytest.raises(UserError, match="one of: .*inverXion"):
        load_algo("invrXion")
    with pytest.raises(UserError, match="--algo-config is missing"):
        load_algo("")


@pytest.mark.parametrize("schema", EVERY)
def test_every_command_has_the_common_flags(schema):
    text = add_flags(argparse.ArgumentParser(), schema).format_help()
    for flag in ("--pretrained", "--height", "--width", "--seed", "--config", "--override", "--gpu", "--depth"):
        assert flag in text, flag


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", False),
        ("--re-ranking", True),
        ("--re-ranking=True", True),
        ("--re-ranking False", False),
        ("-r yes", True),
        ("--re-ranking=0", False),
        ("--re-ranking --no-re-ranking", False),
    ],
)
def test_switches_take_values_as_other_programs_write_them(text, value):
    assert parse(EvaluateOptions, text).re_ranking is value


@pytest.mark.parametrize(
    ("text", "message"),
    [("--re-ranking=maybe", "takes True or False, or no value, not 'maybe'"), ("--no-flip=True", "takes no value")],
)
def test_switches_with_other_values(text, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(EvaluateOptions, text)
    assert caught.value.code == 2 and message in capsys.readouterr().err
