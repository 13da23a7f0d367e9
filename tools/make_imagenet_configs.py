"""Makes configs/imagenet: a flagfile per network and rule of the paper, with its predicted cost.

    python -m tools.make_imagenet_configs

The cost comes from studies/imagenet_model.py and the counts that its study `imagenet_cost` wrote.
"""

import textwrap

from studies import ROOT
from studies.imagenet_model import BATCH, DEVICES, EPOCHS, RULES, SIZES, cost, read_counts

FOLDER = ROOT / "configs" / "imagenet"
NETWORKS = {
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet50v2": "ResNet-50 v2 (pre-activation; 299 pixels, inception preprocessing)",
    "resnet101v2": "ResNet-101 v2 (pre-activation; 299 pixels, inception preprocessing)",
    "resnet152v2": "ResNet-152 v2 (pre-activation; 299 pixels, inception preprocessing)",
}
WHAT = {
    "backprop": "backprop, the baseline",
    "symmetric_alignment": "symmetric alignment (decay + self; non-local)",
    "activation_alignment": "activation alignment (amp + sparse; non-local)",
    "info_alignment": "information alignment (amp + decay + null; local)",
    "weight_mirror": "weight mirror (amp + decay; local)",
    "feedback_alignment": "feedback alignment (B is random and fixed)",
    "kolen_pollack": "Kolen-Pollack (B gets W's own update and a decay; local)",
}
NOTES = {
    "symmetric_alignment": "Coefficients: those of the authors' code by default, for such long "
    "runs; the package's own default of 0.1 makes B follow W within tens of steps.",
    "activation_alignment": "Coefficients: the authors' defaults, which are the package's.",
    "info_alignment": "Coefficients: the authors' defaults, which are the package's; those that "
    "their search found are not published. Where the authors published a checkpoint of this "
    "rule, it ends at step 1,000,800: at batch 256 that is 200 epochs.",
    "weight_mirror": "Coefficients: the authors' defaults, which are the package's; those that "
    "their search found are not published, and the rule is known to hang on them.",
    "kolen_pollack": "Decay: the authors' default, which is the package's, on B alone; "
    "--inputs=update_forward=true decays W alike.",
}
FLAGS = {"symmetric_alignment": ("--decay=0.002", "--self=0.002")}
OTHERS = {
    ("resnet18", "backprop"): "torchvision's ResNet-18 (another recipe) has 69.76 % top-1.",
    ("resnet18", "feedback_alignment"): "BioTorch's ResNet-18 (another recipe) has 14.75 % top-1.",
    ("resnet50", "backprop"): "TF Model Garden's ResNet-50 (90 epochs, batch 4096, label "
    "smoothing) has 76.1 % top-1, Flax' 76.37 %.",
}
"""Numbers of other people's runs, each with its source."""


def config(network: str, rule: str) -> str:
    """The flagfile of a network and a rule.

    Args:
        network: One of `NETWORKS`.
        rule: One of `RULES`.

    Returns:
        Its text.
    """
    of = cost(read_counts()[network], rule)
    comments = [
        f"{NETWORKS[network]} on ImageNet with {WHAT[rule]}.",
        "Reproduces: Kunin et al. 2020 (arXiv:2003.01513), as far as the authors' code tells: "
        f"{EPOCHS} epochs, batch {BATCH}, Nesterov momentum 0.9, warm-up of 5 epochs, rate 0.1 "
        "divided by 10 at 1/3, 2/3 and 8/9 of training, L2 1e-4.",
    ]
    if rule in NOTES:
        comments.append(NOTES[rule])
    other = OTHERS.get((network, rule))
    comments.append("Paper's top-1: not known here." + (f" {other}" if other else ""))
    lines = []
    for comment in comments:
        lines += textwrap.wrap(comment, 100, initial_indent="# ", subsequent_indent="#   ")
    hours = ", ".join(f"{of.hours(name):.1f} h on {name}" for name in DEVICES)
    lines += [
        f"# Cost: {of.run_flops / 1e18:.2f} EFLOP, predicted (docs/imagenet.md): {hours}",
        "# Result: not run by us",
        "# Command: python run_imagenet.py "
        f"--flagfile=configs/imagenet/{network}_{rule}.cfg --data_dir=DIR",
    ]
    lines += ["--dataset=imagenet", f"--model={network}", f"--rule={rule}", *FLAGS.get(rule, ())]
    return "\n".join(lines) + "\n"


def configs() -> dict[str, str]:
    """All flagfiles.

    Returns:
        Text per file name.
    """
    return {f"{network}_{rule}.cfg": config(network, rule) for network in SIZES for rule in RULES}


def main() -> None:
    """Writes the files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in configs().items():
        (FOLDER / name).write_text(text)
    print(f"{len(configs())} files in {FOLDER}")


if __name__ == "__main__":
    main()
