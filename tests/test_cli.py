"""What the command line answers to mistakes: one sentence, exit code 2, nothing overwritten."""

import contextlib
import dataclasses
import pathlib
import re
import resource
import runpy
import signal
import subprocess
import sys

import pytest

import tfcredit
from tfcredit import cli, models, optimizers, rules
from tfcredit.errors import UserError
from tfcredit.training import known_names
from tfcredit.training.recipe import Recipe, parse

ROOT = pathlib.Path(__file__).resolve().parents[1]

# flags -> words that the sentence must hold
MISTAKES = {
    "--rule=info_aligment": ["info_aligment", "info_alignment"],
    "--rule=weight_mirror(amp=": ["weight_mirror(amp=", "can't be read"],
    "--rule=weight_mirror(null=1)": ["null", "amp, decay"],
    "--rule=0.1*ampp": ["0.1*ampp", "amp"],
    "--rule=backprop --amp=1": ["--amp", "--rule=backprop"],
    "--rule=weight_mirror --null=1": ["null", "amp, decay"],
    "--amp=nan": ["--amp=nan", "finite"],
    "--amp=-1": ["--amp=-1", "at least 0"],
    "--decy=1": ["decy", "--help"],
    "--amp=much": ["amp", "much"],
    "--model=resnet9": ["resnet9", "resnet8"],
    "--model=fc --width=3": ["width", "fc"],
    "--dataset=embeded": ["embeded", "embedded"],
    "--dataset=imagenet --data_dir=/nowhere": ["/nowhere", "train-*"],
    "--optimizer=adaam": ["adaam", "adam"],
    "--feedback_optimizer=adaam": ["adaam", "adam"],
    "--rule=backprop --feedback_optimizer=adam": ["--feedback_optimizer", "--rule=backprop"],
    "--rule=kolen_pollack --feedback_learning_rate=1": ["--feedback_learning_rate", "kolen"],
    "--epochs=1 --steps=3": ["--epochs=1", "--steps=3", "contradict"],
    "--resume=auto --overwrite": ["--overwrite", "--resume=auto", "contradict"],
    "--deterministic --jit_compile": ["--deterministic", "--jit_compile", "contradict"],
    "--mode=evaluate --overwrite": ["--mode=evaluate", "--overwrite", "contradict"],
    "--noise_variance=1": ["--noise=none", "--noise_variance", "contradict"],
    "--coefficient_start=0.5 --coefficient_stop=0.5": ["--coefficient_start", "contradict"],
    "--rule=backprop --delay_epochs=1": ["backprop", "--delay_epochs"],
    "--steps=0": ["--steps=0", "at least 1"],
    "--epochs=0": ["--epochs=0", "greater than 0"],
    "--learning_rate=-1": ["--learning_rate=-1", "greater than 0"],
    "--learning_rate=inf": ["--learning_rate=inf", "finite"],
    "--batch_size=12001": ["12001", "12000"],
    "--batch_size=0": ["--batch_size=0", "at least 1"],
    "--num_replicas=9": ["--num_replicas=9", "at most 8"],
    "--strategy=one_device --num_replicas=2": ["one_device", "--num_replicas=2", "mirrored"],
    "--strategy=mirrored --tpu=local": ["--strategy=mirrored", "--tpu=local", "contradict"],
    "--strategy=multi_worker": ["--workers", "TF_CONFIG"],
    "--workers=a:1,b:2": ["--worker,", "--workers=a:1,b:2"],
    "--workers=a:1,b:2 --worker=2": ["--worker=2", "an index below the number of workers"],
    "--worker=1": ["--strategy=auto", "--worker", "contradict"],
    "--batch_size=64 --accumulation_steps=3": ["--batch_size=64", "--accumulation_steps=3"],
    "--mode=export": ["no run to export", "--run_dir"],
    "--mode=export --overwrite": ["--mode=export", "--overwrite", "contradict"],
    "--preprocessing=inception": ["embedded", "preprocessing"],
    "--dataset=imagenet --data_dir=/nowhere --max_corrupt_records=-1": ["-1", "at least 0"],
    "--precision=int8": ["--precision=int8", "float32"],
    "--inputs=noise=pink": ["pink", "normal"],
    "--inputs=nose=normal": ["nose", "noise"],
    "--rule=backprop --inputs=noise=normal": ["--inputs", "--rule=backprop"],
    "--alignment_fraction=0": ["--alignment_fraction=0", "greater than 0"],
    "--alignment_fraction=1.5": ["--alignment_fraction=1.5", "at most 1"],
    "--rule=backprop --alignment_fraction=0.5": ["--alignment_fraction", "--rule=backprop"],
    "--rule=calibrated_mirror --alignment_precision=bfloat16": ["--alignment_precision", "calib"],
    "--rule=symmetric_alignment --alignment_fraction=0.5": ["--alignment_fraction", "no activity"],
    "--alignment_precision=int8": ["--alignment_precision=int8", "bfloat16"],
    "--alignment_every=0": ["--alignment_every=0", "at least 1"],
    "--rule=l_drl --alignment_every=2": ["--alignment_every", "--rule=l_drl", "contradict"],
    "--rule=kolen_pollack --alignment_every=2": ["--alignment_every=2", "kolen_pollack", "error"],
    "--rule=0.1*amp+0.1*error --alignment_every=2": ["--alignment_every=2", "error"],
    "--alignment_every=2 --alternate_steps=1": ["--alignment_every=2", "--alternate_steps=1"],
    "--inputs=fraction=2": ["fraction=2", "at most 1"],
    "--resume=must": ["no run to continue", "--resume=auto"],
    "--mode=evaluate": ["no run to evaluate", "--run_dir"],
    "--flagfile=/nowhere.cfg": ["/nowhere.cfg"],
    "info_alignment": ["info_alignment", "--name=value"],
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(flags, tmp_path, capsys):
    folder = tmp_path / "run"
    code = cli.train_main([*flags.split(), f"--run_dir={folder}"])
    error = capsys.readouterr().err
    assert code == 2, error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    for words in MISTAKES[flags]:
        assert words in error
    assert not folder.exists()


def run(folder, *flags):
    return cli.train_main(
        ["--model=fc", "--steps=2", "--batch_size=16", f"--run_dir={folder}", *flags]
    )


NUMBERS = [f.name for f in dataclasses.fields(Recipe) if re.search("int|float", str(f.type))]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_its_range(name):
    for value in ("-1e30", "1e30", "nan", "-1000000000000", "1000000000000", "much"):
        with pytest.raises(UserError, match=rf"{name}.*{value[:2]}|{value[:2]}.*{name}"):
            parse([f"--{name}={value}"])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cluster": {"worker": "a:1"}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 5}}',
        '{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_bad_tf_config(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert run(tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "TF_CONFIG" in error and '"cluster"' in error and "Traceback" not in error


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "flags, words",
    [
        ("--strategy=tpu", ["--tpu=local: no TPU answers"]),
        ("--num_replicas=2 --batch_size=63", ["63", "2 replicas", "multiple of 2"]),
        ("--num_replicas=2 --jit_compile", ["--jit_compile", "2 replicas", "contradict"]),
    ],
)
def test_mistakes_about_devices(flags, words, tmp_path):
    # In a process of its own, as TensorFlow keeps the devices that it started with.
    command = [sys.executable, str(ROOT / "run_imagenet.py"), *flags.split()]
    command.append(f"--run_dir={tmp_path / 'run'}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in words) and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "flag", ["--rule=weight_mirror", "--model=conv", "--batch_size=50", "--decay=0.5"]
)
def test_a_run_of_other_flags_is_not_continued(flag, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder) == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(folder, "--resume=auto", flag) == 2
    assert flag.split("=")[0] in capsys.readouterr().err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_run_directory_is_not_overwritten_by_accident(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder) == 0
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert run(folder, "--seed=1") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(folder, "--seed=1", "--resume=auto") == 2
    assert "--seed=0, not 1" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert run(folder, "--seed=1", "--overwrite") == 0


