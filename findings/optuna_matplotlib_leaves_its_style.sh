#!/usr/bin/env bash
# Optuna's Matplotlib figures and the settings of the process.
#
# One would guess: `optuna.visualization.matplotlib.plot_optimization_history(study)` gives an Axes
# and leaves Matplotlib's settings as they were, so that a program may draw its own figures after it.
# What happens: each plot calls `plt.style.use("ggplot")`: rcParams stay changed for the rest of the
# process, and the figure stays open in pyplot.
#
# Versions: Optuna 5.0.0, Matplotlib 3.11.0, Python 3.11. Date: 2026-11-28.
# Source: seen while the figures of a search were drawn by both; no report of it was looked for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'optuna==5.0.0' 'matplotlib==3.11.0'
cd "$folder"
MPLBACKEND=agg "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import matplotlib
import optuna
from matplotlib import pyplot as plt
from optuna.visualization import matplotlib as figures

print("optuna", optuna.__version__, "matplotlib", matplotlib.__version__)
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=5)
before = dict(matplotlib.rcParams)
figures.plot_optimization_history(study)
changed = sorted(name for name, value in before.items() if matplotlib.rcParams[name] != value)
print(len(changed), "settings differ afterwards, such as", ", ".join(changed[:4]))
print(len(plt.get_fignums()), "figure(s) open in pyplot")
assert "axes.facecolor" in changed and len(plt.get_fignums()) == 1, "it has changed"
PYTHON
echo "As described."
