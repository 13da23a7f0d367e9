#!/usr/bin/env bash
# Addresses of workers from SLURM, on ten nodes whose names have no leading zeros.
#
# One would guess: `SlurmClusterResolver` gives task k of a SLURM step the address of the node that
# task k runs on, as its tests show for nodes t02n13 and so on.
# What happens: it sorts the nodes by their names as text, so that node10 comes before node2, and
# takes the task of rank 1, which SLURM has started on node2, for that of node10. Each task but
# those before the first difference listens at one address, and all others call it at another.
# Nothing tells; the workers wait for each other. And on nodes without GPUs the resolver raises
# (gpus_per_node=0: "range() arg 3 must not be zero").
#
# Versions: TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-29.
# Source: tensorflow/python/distribute/cluster_resolver/slurm_cluster_resolver.py, read and run; no
# report of it was looked for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import os

import tensorflow as tf

print("tensorflow", tf.__version__)
os.environ |= {
    "SLURM_STEP_NUM_TASKS": "10",
    "SLURM_STEP_NODELIST": "node[1-10]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x10)",
}
resolver_of = tf.distribute.cluster_resolver.SlurmClusterResolver
wrong = []
for rank in range(10):
    os.environ["SLURM_PROCID"] = str(rank)
    resolver = resolver_of(gpus_per_node=1, gpus_per_task=1, auto_set_gpu=False)
    found = resolver.cluster_spec().task_address(*resolver.get_task_info() or ("worker", rank))
    runs_on = f"node{rank + 1}"  # SLURM's default distribution: by blocks, in the list's order
    print(f"rank {rank} runs on {runs_on}, its address is {found}")
    if found.split(":")[0] != runs_on:
        wrong.append(rank)
assert wrong == list(range(1, 10)), "it has changed"

os.environ["SLURM_PROCID"] = "0"
try:
    resolver_of(gpus_per_node=0, gpus_per_task=0, auto_set_gpu=False).cluster_spec()
except ValueError as problem:
    print("without GPUs:", problem)
else:
    raise SystemExit("it has changed")
PYTHON
