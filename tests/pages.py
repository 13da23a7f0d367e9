"""What README.md and the pages of docs/ are made of: prose, tables, code and commands."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted(ROOT.glob("docs/*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def code(path, language):
    """The fenced blocks of a language."""
    return [body for name, body in FENCE.findall(path.read_text()) if name == language]


def without_code(path):
    """The lines outside of fenced and indented code."""
    lines, indented = [], False
    for line in FENCE.sub("", path.read_text()).splitlines():
        indented = line.startswith("    ") and (indented or not lines or not lines[-1].strip())
        if not indented:
            lines.append(line)
    return lines


def prose(path):
    """The lines outside of code and tables."""
    return [line for line in without_code(path) if not line.startswith("|")]


def commands(path):
    """The lines of indented code, continuations joined, comments left out."""
    found, before = [], ""
    text = re.sub(r"\\\n\s*", "", FENCE.sub("", path.read_text()))
    for line in text.splitlines():
        if line.startswith("    ") and (not before.strip() or before.startswith("    ")):
            found.append(re.sub(r"\s+# .*", "", line.strip()))
        before = line
    return found


def table(path, start):
    """The rows of the first table whose first line starts so, cell by cell."""
    text = path.read_text()
    lines = text[text.index(f"\n{start}") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
