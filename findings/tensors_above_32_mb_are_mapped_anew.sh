#!/usr/bin/env bash
# Memory of large tensors on a CPU, from one step of a tf.function to the next.
#
# One would guess: TensorFlow's allocator keeps freed memory for the next step, as it does on a GPU,
# so that steps of one shape fault in no new pages after the first.
# What happens: on a CPU it asks the C library, and glibc maps what is above 32 MB anew each time: a
# step that makes one tensor of 36 MB faults in each of its 9,216 pages, every time. A batch of 64
# images of 224 pixels is above, as are activities of ImageNet networks. glibc's M_MMAP_THRESHOLD,
# M_TRIM_THRESHOLD and M_ARENA_MAX end it.
#
# Versions: TensorFlow 2.21.0 (tensorflow-cpu), glibc 2.36, Python 3.11. Date: 2026-11-30.
# Source: system time of a benchmark of tf.data; glibc's manual, "Malloc Tunable Parameters", has the
# bound, DEFAULT_MMAP_THRESHOLD_MAX. TensorFlow's guides name other allocators, not the step.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorflow-cpu==2.21.0'
cd "$folder"
cat > steps.py <<'PYTHON'
import ctypes
import platform
import resource
import sys

import tensorflow as tf

library = ctypes.CDLL(None)
PR_SET_THP_DISABLE = 41  # Large pages would be fewer.
library.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
if "keep" in sys.argv:
    # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX of <malloc.h>.
    assert library.mallopt(-3, 2**30) and library.mallopt(-1, 2**30) and library.mallopt(-8, 1)
print("tensorflow", tf.__version__, *platform.libc_ver(), *sys.argv[1:])


@tf.function
def step(x):
    return tf.reduce_sum(tf.nn.relu(x))


x = tf.ones([36, 2**18])
for _ in range(20):
    step(x)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step(x)
faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10
print("page faults a step", faults)
sys.exit((faults > 9000) == ("keep" in sys.argv))
PYTHON
export TF_CPP_MIN_LOG_LEVEL=3
unset GLIBC_TUNABLES ${!MALLOC_@}
"$folder/venv/bin/python" steps.py
"$folder/venv/bin/python" steps.py keep
echo "Each step maps its tensors above 32 MB anew, unless the C library is told to keep memory."
