"""The scales: networks and lengths of runs, as flags of `run_imagenet.py`."""

import dataclasses

Flags = tuple[str, ...]

EMBEDDED: Flags = ("--dataset=embedded", "--mode=train", "--checkpoint_every_steps=100000")


@dataclasses.dataclass(frozen=True)
class Scale:
    """Networks, lengths and numbers of runs.

    Attributes:
        name: As `--scale` takes it.
        base: Flags of every run.
        network: The network that rules are tuned and compared on.
        depths: Networks of one family, from shallow to deep.
        targets: Other networks, to which tuned values are applied.
        widths: Narrower and wider forms of `network`.
        without_batch_norm: Networks that have none.
        seeds: Runs of each setting.
        trials: Random draws of metaparameters for each rule.
        searched: Trials of each search by TPE; 0 where the best random draw counts as tuned.
        variances: Of the noise on updates.
        images: Test images that are attacked.
        chance: Accuracy of guessing, which a run that diverged counts as.
        rate: Largest learning rate of the forward weights, as the base flags make it.
    """

    name: str
    base: Flags
    network: str
    depths: dict[str, Flags]
    targets: dict[str, Flags]
    widths: dict[str, Flags]
    without_batch_norm: dict[str, Flags]
    seeds: int
    trials: int
    variances: tuple[float, ...]
    images: int
    chance: float
    rate: float
    searched: int = 0

    @property
    def networks(self) -> dict[str, Flags]:
        """Every network of the scale by its name."""
        return self.depths | self.targets | self.widths | self.without_batch_norm


def _resnet(depth: int, width: int = 8) -> Flags:
    return (f"--model=resnet{depth}", f"--width={width}")


SMOKE = Scale(
    "smoke",
    (*EMBEDDED, "--steps=3", "--batch_size=16", "--learning_rate=0.16"),
    network="fc",
    depths={"fc": ("--model=fc",)},
    targets={"conv": ("--model=conv",)},
    widths={},
    without_batch_norm={},
    seeds=1,
    trials=1,
    variances=(1.0,),
    images=20,
    chance=0.1,
    rate=0.01,
    searched=2,
)
LAPTOP = Scale(
    "laptop",
    (
        *EMBEDDED,
        *("--steps=300", "--batch_size=32", "--learning_rate=0.16", "--warmup_epochs=0.1"),
    ),
    network="resnet8",
    depths={f"resnet{depth}": _resnet(depth) for depth in (8, 20, 56)},
    targets={
        "fc": ("--model=fc",),
        "conv": ("--model=conv",),
        "resnet8, width 4": _resnet(8, 4),
        "resnet20": _resnet(20),
    },
    widths={"resnet8, width 4": _resnet(8, 4)},
    without_batch_norm={"fc": ("--model=fc",), "conv": ("--model=conv",)},
    seeds=3,
    trials=16,
    variances=(0.1, 1.0),
    images=500,
    chance=0.1,
    rate=0.02,
)
# Seeds are cut before lengths: we estimate 20 hours of a core with three.
DESKTOP = dataclasses.replace(
    LAPTOP,
    name="desktop",
    base=(*EMBEDDED, "--epochs=10", "--batch_size=128"),
    rate=0.05,
    searched=40,
)
IMAGENET = Scale(
    "imagenet",
    ("--dataset=imagenet", "--mode=train", "--checkpoint_every_steps=5000"),
    network="resnet18",
    depths={f"resnet{depth}": (f"--model=resnet{depth}",) for depth in (18, 34, 50, 101, 152)},
    targets={
        model: (f"--model={model}",)
        for model in ("resnet34", "resnet50", "resnet50v2", "resnet101v2")
    },
    widths={},
    without_batch_norm={},
    seeds=3,
    trials=60,
    variances=(0.01, 0.1, 1.0),
    images=5000,
    chance=0.001,
    rate=0.1,
    searched=60,
)
SCALES = {scale.name: scale for scale in (SMOKE, LAPTOP, DESKTOP, IMAGENET)}
