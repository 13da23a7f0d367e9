"""The table of steps within epochs."""

import pytest

from tfcredit.errors import UserError
from tfcredit.records import read_csv
from tfcredit.training.run_directory import RunDirectory
from tfcredit.training.step_table import StepTable


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    return RunDirectory(tmp_path)


def test_means_are_of_the_steps_since_the_row_before(directory):
    losses, table = [1.0, 2.0, 6.0, 3.0, 5.0, 7.0], StepTable(directory, [], epoch_steps=4)

    def means(step):
        so_far = losses[(step - 1) // 4 * 4 : step]
        return table.means(step, {"loss": sum(so_far) / len(so_far)})["loss"]

    assert means(2) == 1.5 and means(4) == 4.5
    assert means(5) == 5.0 and means(6) == 7.0  # another epoch
    # A start from a row, where the rows before had other distances.
    table = StepTable(directory, [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}], 4)
    assert means(4) == 4.5
    table = StepTable(directory, [{"step": 2, "loss": 1.5}], 4)
    assert means(6) == 6.0  # it knows nothing of step 5


def test_r_counts_the_steps_in_which_it_acts(directory):
    table = StepTable(directory, [], epoch_steps=12, alignment_every=3)  # steps 0, 3, 6, 9
    assert table.means(2, {"alignment_loss": 4.0}) == {"alignment_loss": 4.0}
    assert table.means(3, {"alignment_loss": 4.0}) == {"alignment_loss": None}
    assert table.means(8, {"alignment_loss": 6.0}) == {"alignment_loss": 7.0}  # 4, 7 and 7


def test_a_row_is_written_behind_the_others(directory):
    table = StepTable(directory, [], epoch_steps=4)
    for step in (2, 4, 6):
        table.write({"epoch": 1, "step": step, "loss": None if step == 4 else 0.5})
    assert directory.logged(4) == [{"epoch": 1, "step": 2, "loss": 0.5}, {"epoch": 1, "step": 4}]
    assert directory.steps.read_bytes() == b"epoch,step,loss\r\n1,2,0.5\r\n1,4,\r\n"
    table.write({"epoch": 2, "step": 5, "loss": 1.0})
    assert [row["step"] for row in read_csv(directory.steps)] == [2, 4, 5]
    assert directory.logged(0) == [] and not directory.steps.exists()


@pytest.mark.parametrize("cut", ["epoch,st", "epoch,step\r\n1,", ""])
def test_what_a_kill_cut_is_left_out(cut, directory):
    directory.steps.write_text(cut)
    assert directory.logged(9) == []
    StepTable(directory, [], epoch_steps=4).write({"epoch": 1, "step": 2})
    assert read_csv(directory.steps) == [{"epoch": 1, "step": 2}]


@pytest.mark.parametrize("junk", [b"\xff\n", b"step\nx\n", b"step\n2\n1\n", b"epoch\n1\n"])
def test_a_damaged_table_is_refused(junk, directory):
    directory.steps.write_bytes(junk)
    with pytest.raises(UserError, match="steps.csv"):
        directory.logged(9)
    assert directory.steps.read_bytes() == junk