def test_foreign_files_are_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("all my work")
    assert run(tmp_path, "--overwrite") == 2
    assert "nothing was touched" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_as_run_directory(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("x")
    assert run(file) == 2
    assert "is a file" in capsys.readouterr().err


ODD_PATHS = {
    "~nobody-here/x": "there is no user 'nobody-here'",
    "x" * 300: "can't be reached (File name too long)",
    "gs://bucket/x": "gs://bucket/x is an address",
}
PATHS = ["compare --rules=backprop --compare_dir=", "search --rule=backprop --study_dir="]
PATHS += ["report --output=", "evaluate --output="]


@pytest.mark.parametrize("path", ODD_PATHS)
@pytest.mark.parametrize("command", PATHS)
def test_paths_that_lead_to_no_file_are_told(command, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(f"{command}{path}".split()) == 2
    told = capsys.readouterr().err
    assert ODD_PATHS[path] in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_bucket_as_run_directory(capsys):
    assert run("gs://bucket/run") == 2
    assert "run_dir gs://bucket/run is an address" in capsys.readouterr().err


@contextlib.contextmanager
def full_disk(size=50_000):
    """No file can grow beyond `size` bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.slow
def test_a_full_disk_is_said_and_keeps_what_was_saved(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder) == 0
    flags = folder / "flags.txt"
    flags.write_text(flags.read_text().replace("--steps=2", "--steps=4"))
    saved = {p: p.read_bytes() for p in (folder / "checkpoints").iterdir() if p.is_file()}
    with full_disk():
        assert run(folder, "--resume=auto", "--steps=4") == 2
    error = capsys.readouterr().err
    assert "can't be written" in error and "ckpt-2" in error and "Traceback" not in error
    assert all(path.read_bytes() == content for path, content in saved.items())
    assert run(folder, "--resume=auto", "--steps=4") == 0


def test_an_unwritable_folder_is_said(tmp_path, capsys):
    # Even root can create nothing below /proc.
    assert run("/proc/run") == 2
    assert "/proc/run can't be written" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncate", "garbage"])
def test_a_damaged_checkpoint_is_said(damage, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder) == 0
    for data in (folder / "checkpoints").glob("*.data-*"):
        content = data.read_bytes()
        half = content[: len(content) // 2]
        data.write_bytes(half if damage == "truncate" else b"\x00" * len(content))
    assert run(folder, "--mode=evaluate") == 2
    assert "no checkpoint in" in capsys.readouterr().err


def test_help_is_grouped_and_short(capsys):
    assert cli.train_main(["--help"]) == 0
    text = capsys.readouterr().out
    groups = ["Rule:", "Network:", "Data:", "Training:", "Updates:", "Run:", "Device:", "Names:"]
    assert [line for line in text.splitlines() if line[:1].isupper()] == groups
    assert len(text.splitlines()) < 150
    assert max(map(len, text.splitlines())) <= 100


def test_help_lists_the_names(capsys):
    listed = {"rule": rules.names(), "model": models.names(), "optimizer": optimizers.names()}
    assert known_names.NAMES == listed
    assert cli.train_main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(", ".join(names) in text for names in listed.values())


def test_version_and_module(capsys, monkeypatch):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tfcredit {tfcredit.__version__}\n"
    monkeypatch.setattr(sys, "argv", ["tfcredit", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("tfcredit", run_name="__main__")
    assert ended.value.code == 0 and "tfcredit" in capsys.readouterr().out


def test_the_console_script_knows_its_commands(capsys):
    assert cli.main(["--help"]) == 0
    assert "train" in capsys.readouterr().out
    assert cli.main(["tran"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err
    assert cli.main(["train", "--steps=0"]) == 2
