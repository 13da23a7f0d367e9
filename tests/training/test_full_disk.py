"""A disk that gets full at any change of a file: one sentence, exit code 2, nothing lost.

python -m pytest -m slow -s tests/training/test_full_disk.py    (ten minutes)
"""

import re

import pytest

from tests.training import disturbed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(disturbed.COMPILER is None, reason="needs a C compiler, for the shim"),
]
CASE = "measures"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The shim, what an undisturbed run leaves, and its kinds of operations."""
    folder = tmp_path_factory.mktemp("whole")
    library, log = disturbed.shim(folder), folder / "log"
    done = disturbed.run(folder / "run", CASE, library, log=log)
    assert done.returncode == 0, done.stdout
    kinds = {}
    for number, line in disturbed.phases(log):
        kind = re.sub(r"tempstate\d+|tfevents\.\d+\.\w+\.\d+", "", line)
        kind = re.sub(r"(best/)?.partial-ckpt-(?!0)\d+", ".partial-ckpt-N", kind)
        if line.split()[0] in ("open", "write", "fwrite", "mkdir"):
            kinds.setdefault(kind, number)
    return library, disturbed.contents(folder / "run"), kinds


@pytest.mark.parametrize("part", range(4))
def test_a_full_disk_is_told_and_nothing_is_lost(part, whole, tmp_path):
    library, expected, kinds = whole
    wrong = []
    for kind, number in list(kinds.items())[part::4]:
        folder = tmp_path / f"at{number}"
        done = disturbed.run(folder, CASE, library, number, "full")
        told = [line for line in done.stdout.splitlines() if line.startswith("run_imagenet.py: ")]
        print(f"{kind} ({number}): {done.returncode} {told}")
        said = f"{kind}: exit code {done.returncode}, {done.stdout[-3000:]}"
        if done.returncode == 0:
            # Python's own `mkdir` of what is there, and what takes no space, may go well.
            if disturbed.differences(disturbed.contents(folder), expected):
                wrong.append(said)
            continue
        if done.returncode != 2 or len(told) != 1 or "Traceback" in done.stdout:
            wrong.append(said)
        done = disturbed.run(folder, CASE)
        if done.returncode:
            wrong.append(f"{kind}: can't be continued: {done.stdout[-3000:]}")
        else:
            found = disturbed.differences(disturbed.contents(folder), expected)
            wrong += [f"{kind}: {line}" for line in found]
    assert not wrong, "\n".join(wrong)
