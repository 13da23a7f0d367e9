#!/usr/bin/env bash
# The time that it takes to delete an iterator of tf.data whose elements have all been read.
#
# One would guess: none; nothing is left to be done.
# What happens: now and then the deletion waits, with the CPU idle. tf.data tunes a pipeline in a
# thread of its own, which sleeps between its turns, at first for 10 ms and each time for twice as
# long, up to a minute. Deletion wakes that thread, but marks the iterator as cancelled only after
# the call that wakes it: a thread that looks at once finds no mark and sleeps on, and the deletion
# waits for it. The longer an iterator has lived the longer that takes: most of a second for one of
# 1.5 s, 3 to 4 s for one of 6 s, and half a minute or more after epochs of a minute. Training loops
# that make an iterator for each epoch pay for it between epochs, where no profile of Python shows
# a call. `options.autotune.enabled = False` has no such thread, and no wait.
#
# Versions: TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: `Model::OptimizeLoop` of tensorflow/core/framework/model.cc and
# `CancellationManager::StartCancelWithStatus` of tsl/framework/cancellation.cc. No report of it was
# found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import time

import tensorflow as tf

MOST, LONG = 80, 0.3  # Iterators that are tried; seconds that count as a wait.
print("tensorflow", tf.__version__)


def seconds_to_delete(tuned):
    dataset = tf.data.Dataset.range(100)
    for _ in range(20):  # The more parts there are to cancel, the later comes the mark.
        dataset = dataset.map(tf.identity, num_parallel_calls=2)
    options = tf.data.Options()
    options.autotune.enabled = tuned
    iterator = iter(dataset.prefetch(2).with_options(options))
    for _ in range(100):
        next(iterator)
        time.sleep(0.015)
    start = time.perf_counter()
    del iterator
    return time.perf_counter() - start


found = {True: [], False: []}
while len(found[True]) < MOST and sum(seconds > LONG for seconds in found[True]) < 3:
    for tuned in found:
        found[tuned].append(seconds_to_delete(tuned))
for tuned, seconds in found.items():
    waits = sorted(round(each, 2) for each in seconds if each > LONG)
    print(f"autotune.enabled={tuned}: {len(waits)} of {len(seconds)} deletions waited: {waits} s")
assert sum(seconds > LONG for seconds in found[True]) >= 3, "deletions wait no more"
assert not any(seconds > LONG for seconds in found[False]), "without tuning, too"
PYTHON
echo "As described."
