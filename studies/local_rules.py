"""Local rules without tuning: five networks, three seeds, one set of values for all.

    python studies/local_rules.py --output=studies/results/local_rules.csv

Trains every network under every rule's defaults by plain `compile` and `fit`: one Adam for all
variables, rate 1e-3 with cosine decay, batch 128, no augmentation. Step times are measured apart:
all rules of a network in turn in one process, 5 rounds, each rule's median ratio to backprop of the
same round. Runs that the output file holds are not repeated; `--update` writes the table into
README.md.
"""

import argparse
import pathlib

import embedded_runs
import keras
import tabulation

from tfcredit import rules
from tfcredit.training.environment import environment

NETWORKS = {
    "fc": ("fc", {}),
    "fc_tanh": ("fc", {"depth": 6, "activation": "tanh"}),
    "conv": ("conv", {}),
    "resnet8": ("resnet8", {"width": 8}),
    "resnet20": ("resnet20", {"width": 8}),
}
RULES = ["backprop", "symmetric_alignment", "calibrated_mirror", "phase_free_mirror"]
RULES += ["info_alignment", "weight_mirror"]
FIELDS = ["network", "rule", "seed", "steps", "top1", "loss", "mean_angle", "finite", "seconds"]
FIELDS += ["step_ratio"]


def train(network: str, rule: str, seed: int, steps: int) -> dict:
    """One run; returns its row."""
    name, options = NETWORKS[network]
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model = embedded_runs.make(name, options, rule, seed, rate)
    row = {"network": network, "rule": rule, "seed": seed, "steps": steps}
    return row | embedded_runs.train(model, seed, steps)


def ratios(network: str) -> dict[str, float]:
    """Each rule's step time over backprop's."""
    name, options = NETWORKS[network]
    calls = {}
    for rule in RULES:
        model = embedded_runs.make(name, options, rule, 0, 1e-3)
        calls[rule] = embedded_runs.fit_steps(model)
    result = embedded_runs.step_ratios(calls, "backprop", rounds=5)
    keras.backend.clear_session()
    return result


def asked(rule: str) -> str:
    """The angle that the rule was asked for, where it takes one."""
    angle = getattr(rules.get(rule), "angle", None)
    return "-" if angle is None else f"{angle:.0f}"


def table(rows: list[dict]) -> str:
    """Mean and half range over the seeds, as Markdown."""
    lines = ["| network | rule | top-1, % | angle asked | mean angle reached | diverged | step |"]
    lines.append("|" + "---|" * 7)
    for network in NETWORKS:
        for rule in RULES:
            mine = [row for row in rows if (row["network"], row["rule"]) == (network, rule)]
            if not mine:
                continue
            top1 = tabulation.spread([100 * float(row["top1"]) for row in mine])
            angles = [float(row["mean_angle"]) for row in mine if row["mean_angle"] != ""]
            diverged = sum(str(row["finite"]) != "True" for row in mine)
            lines.append(
                f"| `{network}` | `{rule}` | {top1} | {asked(rule)} | {tabulation.spread(angles)} "
                f"| {diverged} of {len(mine)} | {mine[0].get('step_ratio') or '-'} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what the output file does not hold yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default="studies/results/local_rules.csv")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--update", action="store_true", help="write the table into README.md")
    flags = parser.parse_args()
    rows = tabulation.read(flags.output)
    done = {(row["network"], row["rule"], int(row["seed"]), int(row["steps"])) for row in rows}
    for seed in range(flags.seeds):
        for network in flags.networks:
            for rule in RULES:
                if (network, rule, seed, flags.steps) in done:
                    continue
                rows.append(train(network, rule, seed, flags.steps))
                print(rows[-1], flush=True)
                tabulation.write(flags.output, FIELDS, rows)
    for network in flags.networks:
        mine = [row for row in rows if row["network"] == network]
        if all(row.get("step_ratio") for row in mine):
            continue
        measured = ratios(network)
        for row in mine:
            row["step_ratio"] = f"{measured[row['rule']]:.2f}"
        tabulation.write(flags.output, FIELDS, rows)
    print(table(rows))
    print(environment())
    if flags.update:
        tabulation.put("local_rules", table(rows))


if __name__ == "__main__":
    main()
