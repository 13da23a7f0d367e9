"""Searches of several processes on one storage: SQLite, PostgreSQL and Optuna's gRPC proxy."""

import collections
import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from optuna.storages._grpc.server import make_server
from optuna.trial import TrialState

from tests.conftest import ROOT
from tests.search import servers
from tests.search.test_search import COMMAND, SMALL, SPACE
from tfcredit import cli
from tfcredit.errors import UserError
from tfcredit.search import storage, trials
from tfcredit.search.space import Parameter
from tfcredit.search.storage import Storage
from tfcredit.search.study import Study
from tfcredit.search.trials import BEAT, GRACE, Trials
from tfcredit.training.recipe import parse

PASSWORD = "hunter2"
TOTAL = 12
AMP = {"amp": Parameter(1e-4, 1e-2, log=True)}


@pytest.fixture(scope="module")
def database():
    """The URL of a PostgreSQL server; `None` without one."""
    if not servers.INSTALLED["postgresql"]:
        yield None
        return
    with servers.postgresql(PASSWORD) as url:
        yield url


@pytest.fixture(scope="module")
def mariadb():
    """The URL of a MariaDB server; `None` without one."""
    if not servers.INSTALLED["mariadb"]:
        yield None
        return
    with servers.mariadb(PASSWORD) as url:
        yield url


@pytest.fixture(scope="module")
def proxy():
    """The URL of Optuna's gRPC proxy of a storage in memory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ThreadPoolExecutor(10) as pool:
        server = make_server(optuna.storages.InMemoryStorage(), "127.0.0.1", port, pool)
        server.start()
        yield f"grpc://127.0.0.1:{port}"
        server.stop(0).wait()


def study_on(url, folder, *flags, name="tfcredit", **space):
    return Study(folder, parse([*SMALL, *flags])[0], space or AMP, None, Storage(url), name)


@pytest.fixture
def url(tmp_path):
    """Of a file."""
    return f"sqlite:///{tmp_path}/a {{file}}.sqlite"


# Processes forked from one that has imported all: three on each URL of argv train scripted trials
# together; the first one hangs in its first trial, where it is killed.
PROCESSES = """
import json, os, pathlib, signal, sys, time, traceback
from tests.search.scripted import Scripted
from tests.search.test_storage import AMP, TOTAL
from tfcredit.search import trials
from tfcredit.search.launcher import Launcher
from tfcredit.search.storage import Storage
from tfcredit.search.study import Study
from tfcredit.training import launcher
from tfcredit.training.recipe import Recipe

trials.BEAT, trials.GRACE, launcher.PATIENCE = 0.4, 6.0, 0.4  # of a machine that is busy

class Slow(Scripted):
    hangs = None

    def hear(self):
        if self.hangs:
            self.hangs.write_text(self.folder.path.name)
            time.sleep(600)
        time.sleep(0.01)
        return super().hear()

def search(url, folder):
    Slow.scripts = {n: [([0.1 + n / 100], "finished")] for n in range(TOTAL)}
    study = Study(folder, Recipe(rule="weight_mirror", model="fc"), AMP, None, Storage(url))
    study.check()
    with study.opened():
        while not (Slow.hangs or (folder.parent / "hangs").exists()):
            time.sleep(0.01)
        assert Launcher(study, TOTAL, 2).run()
        study.write_results()
    folder.with_suffix(".json").write_text(json.dumps(Slow.started))

def fork(url, folder, hangs):
    child = os.fork()
    if child:
        return child
    try:
        Slow.hangs = hangs
        search(url, folder)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

launcher.RunProcess = Slow
children = {}
for url, folder in json.loads(sys.argv[1]).items():
    folder = pathlib.Path(folder)
    folder.mkdir()
    hangs = folder / "hangs"
    children[hangs] = [fork(url, folder / f"machine{i}", None if i else hangs) for i in range(3)]
for hangs, (first, *_) in children.items():
    while not hangs.exists():
        assert not os.waitpid(first, os.WNOHANG)[0]
        time.sleep(0.01)
    os.kill(first, signal.SIGKILL)
