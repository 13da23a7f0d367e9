"""Damaged run directories and odd flags: one sentence, exit code 2, nothing overwritten."""

import contextlib
import errno
import io
import json
import os
import shutil
import sys

import keras
import pytest

from tfcredit import cli, records
from tfcredit.errors import UserError
from tfcredit.training.recipe import parse
from tfcredit.training.run import Run
from tfcredit.training.run_directory import RunDirectory

FLAGS = ["--model=fc", "--steps=3", "--batch_size=16", "--checkpoint_every_steps=1"]


def train(folder, *flags):
    """The exit code and what was said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = cli.train_main([*FLAGS, f"--run_dir={folder}", *flags])
    return code, said.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(folder, "--measures", "--measure_every_steps=2")[0] == 0
    return folder


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def text(name, content):
    return lambda run: (run / name).write_bytes(content)


def cut(name, bytes_less):
    def damage(run):
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[:-bytes_less])

    return damage


def folder_instead(name):
    def damage(run):
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()

    return damage


def file_instead(name):
    def damage(run):
        shutil.rmtree(run / name)
        (run / name).touch()

    return damage


def link_instead(name, to):
    def damage(run):
        is_folder = (run / name).is_dir()
        shutil.rmtree(run / name) if is_folder else (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(to)

    return damage


def pipe_instead(name):
    def damage(run):
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return damage


def no_checkpoints(pattern):
    def damage(run):
        for path in (run / "checkpoints").glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def all_checkpoints(content):
    def damage(run):
        for path in (run / "checkpoints").glob("ckpt-*"):
            path.write_bytes(content)

    return damage


def longer(run):
    """A checkpoint of a later step than the run's last."""
    for path in (run / "checkpoints").glob("ckpt-3.*"):
        shutil.copy(path, path.with_name(path.name.replace("ckpt-3", "ckpt-5")))


def unfinished(damage):
    """Also without what says that the run is finished."""

    def both(run):
        (run / "summary.json").unlink()
        damage(run)

    return both


