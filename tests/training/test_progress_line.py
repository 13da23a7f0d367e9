"""The line that tells how a run goes."""

import io

import pytest

from tfcredit.training.progress_line import WIDTH, ProgressLine

LOGS = {"loss": 7.0, "task_loss": 2.345678, "top1": 0.12345, "l2_loss": 0.0, "step": 20}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def line(file, total=40, epoch=10, left=3723.0, angle=45.25):
    made = ProgressLine(total, epoch, lambda steps: left, lambda: angle, file)
    made.on_train_begin()
    made.on_epoch_begin(1)
    return made


def test_an_epoch_is_one_line():
    file = io.StringIO()
    made = line(file)
    made.on_train_batch_end(8, LOGS)
    assert file.getvalue() == ""
    made.on_epoch_end(1, LOGS | {"test_top1": 0.4711, "test_loss": 3.0})
    expected = "Epoch 2/4  loss 2.346  top-1 0.1235  test 0.4711  angle 45.2  1:02:03 left\n"
    assert file.getvalue() == expected


def test_steps_within_an_epoch():
    file = io.StringIO()
    made = line(file, angle=None, left=None)
    made.on_train_batch_end(4, {})
    made.on_log(LOGS)
    assert file.getvalue() == "Epoch 2/4  5/10  loss 2.346  top-1 0.1235\n"


@pytest.mark.parametrize(("loss", "told"), [(0.45, "0.4500"), (1843.2, "1843"), (2e9, "2.000e+09")])
def test_a_loss_has_four_digits(loss, told):
    file = io.StringIO()
    line(file).on_epoch_end(1, {"task_loss": loss})
    assert f"loss {told}  angle" in file.getvalue()


def test_a_terminal_has_the_line_at_every_moment():
    file = Terminal()
    made = line(file)
    made.on_train_batch_end(0, LOGS)
    made.on_log(LOGS)  # drawn already
    drawn = file.getvalue()
    assert drawn.count("\r") == 1 and "\n" not in drawn and "1/10" in drawn
    assert drawn.startswith("\rEpoch 2/4  1/10  loss") and len(drawn) == WIDTH + 1
    made.on_epoch_end(1, LOGS)
    assert file.getvalue().endswith("left" + " " * 17 + "\n") or "\n" in file.getvalue()
    assert len(file.getvalue().split("\r")[-1].rstrip("\n")) == WIDTH


def test_the_last_epoch_has_no_time_left():
    file = io.StringIO()
    made = line(file)
    made.on_epoch_begin(3)
    made.on_epoch_end(3, LOGS)
    assert "left" not in file.getvalue()


@pytest.mark.parametrize("epochs", [4, 100_000])
def test_no_line_is_longer_than_a_terminal(epochs):
    file = io.StringIO()
    made = line(file, total=5004 * epochs, epoch=5004, left=1e7, angle=178.9)
    logs = {"task_loss": 1.234e-12, "top1": 0.9999}
    made.on_epoch_begin(epochs - 2)
    made.on_train_batch_end(5003, logs)
    made.on_log(logs)
    made.on_epoch_end(epochs - 2, logs | {"validation_top1": 0.1234})
    lines = file.getvalue().splitlines()
    assert len(lines) == 2 and all(60 < len(each) <= WIDTH for each in lines)
    assert all("angle 178.9" in each and "115 d 17 h left" in each for each in lines)