for hangs, each in children.items():
    codes = [os.waitpid(child, 0)[1] for child in each]
    assert codes == [signal.SIGKILL, 0, 0], (hangs, codes)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory, database, proxy):
    """Kind of storage -> the folder with those of its machines; and what they printed."""
    root = tmp_path_factory.mktemp("storages")
    urls = {"sqlite": f"sqlite:///{root}/a {{file}}.sqlite", "postgresql": database, "grpc": proxy}
    places = {kind: root / kind for kind, url in urls.items() if url}
    done = subprocess.run(
        [sys.executable, "-c", PROCESSES, json.dumps({urls[k]: str(p) for k, p in places.items()})],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    return places, done.stdout + done.stderr


def table(folder):
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "grpc"])
@pytest.mark.every(3)
def test_no_trial_is_lost_and_none_twice(kind, folders):
    places, output = folders
    if kind not in places:
        pytest.skip("needs apt-get install postgresql, and the extra `postgresql`")
    folder = places[kind]
    hung = int((folder / "hangs").read_text())
    started = [json.loads((folder / f"machine{i}.json").read_text()) for i in (1, 2)]
    # The trials of the killed process too, by one of the others.
    assert sorted(number for each in started for number in each) == [*range(TOTAL)]
    assert f"trial {hung}: no sign of life of {socket.gethostname()} for 6 s" in output
    assert f"trial {hung}, which another process began, starts again" in output
    tables = [table(folder / f"machine{i}") for i in (1, 2)]
    assert tables[0] == tables[1]
    expected = [(str(n), "finished", 0.1 + n / 100) for n in range(TOTAL)]
    assert [(r["trial"], r["outcome"], float(r["top1"])) for r in tables[0]] == expected
    assert len({row["amp"] for row in tables[0]}) == TOTAL
    best = (folder / "machine1" / "best.cfg").read_text()
    assert best.startswith(f"# Trial {TOTAL - 1} of {TOTAL}: test top-1 0.2100\n")


def test_a_password_is_in_no_file_and_no_message(folders):
    places, output = folders
    assert PASSWORD not in output
    for folder in places.values():
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) > TOTAL
        assert not [file for file in files if PASSWORD in file.read_text()]


@pytest.fixture
def two(url, tmp_path, monkeypatch):
    """Two processes' views of one study, and a function that lets time pass."""
    now = [0.0]
    monkeypatch.setattr(trials.time, "monotonic", lambda: now[0])

    def later(seconds, *others, own=()):
        """Time passes while the `others` show that they live; gives what `own` lost."""
        for _ in range(int(seconds / BEAT) + 1):
            now[0] += BEAT
            for each in others:
                each.beat(own)

    study = study_on(url, tmp_path / "a")
    with study.opened(), study.storage.connected() as own:
        other = optuna.load_study(study_name="tfcredit", storage=own)
        yield study.trials, Trials(other, own, alone=False), later


def never(number):
    return False


def test_a_trial_that_is_released_goes_on_elsewhere(two):
    one, other, _ = two
    first = one.claim(2, never)
    assert first.suggest_float("amp", 1e-4, 1e-2) > 0
    second = other.claim(2, never)
    assert (trials.number_of(first), trials.number_of(second)) == (0, 1)
    assert one.claim(2, never) is None and other.claim(2, never) is None
    one.release(first)
    again = other.claim(2, never)
    assert again.number == first.number and again.params == first.params
    assert set(one.elsewhere()) == {0, 1}


def test_a_trial_of_a_dead_process_is_tried_again(two):
    one, other, later = two
    first = one.claim(3, never)
    first.suggest_float("amp", 1e-4, 1e-2)
    later(GRACE - 2 * BEAT, other)
    assert other.claim(1, never) is None
    one.beat([first])  # late, but alive
    later(GRACE - 2 * BEAT, other)
    assert other.claim(1, never) is None
    later(4 * BEAT, other)
    assert other.claim(1, lambda number: number == 0) is None  # its run is still at work here
    again = other.claim(1, never)
    assert trials.number_of(again) == 0 and again.number != 0 and again.params == first.params
    # The process was not dead: it learns that the trial is none of its own any more.
    assert one.tell(first, 0.5) is None
    assert one.beat([first]) == [first]
    assert other.tell(again, 0.7).value == 0.7
    assert [trial.value for trial in one.ended()] == [0.7]


def test_a_process_that_was_away_judges_nobody_by_what_it_saw_before(two):
    one, other, later = two
    trial = one.claim(1, never)
    later(2 * BEAT, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials.time, "monotonic", lambda: 1e6)
        other.beat([])
    assert not other.claim(1, never) and one.tell(trial, 0.5).value == 0.5


def test_records_that_two_processes_add_at_once_are_one_trial(two):
    one, other, _ = two
    one._add(0, None)
    other._add(0, None)
    first = one.claim(2, never)
    assert first.number == 0
    assert trials.number_of(other.claim(2, never)) == 1
    assert one.claim(2, never) is None
    assert other.study.trials[1].state == TrialState.WAITING  # of no number that is left


def test_the_number_of_trials_may_shrink_and_grow(two):
    one, _, _ = two
    for value in (0.1, 0.2):
        one.tell(one.claim(4, never), value)
    assert one.claim(2, never) is None
    assert trials.number_of(one.claim(3, never)) == 2


