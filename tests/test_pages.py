"""The pages of docs/, README.md and its like: shape, code, commands, flags, files and links."""

import ast
import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import tomllib

import pytest

from tests.pages import DOCS, ROOT, code, commands, prose, table, without_code
from tfcredit import rules
from tfcredit.primitives import PRIMITIVES
from tfcredit.training.flags import name_of
from tfcredit.training.recipe import Recipe, parse

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
FLAGS = set(map(name_of, vars(Recipe()))) | {"help", "flagfile"}
# Of TensorBoard, our pytest, pip, sha256sum and sbatch.
OTHERS_FLAGS = {"logdir", "screenshots", "no", "check", "array", "gpus", "signal", "requeue"}

of_docs = pytest.mark.parametrize("page", DOCS, ids=[page.stem for page in DOCS])
of_all = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])


def source(*folders):
    """The text of all modules below the folders."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return "\n".join(path.read_text() for path in paths)


def flags_in(text):
    """Flags that modules declare or that their docstrings show."""
    return set(re.findall(r"(?<![\w-])--([a-z]\w*)", text))


def console_script(arguments):
    """What `tfcredit ARGUMENTS` prints."""
    module, function = PROJECT["scripts"]["tfcredit"].split(":")
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        getattr(importlib.import_module(module), function)(arguments)
    return output.getvalue()


def flags_of(words):
    """The names of the flags that a command was given."""
    return {word[2:].split("=")[0] for word in words if word.startswith("--")}


def check_run(words):
    """Flags of the runner are those of its parser; a run's flagfile is stood in for."""
    embedded = ROOT / "configs" / "embedded" / "brsf.cfg"
    words = [word.replace("RUN/flags.txt", str(embedded)) for word in words]
    parse([word.replace("=configs/", f"={ROOT}/configs/") for word in words])


def check_tfcredit(words):
    if words[0] == "train":
        return check_run(words[1:])
    if words == ["--version"]:
        return
    assert words[0] in console_script(["--help"])
    known = set(re.findall(r"--([a-z]\w*)", console_script([words[0], "--help"])))
    assert flags_of(words) <= (known | FLAGS if words[0] in ("compare", "search") else known)


def check_pip(words):
    assert words[0] == "install"
    for word in words[1:]:
        if word.startswith("."):
            assert set(re.findall(r"\w+", word)) <= set(PROJECT["optional-dependencies"])


def check_module(words):
    module, *rest = words
    if module == "studies":
        name = next(word for word in rest if not word.startswith("--"))
        places = [ROOT / "studies" / place for place in (f"{name}.py", name)]
        assert name == "NAME" or any(place.exists() for place in places)
        assert flags_of(rest) <= flags_in(source("studies")) | FLAGS
    elif module == "pytest":
        assert all((ROOT / word).exists() for word in rest if word.startswith("tests/"))
    elif module != "http.server":
        assert importlib.util.find_spec(module), module
        assert flags_of(rest) <= flags_in(source(module.split(".")[0]))


def check_python(words):
    if words[0] == "-m":
        check_module(words[1:])
    elif words[0] == "run_imagenet.py":
        check_run(words[1:])
    else:
        # A module of a package finds its neighbours with -m alone.
        assert not (ROOT / words[0]).with_name("__init__.py").exists(), f"-m is missing: {words}"
        assert flags_of(words[1:]) <= flags_in((ROOT / words[0]).read_text())


def check_make(words):
    assert words[0] in TARGETS


def check_tensorboard(words):
    assert words[0] in ("--logdir",) and len(words) == 2


CHECKS = {
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "tensorboard": check_tensorboard,
    "tfcredit": check_tfcredit,
}


def check(command):
    """Refuse a command that would not be understood; returns whether it is one of ours."""
    words = shlex.split(command)
    while words and re.match(r"[A-Z_]+=", words[0]):
        name, value = words.pop(0).split("=", 1)
        if name == "TFCREDIT_TENSORFLOW":
            assert f'"{value}"' in (ROOT / "setup.py").read_text()
    if not words or words[0] not in CHECKS:
        return False
    CHECKS[words[0]](words[1:])
    return True


def test_every_command_of_the_readme_is_understood():
    found = commands(ROOT / "README.md")
    assert len(found) >= 10 and [command for command in found if not check(command)] == []


@of_all
def test_commands_of_pages_are_understood(page):
    starts = re.compile(rf"(?:[A-Z_]+=\S+ )?(?:{'|'.join(CHECKS)}) ")
    inline = [text for line in without_code(page) for text in re.findall(r"`([^`]+)`", line)]
    ours = [text for text in [*commands(page), *inline] if starts.match(text)]
    assert all(check(command) for command in ours if "..." not in command)


def test_wrong_commands_are_noticed():
    for wrong in (
        "make tests",
        "pip install '.[plot]'",
        "python -m studies nothing",
        "python -m benchmarks --round=5",
        "python benchmarks/waiting_share.py",
        "tfcredit report runs --outputs=report.html",
    ):
        with pytest.raises(AssertionError):
            check(wrong)