# name -> damage, words that the sentence must hold
DAMAGES = {
    "table cut in a number": (unfinished(cut("metrics.csv", 3)), ["metrics.csv", "cut"]),
    "table is junk": (unfinished(text("metrics.csv", b"\0\xff junk\n")), ["metrics.csv"]),
    "table of words": (unfinished(text("metrics.csv", b"epoch,step\none,1\n")), ["metrics.csv"]),
    "table of one cell": (
        unfinished(text("metrics.csv", b"epoch,step\n1,1\n2\n")),
        ["metrics.csv"],
    ),
    "table counts down": (
        unfinished(text("metrics.csv", b"epoch,step\n2,2\n1,1\n")),
        ["metrics.csv", "count up"],
    ),
    "table without steps": (unfinished(text("metrics.csv", b"a\n1\n")), ["metrics.csv"]),
    "table of huge numbers": (
        unfinished(text("metrics.csv", b"epoch,step\n" + b"9" * 5000 + b",1\n")),
        ["metrics.csv"],
    ),
    "table is a folder": (folder_instead("metrics.csv"), ["metrics.csv", "no regular file"]),
    "table is a pipe": (pipe_instead("metrics.csv"), ["metrics.csv", "no regular file"]),
    "table is endless": (link_instead("metrics.csv", "/dev/zero"), ["metrics.csv"]),
    "measures cut": (unfinished(cut("measures.csv", 3)), ["measures.csv", "cut"]),
    "measures are junk": (unfinished(text("measures.csv", b"x\n1\n")), ["measures.csv"]),
    "measures are a folder": (folder_instead("measures.csv"), ["measures.csv"]),
    "flags are junk": (text("flags.txt", b"\0\xff\xfe"), ["flags.txt"]),
    "flags are words": (text("flags.txt", b"my notes\n"), ["flags.txt", "is no flag"]),
    "flags are empty": (text("flags.txt", b""), ["flags.txt", "empty"]),
    "flags are unknown": (text("flags.txt", b"--speed=9\n"), ["flags.txt", "speed"]),
    "flags out of range": (text("flags.txt", b"--steps=-1\n"), ["flags.txt", "--steps=-1"]),
    "flags read others": (text("flags.txt", b"--flagfile=/etc/passwd\n"), ["flags.txt", "no flag"]),
    "flags are huge": (text("flags.txt", b"--a=b\n" * 100_000), ["flags.txt", "long"]),
    "flags are a folder": (folder_instead("flags.txt"), ["flags.txt", "no regular file"]),
    "flags are a pipe": (pipe_instead("flags.txt"), ["flags.txt", "no regular file"]),
    "flags are endless": (link_instead("flags.txt", "/dev/zero"), ["flags.txt"]),
    "flags of another run": (text("flags.txt", b"--model=conv\n"), ["--model=conv, not fc"]),
    "flags are gone": (lambda run: (run / "flags.txt").unlink(), ["not empty", "no run"]),
    "events are a file": (file_instead("tensorboard"), ["tensorboard", "no folder"]),
    "checkpoints are a file": (file_instead("checkpoints"), ["checkpoints", "no folder"]),
    "best is a file": (file_instead("checkpoints/best"), ["best", "no folder"]),
    "images are junk": (unfinished(text("images.json", b"[1]")), ["images.json", "copy"]),
    "fingerprints are junk": (
        unfinished(text("images.json", b'{"fingerprints": 3}')),
        ["images.json", "copy"],
    ),
    "images are a pipe": (pipe_instead("images.json"), ["images.json", "no regular file"]),
    "summary is a folder": (folder_instead("summary.json"), ["summary.json"]),
    "model is a folder": (folder_instead("model.keras"), ["model.keras"]),
    "checkpoints emptied": (no_checkpoints("*"), ["no checkpoint", "nothing was touched"]),
    "indexes gone": (no_checkpoints("*.index"), ["no checkpoint", "nothing was touched"]),
    "data gone": (no_checkpoints("*.data-*"), ["no checkpoint", "nothing was touched"]),
    "checkpoints are junk": (all_checkpoints(b"junk"), ["no checkpoint", "nothing was touched"]),
    "a checkpoint of a longer run": (unfinished(longer), ["ckpt-5", "ends at step 3"]),
    "names of checkpoints are a folder": (
        folder_instead("checkpoints/checkpoint"),
        ["checkpoints/checkpoint", "no regular file"],
    ),
    "lock is a folder": (folder_instead("lock"), ["lock", "no regular file"]),
    "lock is a pipe": (pipe_instead("lock"), ["lock", "no regular file"]),
    "export is a file": (lambda run: (run / "export").touch(), ["export", "no folder"]),
    "divergence is a folder": (folder_instead("diverged.txt"), ["diverged.txt"]),
    **{
        f"{name} is a lost link": (link_instead(name, "nowhere"), [name, "leads nowhere"])
        for name in ("metrics.csv", "measures.csv", "steps.csv", "images.json", "summary.json")
        + ("model.keras", "tensorboard", "checkpoints", "checkpoints/best", "lock")
    },
    "checkpoints are a circle": (link_instead("checkpoints", "checkpoints"), ["leads nowhere"]),
    "steps are junk": (unfinished(text("steps.csv", b"\0\xff")), ["steps.csv"]),
    "steps count down": (
        unfinished(text("steps.csv", b"epoch,step\n1,2\n1,1\n")),
        ["steps.csv", "count up"],
    ),
    "checkpoints are zeros": (all_checkpoints(bytes(9999)), ["no checkpoint", "nothing was"]),
}


def content(run):
    """All that can be read, without the lock."""
    paths = [path for path in run.rglob("*") if path.is_file() and path.name != "lock"]
    return {path: path.read_bytes() for path in paths if not path.is_symlink()}


def check_refused(code, said, words, run, before):
    lines = [line for line in said.splitlines() if line.startswith("run_imagenet.py: ")]
    assert code == 2 and len(lines) == 1 and "Traceback" not in said, said
    for word in words:
        assert word in lines[0]
    assert content(run) == before


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_directory_is_told_and_left(name, run):
    damage, words = DAMAGES[name]
    damage(run)
    before = content(run)
    check_refused(*train(run, "--resume=auto", "--measures"), words, run, before)


SURVIVED = {
    "file 'checkpoint' gone": lambda run: (run / "checkpoints/checkpoint").unlink(),
    "file 'checkpoint' is junk": text("checkpoints/checkpoint", b"\0\xff"),
    "newest cut": cut("checkpoints/ckpt-3.data-00000-of-00001", 9),
    "newest index is a folder": folder_instead("checkpoints/ckpt-3.index"),
    "newest data are a folder": folder_instead("checkpoints/ckpt-3.data-00000-of-00001"),
    "newest data are a pipe": pipe_instead("checkpoints/ckpt-3.data-00000-of-00001"),
    "newest index gone": lambda run: (run / "checkpoints/ckpt-3.index").unlink(),
    "table gone": lambda run: (run / "metrics.csv").unlink(),
    "summary is junk": text("summary.json", b"{"),
    "progress is junk": text("progress.json", b"[1"),
    "events are junk": lambda run: (run / "tensorboard/events.out.tfevents.1").write_bytes(
        b"x" * 99
    ),
    "an event is cut": lambda run: cut(next((run / "tensorboard").iterdir()), 5)(run),
}