# flags and space of another search -> words of the refusal
OTHERS = {
    "flags": (["--epochs=3", "--amp=0.5"], {}, ["--epochs=2.0, not 3.0", "--amp=None, not 0.5"]),
    "objective": (["--validation_examples=50"], {}, ["--validation_examples=None, not 50"]),
    "space": (
        ["--batch_size=500"],
        {"decay": Parameter(0.0, 1.0)},
        ["--batch_size=1000, not 500", "amp in", "decay in no range"],
    ),
}


@pytest.mark.parametrize(("flags", "space", "words"), OTHERS.values(), ids=OTHERS)
def test_another_search_is_refused_with_all_differences(flags, space, words, url, tmp_path):
    with study_on(url, tmp_path / "a").opened():
        pass
    study_on(url, tmp_path / "b").check()
    with pytest.raises(UserError) as told:
        study_on(url, tmp_path / "b", *flags, **space).check()
    assert all(word in str(told.value) for word in [*words, "--storage=sqlite", "--study_name"])
    assert not (tmp_path / "b").exists()
    with study_on(url, tmp_path / "b", *flags, name="other", **space).opened():
        pass  # a name for each


def test_studies_of_others_and_folders_of_other_studies(url, tmp_path):
    theirs = f"sqlite:///{tmp_path}/theirs.sqlite"
    optuna.create_study(storage=theirs, study_name="tfcredit").add_trial(
        optuna.trial.create_trial(value=1.0)
    )
    with pytest.raises(UserError, match="its study tfcredit is none of tfcredit.*--study_name"):
        study_on(theirs, tmp_path / "a").check()
    with study_on(url, tmp_path / "a").opened():
        pass
    for name, place in (("tfcredit", f"sqlite:///{tmp_path}/new.sqlite"), ("other", url)):
        with study_on(place, tmp_path / f"b {name}", name=name).opened():
            pass
        told = "a belongs to the study tfcredit in sqlite:.*--study_dir"
        with pytest.raises(UserError, match=told):
            study_on(place, tmp_path / "a", name=name).check()
    recipe, _ = parse(SMALL)
    with pytest.raises(UserError, match="a belongs to the study"):
        Study(tmp_path / "a", recipe, AMP).check()
    with Study(tmp_path / "own", recipe, AMP).opened():
        pass
    with pytest.raises(UserError, match="own holds a search of its own .study.db.*--study_dir"):
        study_on(url, tmp_path / "own").check()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds no search of tfcredit"):
        study_on(url, tmp_path / "c").check()


def test_a_study_that_a_killed_process_only_began_is_finished(url, tmp_path, monkeypatch):
    with study_on(url, tmp_path / "a").storage.connected() as own:
        optuna.create_study(storage=own, study_name="tfcredit", direction="maximize")
    monkeypatch.setattr("tfcredit.search.study.UNFINISHED", 0.0)
    study = study_on(url, tmp_path / "a")
    study.check()
    with study.opened():
        assert study.study.user_attrs["space"] == {"amp": AMP["amp"].stated()}


# URL -> words that the sentence must hold
MISTAKES = {
    "somewhere": ["--storage=somewhere is no URL", "postgresql://"],
    f"postgresql://me:{PASSWORD}@host:port/db": ["me:***@host", "is no URL"],
    f"oracle://me:{PASSWORD}@host/db": ["--storage=oracle://me:***@host/db", "no known kind"],
    f"postgresql://me:p@{PASSWORD}@host/db": ["as %40"],
    f"postgresql://me:p@{PASSWORD}@host:port/db": ["me:***@host", "is no URL"],
    "sqlite://": ["names no file"],
    "sqlite:///:memory:": ["names no file"],
    "grpc://host": ["grpc://HOST:PORT"],
    f"mysql+none://me:{PASSWORD}@host/db": ["mysql+none://me:***@host", "no known kind"],
}


@pytest.mark.parametrize("url", MISTAKES)
def test_a_mistake_is_one_sentence_before_any_file(url, tmp_path, capsys):
    command = ["search", *SMALL, f"--study_dir={tmp_path / 'study'}", f"--storage={url}"]
    assert cli.main(command) == 2
    told = capsys.readouterr().err
    assert told.startswith("tfcredit search: ") and told.count("\n") == 1
    assert all(word in told for word in MISTAKES[url]) and PASSWORD not in told
    assert not (tmp_path / "study").exists()


