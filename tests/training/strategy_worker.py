"""Trains small networks and stores their weights: run by `test_strategies.py` in processes.

usage: strategy_worker.py OUTPUT.npz STEPS FLAG...   (the flags of a run, without its directory)
Every `--case=NAME:FLAGS` (comma-separated) is trained once, in the same process.
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np

from tfcredit import data
from tfcredit.optimizers.averages import averages
from tfcredit.training import strategies
from tfcredit.training.loop import evaluate
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import parse
from tfcredit.training.run import Run


def main(output, *arguments):
    cases = [a.removeprefix("--case=") for a in arguments if a.startswith("--case=")]
    shared = [a for a in arguments if not a.startswith("--case=")]
    cluster = strategies.Cluster(strategies.make(parse(shared)[0]))
    results = {}
    for case in cases:
        name, _, flags = case.partition(":")
        run = Run.__new__(Run)
        recipe, _ = parse([*shared, *filter(None, flags.split(";"))])
        run.cluster, run.plan = cluster, Plan.of(recipe)
        run.recipe = run.plan.recipe
        trainer = run._build()

        def batches(host, hosts, replicas, run=run):
            shard = data.Shard(host, hosts, replicas * run.recipe.accumulation_steps)
            return run.plan.images.train(run.recipe.batch_size, 0, 0, 0, shard)

        iterator = iter(cluster.distribute(batches))
        taken, most = 0, run.recipe.steps_per_execution
        while taken < recipe.steps:
            count = min(most, recipe.steps - taken)
            assert trainer.run(iterator, count, first=taken) == (count, False, False)
            taken += count
        with trainer.averaged():
            found = evaluate(trainer, run.plan, cluster)
        metrics = trainer.results() | {f"test_{k}": v for k, v in found.items()}
        for key, value in metrics.items():
            results[f"{name}|metric|{key}"] = value
        kept = {variable.path: variable for variable in trainer.network.weights}
        kept |= {f"average/{v.path}": mean for v, mean in averages(trainer.optimizer)}
        for path, variable in kept.items():
            copies = cluster.strategy.experimental_local_results(variable.value)
            for replica, copy in enumerate(copies):
                results[f"{name}|{replica}|{path}"] = copy.numpy()
    np.savez(output, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
