#!/usr/bin/env bash
# One training on two workers, here on one machine; a killed one goes on by the same command.
#
#     bash examples/two_workers.sh
#
# On a cluster every machine runs the same line with its own --worker, and ADDRESSES are those of all
# of them. By environment variables: WORK, the folder of the run, which all workers must see (a new
# temporary one); ADDRESSES (two ports of this machine); STEPS (20).
set -euo pipefail
work=${WORK:-$(mktemp -d)}
addresses=${ADDRESSES:-localhost:23456,localhost:23457}

worker() {
  tfcredit train --rule=tracking_mirror --model=fc --batch_size=64 --steps="${STEPS:-20}" \
    --strategy=multi_worker --workers="$addresses" --worker="$1" --run_dir="$work/run" \
    --resume=auto
}

worker 1 >"$work/worker1.log" 2>&1 &
other=$!
trap 'kill "$other" 2>/dev/null || true' EXIT
worker 0
wait "$other"
