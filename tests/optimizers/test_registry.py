import keras
import pytest

from tfcredit import optimizers
from tfcredit.errors import UserError


def test_paper_names():
    plain, momentum = optimizers.get("sgd", 0.1), optimizers.get("momentum", 0.1)
    assert (plain.momentum, plain.nesterov) == (0.0, False)
    assert (momentum.momentum, momentum.nesterov) == (0.9, True)
    assert float(momentum.learning_rate) == pytest.approx(0.1)
    heavy = optimizers.get("Momentum", 1, momentum=0.5, nesterov=False, weight_decay=0.1)
    assert (heavy.momentum, heavy.nesterov, heavy.weight_decay) == (0.5, False, 0.1)


@pytest.mark.parametrize("name", optimizers.names())
def test_every_name(name):
    optimizer = optimizers.get(name, 0.125)
    assert isinstance(optimizer, keras.optimizers.Optimizer)
    assert float(optimizer.learning_rate) == 0.125
    assert type(optimizer).__name__.lower() == ("sgd" if name == "momentum" else name)


def test_schedule_as_rate():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    assert float(optimizers.get("adam", schedule).learning_rate) == 0.5


@pytest.mark.parametrize(
    ("name", "rate", "options", "message"),
    [
        ("momentun", 0.1, {}, "known are .*did you mean 'momentum'"),
        ("zzz", 0.1, {}, "Unknown optimizer 'zzz'"),
        (None, 0.1, {}, "Unknown optimizer None"),
        ("lossscaleoptimizer", 0.1, {}, "Unknown optimizer"),
        ("sgd", -0.1, {}, "learning_rate is -0.1"),
        ("sgd", float("nan"), {}, "learning_rate is nan"),
        ("sgd", "fast", {}, "learning_rate is 'fast'"),
        ("adam", 0.1, {"speed": 3}, "'adam' refuses"),
        ("adam", 0.1, {"clipnorm": 1.0, "clipvalue": 1.0}, "'adam' refuses"),
    ],
)
def test_bad_arguments(name, rate, options, message):
    with pytest.raises(UserError, match=message):
        optimizers.get(name, rate, **options)
