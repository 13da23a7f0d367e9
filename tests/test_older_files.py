"""Files that an older revision saved (tests/golden/revision_0_1) are loaded as they were."""

import shutil

import keras
import numpy as np
import pytest

import tfcredit
from tests.conftest import ROOT
from tfcredit import cli

OLD = ROOT / "tests" / "golden" / "revision_0_1"
RULES = {
    "conv2d": "calibrated_mirror",
    "conv2d_transpose": "product_feedback_alignment",
    "depthwise_conv2d": "soft_alignment",
    "separable_conv2d": "alignment",
    "einsum_dense": "weight_mirror",
    "dense": "l_drl",
    "dense_1": "frsf",
}


@pytest.mark.parametrize("load", [keras.models.load_model, tfcredit.models.load])
@pytest.mark.every(2)
def test_a_network_predicts_what_it_did_and_trains_on(load):
    network = load(OLD / "network.keras")
    stored = np.load(OLD / "network_output.npz")
    found = network.predict(stored["x"], verbose=0)
    np.testing.assert_allclose(found, stored["y"], rtol=1e-4, atol=1e-5)
    rules = {layer.name: layer.rule.name for layer in network.layers if hasattr(layer, "rule")}
    assert rules == RULES
    assert int(network.get_layer("conv2d")._step.value) == 2
    before = network.get_layer("dense").feedback_kernel.numpy()
    network.fit(stored["x"], np.arange(8) % 3, verbose=0)
    assert not np.array_equal(network.get_layer("dense").feedback_kernel, before)


@pytest.fixture
def run(tmp_path):
    shutil.copytree(OLD / "run", tmp_path / "run")
    return tmp_path / "run"


def test_a_run_is_evaluated_reported_and_goes_on(run, capsys):
    rows = (run / "metrics.csv").read_text()
    top1 = rows.splitlines()[-1].split(",")[rows.splitlines()[0].split(",").index("test_top1")]
    flags = [f"--flagfile={run / 'flags.txt'}", f"--run_dir={run}"]
    assert cli.train_main([*flags, "--mode=evaluate"]) == 0
    assert f"Step 4: test top-1 {float(top1):.4f}" in capsys.readouterr().out
    assert cli.main(["report", str(run), f"--output={run}.html"]) == 0
    assert cli.train_main([*flags, "--resume=must"]) == 0
    assert "Continuing at step 4" in capsys.readouterr().out