@of_all
def test_flags_that_pages_mention_exist(page):
    mentioned = set(re.findall(r"(?<![\w-])--([a-z]\w*)", page.read_text()))
    scripts = flags_in(source("studies", "benchmarks", "tools", "tfcredit"))
    assert mentioned - OTHERS_FLAGS <= FLAGS | scripts


@of_all
def test_files_and_targets_that_pages_mention_exist(page):
    text = page.read_text()
    assert set(re.findall(r"(?:`|    )make ([a-z-]+)", text)) <= TARGETS
    folders = "tfcredit|tests|configs|studies|tools|examples|docs|benchmarks"
    paths = set(re.findall(rf"[`=( ]((?:{folders})/[\w./]*\w)", text))
    links = set(re.findall(r"\]\((?!http)([^)#]+)", text)) - {"tutorial.md"}  # made of the notebook
    patterns = [(ROOT, re.sub(r"[A-Z][A-Z_]+(?=\.cfg|\.json)", "*", path)) for path in paths]
    patterns += [(page.parent, link) for link in links]
    assert [path for folder, path in patterns if not any(_matches(folder, path))] == []


def _matches(folder, pattern):
    return folder.glob(pattern) if "*" in pattern else filter(None, [(folder / pattern).exists()])


def test_sections_that_the_readme_links_exist():
    """MkDocs checks the links of pages."""
    readme = (ROOT / "README.md").read_text()
    for page, anchor in re.findall(r"\]\(([\w/]+\.md)#([\w-]+)\)", readme):
        titles = re.findall(r"^#+ (.*)$", (ROOT / page).read_text().lower(), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w-]", "", title.replace(" ", "-")) for title in titles]


@of_docs
def test_a_page_wraps_its_prose_at_100_characters(page):
    # But for pictures, and links that nothing breaks.
    long = [line for line in prose(page) if len(line) > 100 and " " in line.strip("-* ")]
    assert [line for line in long if not line.startswith("![")] == []


@of_docs
def test_a_page_opens_with_a_paragraph(page):
    title, _, first = page.read_text().splitlines()[:3]
    assert title.startswith("# ") and len(first) > 40 and first[0] not in "#|`!-*<"


def test_every_page_is_in_the_contents_of_the_site():
    contents = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1].split("\nvalidation:")[0]
    assert set(re.findall(r"\w+\.md", contents)) == {p.name for p in DOCS} | {"tutorial.md"}


COMPARING = pytest.param("comparing", marks=pytest.mark.slow)  # four runs in processes


@pytest.mark.parametrize("name", ["index", "rules", "convert", "tracking", "own_data", COMPARING])
def test_the_python_of_a_page_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names, printed = {}, []
    for block in code(ROOT / f"docs/{name}.md", "python"):
        exec(compile(block, f"docs/{name}.md", "exec"), names)
        printed.append(capsys.readouterr().out.splitlines()[-2:])  # after the progress bar
    if name == "convert":
        angles, _, table_of_layers, of_sequences = printed
        assert of_sequences[0].endswith("/gru_cell/recurrent_kernel tracking_mirror")
        assert [line.split("_")[0].split()[0] for line in angles] == ["conv2d", "dense"]
        assert [line.split()[2] for line in table_of_layers] == ["info_alignment", "weight_mirror"]
        # Both kernels and bias of two layers, and the dense layer's step and memory.
        assert len(names["again"].weights) == 6 + 2
        assert any((tmp_path / "logs").iterdir())


RULES = ROOT / "docs" / "rules.md"


def test_the_table_of_primitives_is_complete():
    assert {row[0].strip("`") for row in table(RULES, "| primitive | R")} == set(PRIMITIVES)


def test_the_table_of_rules_is_complete_and_states_the_defaults():
    stated = {}
    for names, *_, updates, defaults in table(RULES, "| rule | primitives"):
        for name in re.findall(r"`(\w+)`", names):
            stated[name] = updates, defaults
    assert set(stated) == set(rules.names()) - {"alignment"}
    for name, (updates, defaults) in stated.items():
        rule = rules.get(name)
        values = {k.rstrip("_"): v for k, v in rule.get_config().items() if k != "variant"}
        pairs = [] if defaults == "-" else [item.split() for item in defaults.split(", ")]
        assert {key: _value(text) for key, text in pairs} == values, name
        if rule.learns and not rule.follows_forward:
            optimizer, rate = rule.feedback_optimizer
            assert updates.lower() == f"{optimizer}, rate {rate}", name


def _value(text):
    """A number, None, or else a word."""
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text


def test_the_table_of_what_r_sees_is_complete():
    stated = {
        name for cells in table(RULES, "| option | default") for name in cells[0].split("`")[1::2]
    }
    assert stated == set(vars(rules.AlignmentInputs()))
