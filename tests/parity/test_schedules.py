"""Learning-rate schedules against tables of the published schedulers."""

import numpy as np
import pytest

from ppcls.optimizer import lr_scheduler as lr


def assert_rates(actual, expected, rtol=1e-9):
    np.testing.assert_allclose(list(actual), expected, rtol=rtol)


@pytest.mark.parametrize("name", ["main", "softmax", "defaults", "constant"])
def test_strong_baseline(parity, name):
    data = parity("schedules")
    base, gamma, factor, warmup, linear, epochs, _, *milestones = data[f"sb_{name}_cfg"].tolist()
    method = "linear" if linear else "constant"
    rates = [
        lr.strong_baseline(epoch, base, milestones, gamma, int(warmup), factor, method)
        for epoch in range(1, int(epochs) + 1)
    ]
    assert_rates(rates, data[f"sb_{name}_lr"])


def test_strong_baseline_defaults_and_the_published_resume(parity):
    """The defaults are the published recipe. Its resume is one epoch ahead: epoch 6 gets the rate of epoch 7."""
    data = parity("schedules")
    assert_rates([lr.strong_baseline(epoch) for epoch in range(1, 121)], data["sb_main_lr"])
    assert_rates([lr.strong_baseline(epoch + 1) for epoch in range(6, 121)], data["sb_resume5_lr"])


@pytest.mark.parametrize("name", ["main", "fashion"])
def test_centroids_reid(parity, name):
    data = parity("schedules")
    base, gamma, warmup, epochs, *milestones = data[f"ctl_{name}_cfg"].tolist()
    rates = [lr.centroids_reid(epoch, base, milestones, gamma, int(warmup)) for epoch in range(int(epochs))]
    assert_rates(rates, data[f"ctl_{name}_lr"])


def test_step_decay_and_exponential(parity):
    data = parity("schedules")
    base, step, gamma, epochs = data["ali_cfg"].tolist()
    assert_rates([lr.step_decay(epoch, base, int(step), gamma) for epoch in range(int(epochs))], data["ali_lr"])
    assert_rates([lr.exponential(epoch, 0.5, 0.995) for epoch in range(50)], data["center_exp995_lr"])
    assert_rates([lr.exponential(epoch, 1e-4, 0.95) for epoch in range(50)], data["lossweight_exp95_lr"])


def test_cosine_with_delay(parity):
    data = parity("schedules")
    base, least, epochs, delay = data["cosine_delay_formula_cfg"].tolist()
    rates = [lr.cosine_delay(epoch, base, least, epochs, delay) for epoch in range(61)]
    assert_rates(rates, data["cosine_delay_formula_lr"])


@pytest.mark.parametrize("name", ["main", "nowarm", "alt"])
def test_cosine_with_delay_and_iteration_warmup(parity, name):
    data = parity("schedules")
    base, epochs, delay, least, warmup, factor, per_epoch = data[f"sbs_{name}_cfg"].tolist()
    per_epoch = int(per_epoch)
    rates = np.array(
        [
            lr.cosine_delay_iterations(i, per_epoch, base, least, int(epochs), int(delay), int(warmup), factor)
            for i in range(int(epochs) * per_epoch)
        ]
    )
    assert_rates(rates[::per_epoch], data[f"sbs_{name}_first_iter_lr"])
    assert_rates(rates[per_epoch - 1 :: per_epoch], data[f"sbs_{name}_last_iter_lr"])
    assert_rates(rates[:: int(data.get(f"sbs_{name}_iter_lr__step", 1))], data[f"sbs_{name}_iter_lr"])


@pytest.mark.parametrize("decay", ["cosine", "steps", "poly", "linear"])
def test_mindspore_tables(parity, decay):
    data = parity("schedules")
    first, last, most, warmup, epochs, per_epoch = data["ms_cfg_init_end_max_warm_total_spe"].tolist()
    total, warm = int(epochs * per_epoch), int(warmup * per_epoch)
    rates = [lr.mindspore(step, total, warm, decay, most, first, last) for step in range(total)]
    assert_rates(rates, data[f"ms_{decay}_lr"], 1e-6)


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="linear or constant"):
        lr.strong_baseline(1, method="quadratic")
    with pytest.raises(ValueError, match="unknown decay"):
        lr.mindspore(1, 10, 0, "quadratic")
