"""Kills at chosen changes of files, Python's and TensorFlow's: a run goes on as if undisturbed.

python -m pytest -m slow -s tests/training/test_kills.py    (100 kills; half an hour)
"""

import random
import signal
import zlib

import pytest

from tests.training import disturbed

RUNS = 5
"""Of each case; each is killed up to 3 times."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(disturbed.COMPILER is None, reason="needs a C compiler, for the shim"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return disturbed.shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize("case", disturbed.CASES)
def test_kills_change_nothing(case, library, tmp_path):
    draw = random.Random(zlib.crc32(case.encode()))
    log = tmp_path / "log"
    done = disturbed.run(tmp_path / "whole", case, library, log=log)
    assert done.returncode == 0, done.stdout
    expected = disturbed.contents(tmp_path / "whole")
    operations = disturbed.phases(log)
    assert len(operations) > 100
    first = disturbed.spread(operations, RUNS, draw)
    wrong, kills = [], 0
    for number, (at, name) in enumerate(first):
        folder, story = tmp_path / f"run{number}", []
        for _ in range(3):
            action = draw.choice(["kill", "half"])
            done = disturbed.run(folder, case, library, at, action)
            story.append(f"{action} at {at} ({name})")
            if done.returncode != -signal.SIGKILL:
                break
            kills += 1
            at, name = draw.choice(operations[: 2 * len(operations) // 3])
            name = "of a continued run"
        done = disturbed.run(folder, case) if done.returncode else done
        if done.returncode:
            wrong += [*story, done.stdout]
        elif found := disturbed.differences(disturbed.contents(folder), expected):
            wrong += [*story, *found]
    print(f"{case}: {kills} kills in {RUNS} runs of {len(operations)} kinds of places")
    assert not wrong, "\n".join(wrong)
