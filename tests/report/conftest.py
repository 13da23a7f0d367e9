import pytest

from tfcredit import cli

SMALL = ["--model=fc", "--batch_size=1000", "--learning_rate=0.02", "--epochs=2"]


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    """A folder with two runs, `mirror` and `plain`."""
    folder = tmp_path_factory.mktemp("runs")
    for name, rule in {"mirror": "calibrated_mirror", "plain": "backprop"}.items():
        flags = [*SMALL, f"--rule={rule}", f"--run_dir={folder / name}"]
        assert cli.main(["train", "--dataset=embedded", *flags]) == 0
    return folder