@pytest.mark.every(6)
@pytest.mark.parametrize("name", SURVIVED)
def test_a_run_goes_on_without_what_it_can_spare(name, run):
    unfinished(SURVIVED[name])(run) if name != "summary is junk" else SURVIVED[name](run)
    code, said = train(run, "--resume=auto")
    assert code == 0 and "Continuing at step" in said, said
    assert json.loads((run / "summary.json").read_text())["step"] == 3
    if name.startswith("newest cut"):
        assert "ckpt-3 is damaged" in said and "Continuing at step 2" in said


def test_a_kill_before_the_progress_ends_leaves_a_finished_run(run):
    summary = (run / "summary.json").read_bytes()
    text("progress.json", b"{}")(run)
    assert train(run, "--resume=auto")[0] == 0
    assert not (run / "progress.json").exists()
    assert (run / "summary.json").read_bytes() == summary


SUMMARIES = {
    "top1": ["high", None, True, [1], 1e400],
    "step": [3.0, True, "3", None],
    "angles": [5, None, [], {"a": "x"}, {"a": None}],
    "mean_angle": ["x", []],
    "data": [{}, None],
    "validation_top1": ["x", None],
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_summary_of_other_types_counts_as_none(name, run):
    directory = RunDirectory(run)
    whole = json.loads(directory.summary.read_text())
    assert directory.finished(3) == whole
    directory.write_json(directory.summary, whole | {"mean_angle": float("nan")})
    assert directory.finished(3) is not None
    for value in SUMMARIES[name]:
        directory.write_json(directory.summary, whole | {name: value})
        assert directory.finished(3) is None


def test_a_table_cut_anywhere_loses_no_digit(run):
    """It is refused, or all that is left of it are whole rows."""
    directory = RunDirectory(run)
    tables = ((directory.metrics, directory.rows), (directory.measures, directory.measured))
    for table, read in tables:
        whole, content = read(3), table.read_bytes()
        for length in range(0, len(content), 5):
            table.write_bytes(content[:length])
            with contextlib.suppress(UserError):
                found = read(3)
                assert found == whole[: len(found)]


def test_the_runs_own_flags_evaluate_and_export_it(run, capsys):
    for mode in ("evaluate", "export"):
        assert cli.train_main([f"--run_dir={run}", f"--mode={mode}"]) == 0
        capsys.readouterr()
        assert cli.train_main([f"--run_dir={run}", f"--mode={mode}", "--model=conv"]) == 2
        assert "--model=fc, not conv" in capsys.readouterr().err


def test_a_finished_run_is_left_as_it_is(run):
    before = content(run)
    assert train(run, "--resume=auto")[0] == 0
    assert content(run) == before


def test_overwriting_deletes_links_and_not_what_they_lead_to(run, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis").touch()
    (run / "link").symlink_to(tmp_path / "other")
    (run / "broken").symlink_to(tmp_path / "nowhere")
    assert train(run, "--overwrite")[0] == 0
    assert (tmp_path / "other" / "thesis").exists()
    assert not (run / "link").is_symlink() and not (run / "broken").is_symlink()


def test_checkpoints_of_another_rule_are_named(run):
    flags = run / "flags.txt"
    flags.write_text(flags.read_text().replace("--rule=info_alignment", "--rule=kolen_pollack"))
    lines = [x for x in flags.read_text().splitlines() if "feedback_" not in x]
    flags.write_text("\n".join(lines) + "\n")
    (run / "summary.json").unlink()
    code, said = train(run, "--resume=auto", "--rule=kolen_pollack")
    assert code == 2 and "of another network, rule or optimizer" in said, said


def circle(folder):
    (folder / "x").symlink_to("x")
    return "x"


def lost(folder):
    (folder / "x").symlink_to("nowhere")
    return "x"


PATHS = {
    "a circle of links": (circle, "can't be reached (Too many levels"),
    "a long name": (lambda folder: "x" * 300, "can't be reached (File name too long"),
    "no text": (lambda folder: "x\udcff", "can't be reached (no name for a file)"),
    "a zero": (lambda folder: "x\0y", "can't be reached (no name for a file)"),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("flag", ["run_dir", "data_dir", "initial_weights"])
def test_paths_that_lead_to_no_file_are_told(flag, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make, told = PATHS[name]
    assert cli.train_main([*FLAGS, f"--{flag}={make(tmp_path)}"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if not path.is_symlink()]


def test_a_run_directory_that_is_a_lost_link_is_told(tmp_path):
    code, said = train(tmp_path / lost(tmp_path))
    assert code == 2 and "x is a link that leads nowhere" in said


@pytest.mark.parametrize("flag", ["--run_dir=~nobody-here/run", "--data_dir=~nobody-here"])
def test_an_unknown_home_is_told(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.train_main([*FLAGS, flag]) == 2
    assert "there is no user 'nobody-here'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["keras.json", "KERAS_BACKEND"])
@pytest.mark.parametrize("backend", ["jax", "torch", "numpy", "junk"])
def test_another_backend_is_told(name, backend, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    (tmp_path / "keras.json").write_text(json.dumps({"backend": backend}))
    if name == "KERAS_BACKEND":
        (tmp_path / "keras.json").write_text("junk")
        monkeypatch.setenv("KERAS_BACKEND", backend)
    for command in cli.COMMANDS:
        assert cli.main([command]) == 2
        error = capsys.readouterr().err
        assert f"Keras' backend is {backend!r}" in error and len(error.splitlines()) == 1


def test_a_directory_that_is_removed_meanwhile_is_told(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        shutil.rmtree(directory.path)
        with pytest.raises(UserError, match="run was moved or removed while it was in use"):
            directory.write(directory.flags, "")


MORE = [("removed", 1), ("moved", 1), ("removed", 3)]
MORE = [pytest.param(*each, marks=pytest.mark.slow) for each in MORE]


@pytest.mark.parametrize(("what", "at"), [("moved", 2), ("removed", 2), *MORE])
def test_a_directory_that_goes_while_a_run_trains_is_told(what, at, tmp_path, capsys):
    """At any step, so that another file of the run is the next one to be written."""
    folder = tmp_path / "run"

    class Mover(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == at - 1 and what == "moved":
                shutil.move(folder, tmp_path / "elsewhere")
            elif batch == at - 1:
                shutil.rmtree(folder)

    flags = [*FLAGS, f"--run_dir={folder}"]
    flags += ["--measures", "--measure_every_steps=1"] if at == 3 else []
    with pytest.raises(UserError, match="run was moved or removed while it was in use"):
        Run(parse(flags)[0], [Mover()]).train()
    assert not folder.exists()
    if (what, at) == ("moved", 1):
        code, said = train(tmp_path / "elsewhere", "--resume=auto")
        assert code == 0 and "Continuing at step" in said


class Disk:
    """Files whose next opening for writing fails, or whose writing does, as on a full disk."""

    opens: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @classmethod
    def see(cls, event, arguments):
        if event != "open" or not isinstance(arguments[0], str | os.PathLike):
            return
        path, name = os.fspath(arguments[0]), os.path.basename(arguments[0])
        is_writing = arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if is_writing and name in cls.opens:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if is_writing and name in cls.writes and os.path.isfile(path):  # it is made before
            os.unlink(path)
            os.symlink("/dev/full", path)


@pytest.fixture(scope="module")
def hook():
    """It can't be taken away again, so it is there once, and does nothing by itself."""
    sys.addaudithook(Disk.see)
    return Disk


@pytest.fixture
def disk(hook, monkeypatch):
    yield lambda kind, name: monkeypatch.setattr(hook, kind, (name,))
    hook.opens = hook.writes = ()


FULL = [("opens", "lock"), ("writes", ".partial-summary.json")]
FULL += [("opens", ".partial-metrics.csv"), ("writes", ".partial-measures.csv")]


@pytest.mark.every(2)
@pytest.mark.parametrize(("kind", "name"), FULL)  # test_full_disk.py tries all
def test_a_full_disk_is_told_and_the_run_goes_on(kind, name, disk, tmp_path):
    disk(kind, name)
    flags = ["--measures", "--measure_every_steps=2"] if "measures" in name else []
    code, said = train(tmp_path / "run", *flags)
    told = [line for line in said.splitlines() if line.startswith("run_imagenet.py: ")]
    assert code == 2 and len(told) == 1 and "No space left on device" in told[0], said
    assert not list(tmp_path.rglob(".partial-*"))
    if flags:
        disk(kind, "")
        code, said = train(tmp_path / "run", *flags, "--resume=auto")
        assert code == 0, said
        assert [row["step"] for row in records.read_csv(tmp_path / "run/metrics.csv")] == [3]
        rows = records.read_csv(tmp_path / "run/measures.csv")
        assert sorted({row["step"] for row in rows}) == [0, 2, 3] and len(rows) == 3 * 8
