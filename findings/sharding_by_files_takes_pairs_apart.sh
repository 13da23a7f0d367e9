#!/usr/bin/env bash
# Images from files, labels from an array, and more than one worker.
#
# One would guess: `experimental_distribute_dataset`, and `fit` under MultiWorkerMirroredStrategy,
# give each worker its share of the dataset's elements. AUTO "attempts FILE-based sharding, falling
# back to DATA-based sharding", so that a dataset which is not of files alone is sharded by
# elements.
# What happens: where any part reads files, the files of that part are shared out, and the rest is
# left whole. A zip of records and labels pairs worker 1's records with the labels of the first
# ones: the network learns labels of other images, and nothing is said. And as batches are cut into
# the workers' parts on top of that, half of what each worker read is dropped: of 24 pairs the two
# workers see 12. Of files and a `concatenate`d array a quarter is lost; `take(10)` takes 10 of each
# worker's files, `skip(10)` skips 20. With `enumerate`, or by auto_shard_policy DATA, all is right.
#
# Versions: TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: what two workers get compared with the dataset; the documentation of
# tf.data.experimental.AutoShardPolicy, quoted above. No report of the pairs was found; that `take`
# and files do not go together is known.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorflow-cpu==2.21.0'
cd "$folder"
cat > worker.py <<'PYTHON'
import json
import os
import sys

index, ports = int(sys.argv[1]), sys.argv[2:]
workers = [f"127.0.0.1:{port}" for port in ports]
task = {"type": "worker", "index": index}
os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()


def records():
    """The numbers 0 to 23 from four files, as images come."""
    texts = tf.data.TextLineDataset([f"{i}.txt" for i in range(4)])
    return texts.map(lambda text: tf.strings.to_number(text, tf.int64))


labels = tf.data.Dataset.range(24)
datasets = {
    "zip": tf.data.Dataset.zip(records(), labels),
    "enumerate": records().enumerate(),
    "concatenate": records().concatenate(labels.map(lambda x: x + 100)),
    "take(10)": records().take(10),
    "skip(10)": records().skip(10),
}
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
datasets["zip by DATA"] = datasets["zip"].with_options(options)
found = {}
for name, dataset in datasets.items():
    found[name] = []
    for batch in strategy.experimental_distribute_dataset(dataset.batch(4)):
        local = tf.nest.map_structure(lambda x: strategy.experimental_local_results(x)[0], batch)
        columns = [x.numpy().tolist() for x in tf.nest.flatten(local)]
        found[name].extend(zip(*columns))
with open(f"{index}.json", "w") as file:
    json.dump(found, file)
PYTHON
"$folder/venv/bin/python" - <<'PYTHON'
for i in range(4):
    with open(f"{i}.txt", "w") as file:
        file.write("".join(f"{6 * i + k}\n" for k in range(6)))
PYTHON
ports=$("$folder/venv/bin/python" - <<'PYTHON'
import socket

sockets = [socket.socket() for _ in range(2)]
for one in sockets:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))
PYTHON
)
export TF_CPP_MIN_LOG_LEVEL=3
"$folder/venv/bin/python" worker.py 1 $ports 2> 1.txt.log &
"$folder/venv/bin/python" worker.py 0 $ports 2> 0.txt.log || { cat 0.txt.log; exit 1; }
wait $!
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import json

print("tensorflow", importlib.metadata.version("tensorflow-cpu"))
found = [json.load(open(f"{index}.json")) for index in range(2)]
both = {name: found[0][name] + found[1][name] for name in found[0]}
for name, rows in both.items():
    print(f"{name}: {len(rows)} elements;", "worker 1 has", *found[1][name][:6])
wrong = [pair for pair in both["zip"] if pair[0] != pair[1]]
assert len(both["zip"]) == 12, "it has changed: half of the pairs was lost"
assert len(wrong) == 8, "it has changed: all but the first file had labels of others"
assert len(both["concatenate"]) == 36, "it has changed: a quarter of 48 was lost"
assert len(both["take(10)"]) == 20 and len(both["skip(10)"]) == 4, "it has changed"
for name in ("enumerate", "zip by DATA"):
    assert sorted(both[name]) == [[i, i] for i in range(24)]
PYTHON
echo "As described."
