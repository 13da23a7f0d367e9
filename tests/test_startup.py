"""Commands start fast and quietly."""

import os
import platform
import resource
import subprocess
import sys

import pytest

from tests.pages import ROOT
from tfcredit import cli

SECONDS = 0.5
"""Of processor time that a help text may take."""
MAIN = "import sys; from tfcredit.cli import main; sys.exit(main(sys.argv[1:]))"
LISTED = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
HELP = [["--help"], *([name, "--help"] for name in cli.COMMANDS)]
# conftest.py sets this for the tests; users do not.
LOUD = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
LOUD |= {"PYTHONPATH": str(ROOT)}


def run(*command):
    """The output of a Python command, errors included."""
    done = subprocess.run(
        [sys.executable, *command],
        env=LOUD,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def processor_seconds(*command):
    def spent():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    run(*command)
    return spent() - before


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_needs_neither_tensorflow_nor_numpy(words):
    modules = run("-c", LISTED + MAIN, *words).splitlines()[-1].split()
    assert "tfcredit.cli" in modules
    assert not {"tensorflow", "keras", "numpy"} & set(modules)


@pytest.mark.parametrize(
    "command",
    [*(["-c", MAIN, *words] for words in HELP), [str(ROOT / "run_imagenet.py"), "--help"]],
    ids=[*map(" ".join, HELP), "run_imagenet.py"],
)
def test_help_is_fast(command):
    # The least of three, as other processes of the machine slow each of them.
    assert min(processor_seconds(*command) for _ in range(3)) <= SECONDS


def test_the_demo_opens_with_a_line_of_its_own(tmp_path):
    flags = [f"--flagfile={ROOT / 'configs' / 'demo.cfg'}", f"--run_dir={tmp_path / 'run'}"]
    output = run(str(ROOT / "run_imagenet.py"), *flags, "--model=fc", "--epochs=0.01")
    assert output.startswith("Data: ")
    assert not any(word in output for word in ("oneDNN", "absl", "I0000", "cpu_feature_guard"))


@pytest.mark.slow
def test_a_trial_of_a_search_starts_without_banners():
    code = (
        "from tfcredit.startup import import_tensorflow; import_tensorflow()\n"
        "from tfcredit.training.processes import CONTEXT\n"
        "child = CONTEXT.Process(target=print, args=('child',))\n"
        "child.start(); child.join()\n"
    )
    assert run("-c", code) == "child\n"


BLOCKS = """
import ctypes
import resource
import sys

from tfcredit.startup import keep_memory

PR_SET_THP_DISABLE = 41  # or a block has 32 pages on systems that use large ones always
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
kept = keep_memory() if sys.argv[1] == "keep" else None
b"x" * 2**26
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for size in range(10):
    b"x" * (2**26 - size)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver() < ("glibc", "2.35"), reason="needs glibc 2.35 or newer")
def test_commands_keep_freed_memory_but_where_the_user_states_how(monkeypatch):
    """64 MB are 16,384 pages; each is cleared once, or anew for every block."""
    names = [name for name in LOUD if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    for name in names:
        monkeypatch.delitem(LOUD, name)
    kept, faults = run("-c", BLOCKS, "keep").split()
    assert kept == "True" and int(faults) < 2000
    assert int(run("-c", BLOCKS, "").split()[1]) > 10 * 2000
    monkeypatch.setitem(LOUD, "MALLOC_MMAP_THRESHOLD_", "1000000")
    kept, faults = run("-c", BLOCKS, "keep").split()
    assert kept == "False" and int(faults) > 10 * 2000