def test_a_name_belongs_to_a_storage(tmp_path, capsys):
    command = ["search", *SMALL, f"--study_dir={tmp_path / 'study'}", "--study_name=mine"]
    assert cli.main(command) == 2
    assert "--study_name=mine is the name of a study in --storage" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_file_that_cannot_be_made(tmp_path):
    with (
        pytest.raises(UserError, match="nowhere/a.sqlite can't be used .unable to open"),
        study_on("sqlite:////nowhere/a.sqlite", tmp_path / "study").opened(),
    ):
        pass
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        (f"postgresql://me:{PASSWORD}@host/db", "psycopg", "postgresql"),
        (f"mariadb://me:{PASSWORD}@host/db", "pymysql", "mysql"),
    ],
)
def test_a_missing_driver_names_the_extra(url, driver, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(UserError) as told:
        study_on(url, tmp_path / "study").check()
    words = [f"package {driver}", f"pip install 'tfcredit[{extra}]'", "me:***@host"]
    assert all(word in str(told.value) for word in words) and PASSWORD not in str(told.value)


@pytest.mark.parametrize("url", ["postgresql://me:{}@{}/db", "grpc://{1}"])
def test_a_server_that_does_not_answer_is_told_in_time(url, tmp_path, monkeypatch):
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="an extra, `postgresql`")
    assert storage.CONNECT == 10
    monkeypatch.setattr(storage, "CONNECT", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(UserError, match="can't be used .*start the server") as told:
            study_on(url.format(PASSWORD, host), tmp_path / "study").check()
        assert time.monotonic() - began < 4
    assert host in str(told.value) and PASSWORD not in str(told.value)
    assert not (tmp_path / "study").exists()


def test_passwords_in_the_query_are_hidden_too():
    shown = str(Storage(f"postgresql://me@host/db?sslpassword={PASSWORD}&sslmode=require"))
    assert PASSWORD not in shown and "sslmode=require" in shown
    one = Storage(f"postgresql://me:{PASSWORD}@host/db")
    assert PASSWORD not in str(one.failed(ConnectionError(f"no {PASSWORD} for me")))


def start(folder, url, *flags):
    """A search of `SMALL` with signs of life that follow faster, in a process of its own."""
    faster = "import tfcredit.search.trials as t; t.BEAT, t.GRACE = 1.0, 12.0; "
    file = folder.parent / "space.json"
    file.write_text(json.dumps(SPACE))
    command = ["search", *SMALL, f"--space={file}", f"--study_dir={folder}", f"--storage={url}"]
    return subprocess.Popen(
        [sys.executable, "-c", faster + COMMAND, *command, *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "package", "shared"),
    [
        pytest.param("database", "postgresql", False, id="separate_folders"),
        pytest.param("database", "postgresql", True, id="one_folder"),
        pytest.param("mariadb", "mariadb-server", False, id="mariadb"),
    ],
)
def test_two_commands_search_together_and_one_is_killed(server, package, shared, request, tmp_path):
    database = request.getfixturevalue(server)
    if database is None:
        pytest.skip(f"needs apt-get install {package}, and the extra with its driver")
    name = f"shared {shared}"
    folders = [tmp_path / "a", tmp_path / ("a" if shared else "b")]
    flags = ["--trials=4", "--epochs=5", "--checkpoint_every_steps=2", f"--study_name={name}"]
    one, other = (start(folder, database, *flags) for folder in folders)
    deadline = time.time() + 300
    with Storage(database).connected() as own:
        # Killed amid the second trial that it has begun, when it has a checkpoint.
        mine = ()
        while not mine:
            assert one.poll() is None and time.time() < deadline
            time.sleep(0.05)
            study = {s.study_name: s for s in own.get_all_studies()}.get(name)
            found = own.get_all_trials(study._study_id) if study else []
            mine = [
                trials.number_of(t)
                for t in found
                if t.state == TrialState.RUNNING
                and f" {one.pid} " in t.user_attrs.get("alive", "")
                and t.intermediate_values
            ]
        os.kill(one.pid, signal.SIGKILL)
    one.communicate()
    output, _ = other.communicate(timeout=600)
    assert other.returncode == 0, output[-3000:]
    assert f"trial {mine[0]}: no sign of life" in output
    how = "goes on from its checkpoint" if shared else "starts again"
    assert f"trial {mine[0]}, which another process began, {how}" in output
    log = (folders[1] / f"trials/{mine[0]:04}.log").read_text()
    assert ("Continuing at step" in log) == shared
    again = start(folders[0], database, *flags)
    assert again.communicate(timeout=300) and again.returncode == 0  # nothing is left to do
    for folder in folders:
        rows = table(folder)
        assert [row["trial"] for row in rows] == [*map(str, range(4))]
        counts = collections.Counter(row["outcome"] for row in rows)
        assert counts["finished"] + counts["diverged"] + counts["pruned"] == 4
        assert (folder / "plots" / "history.png").exists()
        for file in folder.rglob("*"):
            assert file.is_dir() or PASSWORD.encode() not in file.read_bytes()
    assert table(folders[0]) == table(folders[1])
    assert re.search(r"Best: trial \d \(on ", output) and PASSWORD not in output
