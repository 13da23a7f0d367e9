#!/usr/bin/env bash
# The whole way of ImageNet, on archives of ILSVRC2012's layout that are 3,000 times smaller:
# archives -> shards -> training -> TensorBoard -> export -> the exported network without tfcredit.
#
#     bash examples/imagenet_miniature.sh
#
# Run it from a checkout with tfcredit, Pillow and scikit-image installed (scikit-image only for its
# photographs; without it the images are made of Fashion-MNIST). Sizes, by environment variables:
#
#     WORK               folder for everything        (a new temporary one)
#     IMAGES             training images              (1000: one per class)
#     VALIDATION_IMAGES  validation images            (200)
#     CLASSES            how many of the 1000 appear  (1000)
#     STEPS, BATCH_SIZE  training steps and images per step   (20, 16)
#     IMAGE_SIZE         height and width in pixels   (the network's, 224)
#     PYTHON             interpreter                  (python)
set -euo pipefail
cd "$(dirname "$0")/.."

WORK=${WORK:-$(mktemp -d)}
PYTHON=${PYTHON:-python}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export TF_CPP_MIN_LOG_LEVEL=3

say() { printf '\n== %s\n' "$*"; }
# The console script `tfcredit`, also where the package is not installed.
tfcredit() { "$PYTHON" -c 'import sys; from tfcredit.cli import main; sys.exit(main())' "$@"; }

say "1. Archives, as image-net.org gives them"
"$PYTHON" tools/make_miniature_imagenet.py --output="$WORK/archives" --images="${IMAGES:-1000}" \
  --validation_images="${VALIDATION_IMAGES:-200}" --classes="${CLASSES:-1000}"

say "2. Shards (with the official archives: no --validation_labels, and the default 1024 and 128)"
tfcredit prepare-imagenet --source="$WORK/archives" --output="$WORK/shards" --train_shards=8 \
  --validation_shards=2 --validation_labels="$WORK/archives/validation_labels.txt"
tfcredit prepare-imagenet --output="$WORK/shards" --verify

say "3. Training"
RUN=$WORK/run
"$PYTHON" run_imagenet.py --rule=info_alignment --model=resnet18 --dataset=imagenet \
  --data_dir="$WORK/shards" --run_dir="$RUN" --steps="${STEPS:-20}" \
  --batch_size="${BATCH_SIZE:-16}" ${IMAGE_SIZE:+--image_size="$IMAGE_SIZE"}
cat "$RUN/metrics.csv"

say "4. TensorBoard, asked for its scalars over HTTP"
PORT=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
"$PYTHON" -m tensorboard.main --logdir="$RUN/tensorboard" --port="$PORT" --load_fast=false \
  >"$WORK/tensorboard.log" 2>&1 &
TENSORBOARD=$!
trap 'kill "$TENSORBOARD" 2>/dev/null || true' EXIT
"$PYTHON" - "http://localhost:$PORT/data/plugin/scalars" <<'PYTHON'
import json, sys, time, urllib.parse, urllib.request

def ask(path):
    with urllib.request.urlopen(sys.argv[1] + path, timeout=10) as answer:
        return json.load(answer)

def tags():
    try:
        return ask("/tags")
    except OSError:  # it is still starting
        return {}

deadline = time.time() + 120
while not any(tags().values()):
    if time.time() > deadline:
        sys.exit("TensorBoard served no scalars within 120 s: see tensorboard.log.")
    time.sleep(1)
for run, names in sorted(tags().items()):
    print(f"{run}: {len(names)} scalars, among them")
    for tag in sorted(name for name in names if name.startswith(("run/", "test/", "train/"))):
        points = ask("/scalars?" + urllib.parse.urlencode({"run": run, "tag": tag}))
        print(f"  {tag:<28} step {points[-1][1]}: {points[-1][2]:.4g}")
PYTHON
kill "$TENSORBOARD"

say "5. Export"
"$PYTHON" run_imagenet.py --flagfile="$RUN/flags.txt" --run_dir="$RUN" --mode=export
ls "$RUN/export"

say "6. The exported backprop twin, in a process where tfcredit can't be imported"
"$PYTHON" -I - "$RUN/export/backprop.keras" <<'PYTHON'
import sys

sys.modules["tfcredit"] = None  # from here on `import tfcredit` fails
import keras
import numpy as np

network = keras.saving.load_model(sys.argv[1])
images = np.random.RandomState(0).randn(2, *network.input_shape[1:]).astype("float32")
logits = network.predict(images, verbose=0)
assert logits.shape == (2, 1000) and np.isfinite(logits).all(), logits
print(f"{network.name}: {network.count_params():,} parameters, logits {logits.shape}")
PYTHON

say "Done: everything is in $WORK"
