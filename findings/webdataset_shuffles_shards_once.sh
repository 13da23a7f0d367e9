#!/usr/bin/env bash
# The order of shards in WebDataset, from epoch to epoch.
#
# One would guess: `WebDataset(urls, shardshuffle=100)` draws another order of the shards in each
# epoch, as its `shuffle` of samples does and as a shuffling DataLoader does.
# What happens: the constructor draws one seed, and each pass starts a generator from it: all epochs
# have the shards in one order, within `repeat` and `with_epoch`, too. A buffer of samples that is
# smaller than the data mixes neighbours only, so that what comes early comes early in every epoch.
# `shuffle(n, seed=...)` of samples repeats its order likewise. With `detshuffle=True`, or in a
# DataPipeline with `wds.shuffle`, the orders differ.
#
# Versions: webdataset 1.0.2, Python 3.11. Date: 2026-12-01.
# Source: orders of several epochs compared. The documentation of WebDataset's arguments ("The
# number of shards to shuffle") makes one guess so. webdataset pull request 502 of July 2026, which
# is open, describes it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'webdataset==1.0.2'
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import numpy as np
import webdataset as wds

print("webdataset", importlib.metadata.version("webdataset"))
SHARDS, SAMPLES, EPOCHS = 20, 10, 5
urls = [f"{k:02d}.tar" for k in range(SHARDS)]
for k, url in enumerate(urls):
    with wds.TarWriter(url) as writer:
        for i in range(SAMPLES):
            writer.write({"__key__": f"{k:02d}_{i}", "cls": k})


def epochs(dataset):
    return [tuple(int(sample["__key__"][:2]) for sample in dataset) for _ in range(EPOCHS)]


def sequence():
    return wds.DataPipeline(wds.SimpleShardList(urls), wds.shuffle(100), wds.tarfile_to_samples())


cases = {
    "shardshuffle=100": (wds.WebDataset(urls, shardshuffle=100), 1),
    "the same, seed=1": (wds.WebDataset(urls, shardshuffle=100, seed=1), 1),
    "repeated": (wds.WebDataset(urls, shardshuffle=100).repeat().with_epoch(200), 1),
    "detshuffle": (wds.WebDataset(urls, shardshuffle=100, detshuffle=True), EPOCHS),
    "DataPipeline": (sequence(), EPOCHS),
}
for name, (dataset, expected) in cases.items():
    found = epochs(dataset)
    print(f"{name}: {len(set(found))} orders of shards in {EPOCHS} epochs,",
          "first shards", [order[0] for order in found])
    assert len(set(found)) == expected, "it has changed"
    assert sorted(found[0]) == sorted(k for k in range(SHARDS) for _ in range(SAMPLES))


def correlation(**options):
    """Of the shards' mean places in the first epoch and in others, behind a small buffer."""
    dataset = wds.WebDataset(urls, shardshuffle=100, **options).shuffle(20)
    orders = np.array(epochs(dataset))
    found = [[np.flatnonzero(order == k).mean() for order in orders] for k in range(SHARDS)]
    return np.corrcoef(np.transpose(found))[0, 1:].mean()


once, anew = correlation(), correlation(detshuffle=True)
print(f"correlation of a shard's place in two epochs, with shuffle(20): {once:.3f},",
      f"with detshuffle {anew:.3f}")
assert once > 0.95 and abs(anew) < 0.6, "it has changed"
PYTHON
echo "As described."
