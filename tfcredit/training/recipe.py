"""All that defines a run: the fields of `Recipe` are the flags of the command line."""

import dataclasses
import math
import textwrap
from typing import Any, get_args, get_type_hints

from absl import flags

from tfcredit.errors import UserError

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


LARGEST = 2**31 - 1
"""The largest number that a flag takes: what TensorFlow counts with."""

# Of one start of a run, or of one of its workers; a flagfile that repeats the run leaves them out.
OWN = ("run_dir", "overwrite", "resume", "mode", "workers", "worker")


def _flag(
    default,
    group: str,
    text: str,
    choices: tuple[str, ...] = (),
    at_least=None,
    above=None,
    at_most=None,
):
    metadata = {
        "group": group,
        "help": text,
        "choices": choices,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A run. `None` means: chosen by the data set or the rule (see `defaults.complete`)."""

    rule: str = _flag(
        "info_alignment", "Rule", "name, name(argument=value, ...), or a sum of primitives"
    )
    amp: float | None = _flag(None, "Rule", "coefficient of amp; default: the rule's", (), 0.0)
    decay: float | None = _flag(None, "Rule", "coefficient of decay; default: the rule's", (), 0.0)
    null: float | None = _flag(None, "Rule", "coefficient of null; default: the rule's", (), 0.0)
    sparse: float | None = _flag(
        None, "Rule", "coefficient of sparse; default: the rule's", (), 0.0
    )
    self: float | None = _flag(None, "Rule", "coefficient of self; default: the rule's", (), 0.0)
    inputs: str = _flag(
        "", "Rule", "what R sees: options of AlignmentInputs, as noise=normal,center_input=true"
    )
    alignment_fraction: float | None = _flag(
        None, "Rule", "share of the batch that R sees; default: all", above=0.0, at_most=1.0
    )
    alignment_precision: str | None = _flag(
        None, "Rule", "of R's products; default: --precision", tuple(PRECISIONS)
    )
    coefficient_start: float = _flag(
        0.0, "Rule", "coefficients act from this fraction of training on", at_least=0.0
    )
    coefficient_stop: float = _flag(
        1.0, "Rule", "coefficients act up to this fraction of training", above=0.0
    )
    coefficient_change: str = _flag(
        "none", "Rule", "how coefficients change", ("none", "linear", "exponential")
    )
    coefficient_rate: float = _flag(0.0, "Rule", "their change per epoch")
    coefficient_cycle: float = _flag(
        0.0, "Rule", "epochs of a triangular cycle of that change; 0: none", at_least=0.0
    )

    model: str | None = _flag(None, "Network", "name; default: resnet8 or, for ImageNet, resnet18")
    width: int | None = _flag(None, "Network", "width of a CIFAR-style ResNet", at_least=1)
    l2: float | None = _flag(None, "Network", "L2 on forward kernels; default: the net's", (), 0.0)

    sync_batch_norm: bool = _flag(
        False, "Network", "batch norm over all replicas, not over each one's images"
    )

    dataset: str = _flag(
        "auto",
        "Data",
        "auto (ImageNet if found, else embedded), embedded, imagenet, synthetic, or a TFDS name",
    )
    data_dir: str | None = _flag(None, "Data", "folder of the data set")
    batch_size: int | None = _flag(
        None, "Data", "images per step; default 128, ImageNet 256", (), 1
    )
    augment: bool | None = _flag(
        None, "Data", "random crops and flips; default: for ImageNet, not for the embedded set"
    )
    preprocessing: str | None = _flag(
        None,
        "Data",
        "of ImageNet; default resnet, for v2 networks inception",
        ("resnet", "inception"),
    )
    image_size: int | None = _flag(
        None, "Data", "pixels; ImageNet's default is 224, with inception 299", at_least=8
    )
    max_corrupt_records: int = _flag(
        0, "Data", "damaged images that are skipped before the run stops", at_least=0
    )

    epochs: float | None = _flag(
        None, "Training", "passes over the training images; default 5, ImageNet 90", above=0.0
    )
    steps: int | None = _flag(None, "Training", "optimizer steps, instead of --epochs", at_least=1)
    optimizer: str = _flag(
        "momentum", "Training", "for the forward weights; momentum is Nesterov's"
    )
    momentum: float = _flag(0.9, "Training", "of --optimizer=momentum", at_least=0.0)
    learning_rate: float | None = _flag(
        None, "Training", "at batch 256, scaled linearly; default 0.1", above=0.0
    )
    schedule: str | None = _flag(
        None,
        "Training",
        "of the learning rate; default cosine, ImageNet steps (x0.1 at 1/3, 2/3, 8/9 of training)",
        ("cosine", "steps", "constant"),
    )
    warmup_epochs: float | None = _flag(
        None, "Training", "linear warm-up; default 0.5, ImageNet 5", at_least=0.0
    )
    feedback_optimizer: str | None = _flag(
        None, "Training", "for the feedback kernels; default: the rule's"
    )
    feedback_learning_rate: float | None = _flag(
        None, "Training", "constant rate of --feedback_optimizer; default: the rule's", above=0.0
    )
    delay_epochs: float = _flag(
        0.0, "Training", "epochs in which only the alignment learns", at_least=0.0
    )
    alternate_steps: int = _flag(
        0, "Training", "task steps between alignment steps (mirror/engaged); 0: both always", (), 0
    )
    alignment_every: int = _flag(
        1, "Training", "R teaches B at each so many-th step; its optimizer rests between", (), 1
    )
    accumulation_steps: int = _flag(
        1, "Training", "parts a batch is computed in, one after the other, to save memory", (), 1
    )
    noise: str = _flag("none", "Training", "noise added to updates", ("none", "normal", "uniform"))
    noise_variance: float = _flag(0.0, "Training", "its variance", at_least=0.0)
    noise_variables: str = _flag("all", "Training", "what it is added to", ("all", "feedback"))

    run_dir: str | None = _flag(None, "Run", "folder of the run; default: a new one below runs/")
    mode: str = _flag(
        "train_and_evaluate",
        "Run",
        "train evaluates at the end only; evaluate: every new checkpoint of the run in --run_dir; "
        "export: it as model.keras, SavedModel and plain Keras network",
        ("train", "evaluate", "train_and_evaluate", "export"),
    )
    seed: int = _flag(0, "Run", "of all random draws", at_least=0)
    deterministic: bool = _flag(False, "Run", "the same bits in every run on the same machine")
    resume: str = _flag(
        "never",
        "Run",
        "continue the run in --run_dir: never, auto (if there is one), must",
        ("never", "auto", "must"),
    )
    overwrite: bool = _flag(False, "Run", "delete the run that --run_dir holds")
    checkpoint_every_steps: int = _flag(
        1000, "Run", "steps between checkpoints (and one after each epoch)", at_least=1
    )
    checkpoint_every_minutes: float | None = _flag(
        None, "Run", "minutes between checkpoints, besides those by steps", above=0.0
    )
    keep: int = _flag(3, "Run", "number of checkpoints kept", at_least=1)
    histograms: bool = _flag(False, "Run", "write histograms of all kernels to TensorBoard")
    measures: bool = _flag(
        False, "Run", "measure errors and gradients against backprop's: measures.csv, TensorBoard"
    )
    measure_every_steps: int = _flag(
        200, "Run", "steps between two measurements of --measures", at_least=1
    )

    strategy: str = _flag(
        "auto",
        "Device",
        "where to compute; auto: what the machine has",
        ("auto", "one_device", "mirrored", "multi_worker", "tpu"),
    )
    num_replicas: int | None = _flag(
        None, "Device", "devices that share a batch; default: all GPUs", (), 1
    )
    workers: str | None = _flag(
        None, "Device", "host:port,host:port of all workers, the same list on each; or TF_CONFIG"
    )
    worker: int | None = _flag(None, "Device", "this worker's place in --workers", at_least=0)
    tpu: str | None = _flag(None, "Device", "local (on a TPU VM) or the TPU's name")
    steps_per_execution: int | None = _flag(
        None, "Device", "steps before coming back to Python; default 1, on a TPU 100", at_least=1
    )
    precision: str = _flag("float32", "Device", "of activations and products", tuple(PRECISIONS))
    jit_compile: bool = _flag(False, "Device", "compile the training step with XLA")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        self._check_contradictions()

    def _check_contradictions(self):
        def forbid(condition, first, second, why):
            if condition:
                raise UserError(f"--{first} and --{second} contradict each other: {why}.")

        forbid(
            self.epochs is not None and self.steps is not None,
            f"epochs={self.epochs}",
            f"steps={self.steps}",
            "both give the length of the run; leave one out",
        )
        forbid(
            self.overwrite and self.resume != "never",
            "overwrite",
            f"resume={self.resume}",
            "one deletes the run that the other continues",
        )
        forbid(
            self.deterministic and self.jit_compile,
            "deterministic",
            "jit_compile",
            "TensorFlow turns XLA off in deterministic mode",
        )
        forbid(
            self.mode in ("evaluate", "export") and self.overwrite,
            f"mode={self.mode}",
            "overwrite",
            "there would be nothing left to read",
        )
        forbid(
            self.accumulation_steps > 1
            and bool(self.batch_size)
            and (self.batch_size % self.accumulation_steps != 0),
            f"accumulation_steps={self.accumulation_steps}",
            f"batch_size={self.batch_size}",
            "the parts of a batch must be equal",
        )
        forbid(
            self.alignment_every > 1 and self.alternate_steps > 0,
            f"alignment_every={self.alignment_every}",
            f"alternate_steps={self.alternate_steps}",
            "both choose the steps of the alignment",
        )
        forbid(
            self.noise == "none" and self.noise_variance > 0,
            "noise=none",
            f"noise_variance={self.noise_variance}",
            "choose --noise=normal or uniform",
        )
        forbid(
            self.coefficient_start >= self.coefficient_stop,
            f"coefficient_start={self.coefficient_start}",
            f"coefficient_stop={self.coefficient_stop}",
            "the start must come before the stop",
        )

    def flagfile(self) -> str:
        """The recipe as a flagfile, one flag a line, without the run directory."""
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None or field.name in OWN:
                continue
            if isinstance(value, bool):
                lines.append(f"--{'' if value else 'no'}{field.name}")
            else:
                lines.append(f"--{field.name}={value}")
        return "\n".join(lines) + "\n"


def _check(field: dataclasses.Field, value: Any) -> None:
    """Raise a UserError if a flag's value is out of its range."""
    limits = field.metadata
    if limits["choices"] and value is not None and value not in limits["choices"]:
        raise UserError(
            f"--{field.name}={value} is unknown: choose one of {', '.join(limits['choices'])}."
        )
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if not math.isfinite(value):
        raise UserError(f"--{field.name}={value} must be a finite number.")
    if abs(value) > LARGEST:
        raise UserError(f"--{field.name}={value} must lie within -{LARGEST} and {LARGEST}.")
    if limits["at_least"] is not None and value < limits["at_least"]:
        raise UserError(f"--{field.name}={value} must be at least {limits['at_least']}.")
    if limits["above"] is not None and value <= limits["above"]:
        raise UserError(f"--{field.name}={value} must be greater than {limits['above']}.")
    if limits["at_most"] is not None and value > limits["at_most"]:
        raise UserError(f"--{field.name}={value} must be at most {limits['at_most']}.")


def _flag_values() -> flags.FlagValues:
    """The recipe's fields as absl flags, in a set of their own."""
    values = flags.FlagValues()
    define = {
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        bool: flags.DEFINE_boolean,
    }
    hints = get_type_hints(Recipe)
    for field in dataclasses.fields(Recipe):
        kind = next(k for k in (*get_args(hints[field.name]), hints[field.name]) if k in define)
        define[kind](field.name, field.default, field.metadata["help"], flag_values=values)
    flags.DEFINE_string("flagfile", "", "read flags from this file", flag_values=values)
    return values


def parse(arguments: list[str]) -> tuple[Recipe, set[str]]:
    """Read a recipe from command-line arguments.

    Args:
        arguments: Without the program's name; `--flagfile=FILE` is read in place.

    Returns:
        The recipe, and the names of the flags that were given.

    Raises:
        UserError: Unknown flags, unreadable values or files, values out of range.
    """
    values = _flag_values()
    try:
        rest = values(["tfcredit", *arguments])[1:]
    except (flags.Error, OSError) as problem:
        raise UserError(f"{str(problem).rstrip('.')}; --help lists the flags.") from None
    if rest:
        raise UserError(f"{rest[0]!r} is no flag; flags look like --name=value, see --help.")
    names = [field.name for field in dataclasses.fields(Recipe)]
    given = {name for name in names if values[name].present}
    return Recipe(**{name: values[name].value for name in names}), given


def usage(program: str) -> str:
    """The help text: flags in groups, one line each."""
    lines = [f"usage: {program} [--flagfile=FILE] [--FLAG=VALUE ...]"]
    group = None
    for field in dataclasses.fields(Recipe):
        if field.metadata["group"] != group:
            group = field.metadata["group"]
            lines += ["", f"{group}:"]
        default = "" if field.default in (None, "") else f" [{field.default}]"
        choices = f" ({', '.join(field.metadata['choices'])})" if field.metadata["choices"] else ""
        text = f"{field.metadata['help']}{choices}{default}"
        lines += textwrap.wrap(
            text, 100, initial_indent=f"  --{field.name:<24}", subsequent_indent=" " * 28
        )
    return "\n".join(lines)
