#!/usr/bin/env bash
# Records that grain's IndexSampler gives to shards, where they are not a multiple of the shards.
#
# One would guess: with `ShardOptions(i, n, drop_remainder=False)`, which is the default, the shards
# of one epoch have each record once: "If False will distribute the remainder N over the first N
# shards". `drop_remainder=True` is there to lose some.
# What happens: the first shards own one record more, and every shard stops after as many as the
# smallest has. An epoch loses as many records as `drop_remainder=True` does, and others: the last
# one of each larger shard in place of the last ones of all. An evaluation by several processes
# misses them without a word: 3 of 7 records by 4 processes. Over more epochs smaller shards go
# round again before larger ones are through: here after 2 epochs some records were seen once, and
# others three times. `MapDataset.source(...)[i::n]` has each once.
#
# Versions: grain 0.2.18, Python 3.11. Date: 2026-12-01.
# Source: records of all shards counted; `__getitem__` of grain/_src/python/samplers.py divides an
# index that ends at num_epochs * num_records by the number of shards, and
# grain/_src/core/sharding.py has the sentence. No report of it was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'grain==0.2.18'
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import collections
import importlib.metadata

import grain

print("grain", importlib.metadata.version("grain"))


def shards(records, count, epochs, drop):
    """What each of `count` processes reads."""
    read = []
    for index in range(count):
        options = grain.sharding.ShardOptions(index, count, drop_remainder=drop)
        sampler = grain.samplers.IndexSampler(
            num_records=records, shard_options=options, num_epochs=epochs, seed=0
        )
        loader = grain.DataLoader(
            data_source=range(records), sampler=sampler, worker_count=0
        )
        read.append([int(record) for record in loader])
    return read


for records, count, missing in ((10, 3, [3]), (10, 4, [2, 5]), (7, 4, [1, 3, 5])):
    kept = shards(records, count, 1, False)
    lost = sorted(set(range(records)) - set(sum(kept, [])))
    dropped = sorted(set(range(records)) - set(sum(shards(records, count, 1, True), [])))
    print(f"{records} records, {count} shards, drop_remainder=False: {kept}, missing {lost}",
          f"(True: missing {dropped})")
    assert lost == missing and len(dropped) == len(lost), "it has changed"
    dataset = grain.MapDataset.range(records)
    sliced = [list(dataset[index::count]) for index in range(count)]
    assert sorted(sum(sliced, [])) == list(range(records))

times = collections.Counter(sum(shards(7, 4, 2, False), []))
print("2 epochs of 7 records by 4 shards: times that each is seen:", dict(sorted(times.items())))
assert set(times.values()) == {1, 2, 3}, "it has changed"
PYTHON
echo "As described."
