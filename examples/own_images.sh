#!/usr/bin/env bash
# Which rule learns my images best? From a folder of images to a table, a figure and a page.
#
#     bash examples/own_images.sh PICTURES
#
# PICTURES holds a folder of images per class. A quarter of 100 images is held out to judge by. By
# environment variables: WORK, the folder for the results (a new temporary one); HELD_OUT (25),
# EPOCHS (10), SEEDS (3).
set -euo pipefail
pictures=$1
work=${WORK:-$(mktemp -d)}

tfcredit compare --rules=backprop,tracking_mirror,info_alignment --seeds="${SEEDS:-3}" --jobs=2 \
  --dataset=folder --data_dir="$pictures" --validation_examples="${HELD_OUT:-25}" \
  --image_size=32 --model=conv --batch_size=8 --epochs="${EPOCHS:-10}" --compare_dir="$work/compare"

# One of the trained networks, on the images that were held out.
tfcredit evaluate --model="$work/compare/runs/tracking_mirror/seed0" --output="$work/seed0.json"
echo "Table: $work/compare/compare.md"
echo "Page:  $work/compare/report.html"
