"""The page of measures: its Python runs, and it names every measure."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from tfcredit import analysis, models

PAGE = Path(__file__).parents[2] / "docs" / "measures.md"


@pytest.mark.slow
def test_the_page_of_measures_is_true():
    pytest.importorskip("art", reason="an extra, `robustness`")
    pytest.importorskip("matplotlib", reason="an extra, `plots`")
    text = PAGE.read_text().replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 30
    assert doctest.DocTestRunner().run(test).failed == 0


def test_every_number_in_the_records_is_explained():
    words = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    model = models.get("fc", 10, (28, 28, 1), rule="brsf", seed=0)
    x, y = np.ones((4, 28, 28, 1), "float32"), np.arange(4)
    loss = "sparse_categorical_crossentropy"
    records = [*analysis.alignment(model), *analysis.spectra(model)[:1]]
    records += analysis.ErrorAngles(x, y, loss)(model)
    records += analysis.effective_ranks(analysis.ErrorSpectra(x, y, loss)(model))
    assert {name for record in records for name in record} <= words
    assert {name for name in analysis.__all__ if name[0].islower()} & words
