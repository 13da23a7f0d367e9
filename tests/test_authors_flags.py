"""The list of the paper's flags is whole, names flags that exist, and its page is up to date."""

import re

from studies import ROOT
from studies.authors_flags import ENTRIES, PAGE, table
from tfcredit.training.flags import name_of
from tfcredit.training.recipe import Recipe, parse

FLAGS = set(map(name_of, vars(Recipe()))) | {"flagfile"}
ALL = [each for entries in ENTRIES.values() for each in entries]


def test_each_flag_of_theirs_is_there_once():
    names = [name for each in ALL for name in each.theirs]
    assert len(names) == len(set(names)) == 112
    assert all(each.ours or each.note for each in ALL)


def test_each_flag_of_ours_exists():
    for each in ALL:
        stated = " ".join((*each.ours, each.note))
        assert set(re.findall(r"--(\w+)", stated)) <= FLAGS, each
        parse([flag for flag in each.ours if "=" in flag])


def test_the_page_is_up_to_date():
    text = (ROOT / PAGE).read_text()
    assert table() in text, "run: python -m studies authors_flags --update"
