"""All that defines a run: the fields of `Recipe` are the flags of the command line."""

import dataclasses
import re

from tfcredit.errors import UserError
from tfcredit.training import contradictions, flags
from tfcredit.training.flags import flag

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""Value of --precision -> Keras' dtype policy."""
FLAG = re.compile(r"--(?!flagfile\b)\w+(=.*)?")
"""A line of a flagfile that reads no other files, wherever they are."""


def _coefficient(name: str):
    text = f"coefficient of the primitive {name}; default: the rule's"
    return flag(None, "Rule", text, at_least=0.0, sets=("coefficients", name))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The flags of a run. `None` lets the data set or the rule choose (see `plan.Plan`)."""

    rule: str = flag(
        "info_alignment",
        "Rule",
        "name, name(argument=value, ...), sum of primitives, or by layer: PATTERN: RULE; ...",
        shown_in=("tensorboard", "report"),
    )
    import_: str | None = flag(
        None,
        "Rule",
        "FILE.py or MODULE with rules or layers of your own; several with commas",
        path="files or names",
        scope="start",
    )
    amp: float | None = _coefficient("amp")
    decay: float | None = _coefficient("decay")
    null: float | None = _coefficient("null")
    sparse: float | None = _coefficient("sparse")
    self: float | None = _coefficient("self")
    inputs: str = flag(
        "", "Rule", "options of AlignmentInputs, what R sees: noise=normal,center_input=true"
    )
    alignment_fraction: float | None = flag(
        None,
        "Rule",
        "fraction of the batch that R sees; default: all",
        above=0.0,
        at_most=1.0,
        sets=("inputs", "fraction"),
    )
    alignment_precision: str | None = flag(
        None,
        "Rule",
        "of R's products; default: --precision",
        choices=tuple(PRECISIONS),
        sets=("inputs", "precision"),
    )
    coefficient_start: float = flag(
        0.0, "Rule", "fraction of training from which coefficients act", at_least=0.0
    )
    coefficient_stop: float = flag(
        1.0, "Rule", "fraction of training until which coefficients act", above=0.0
    )
    coefficient_change: str = flag(
        "none",
        "Rule",
        "how coefficients change while they act",
        choices=("none", "linear", "exponential"),
    )
    coefficient_rate: float = flag(0.0, "Rule", "change of coefficients per epoch")
    coefficient_cycle: float = flag(
        0.0, "Rule", "epochs of a triangular cycle of that change; 0: no cycle", at_least=0.0
    )
    coefficient_schedules: str = flag(
        "", "Rule", "of single coefficients: amp: start=0.1, stop=0.5; null: change=linear, ..."
    )

    model: str | None = flag(
        None,
        "Network",
        "the network: a name, FILE.keras, or FILE.py:FUNCTION or MODULE:FUNCTION that makes one; "
        "default: resnet8, for ImageNet resnet18",
        path="file or name",
        shown_in=("tensorboard", "report"),
        chooses_images=True,
    )
    model_digest: str | None = flag(
        None, "Network", "fingerprint that FILE or FUNCTION must have; default: any"
    )
    width: int | None = flag(
        None, "Network", "width of a CIFAR-style ResNet; default: the network's", at_least=1
    )
    widths: str | None = flag(
        None, "Network", "units of each hidden layer of fc, as 256,128; default: 256,256,256"
    )
    activation: str | None = flag(
        None, "Network", "of the hidden layers of fc and conv; default: relu"
    )
    l2: float | None = flag(
        None, "Network", "L2 on forward kernels; default: the network's", at_least=0.0
    )
    initial_weights: str | None = flag(
        None,
        "Network",
        "start from the weights of a .keras, .weights.h5 or .h5 file, a run, one of its "
        "checkpoints, or a TensorFlow 1 checkpoint of the paper's authors",
        path="path",
    )
    initial_head: str | None = flag(
        None,
        "Network",
        "the last layer of --initial_weights; default: keep",
        choices=("keep", "drop"),
    )
    trainable: str | None = flag(
        None,
        "Network",
        "regular expression for names of layers: these train, the others are frozen; default: all",
    )
    bn_trainable: bool | None = flag(
        None,
        "Network",
        "false: batch norms are frozen, and normalize by their moving statistics; default: they "
        "train, but for --trainable",
    )
    sync_batch_norm: bool = flag(
        False, "Network", "normalize over the images of all replicas, not of each one"
    )

    dataset: str = flag(
        "auto",
        "Data",
        "auto (ImageNet if found, else embedded), embedded, folder (one per class), arrays (a .npz "
        "file), imagenet, synthetic, or a TFDS name",
        shown_in=("report",),
        chooses_images=True,
    )
    data_dir: str | None = flag(
        None,
        "Data",
        "folder of the data set, file of arrays",
        path="path",
        scope="start",
        chooses_images=True,
    )
    batch_size: int | None = flag(
        None,
        "Data",
        "images per step; default: 128, for ImageNet 256",
        at_least=1,
        shown_in=("tensorboard",),
    )
    augment: bool | None = flag(
        None,
        "Data",
        "crop and flip at random; default: true, for the embedded set and arrays false",
    )
    preprocessing: str | None = flag(
        None,
        "Data",
        "of ImageNet's and folders' images; default: resnet, for v2 networks inception; "
        "raw: colours of 0 to 255, arrays as they are",
        choices=("resnet", "inception", "raw"),
        chooses_images=True,
    )
    image_size: int | None = flag(
        None,
        "Data",
        "height and width in pixels; default for ImageNet and folders: 224, with inception 299",
        at_least=8,
        chooses_images=True,
    )
    validation_examples: int | None = flag(
        None,
        "Data",
        "training images held out, by which a search and checkpoints/best choose, not by test "
        "images; default: none",
        at_least=1,
        chooses_images=True,
    )
    max_corrupt_records: int = flag(
        0, "Data", "damaged images to skip before the run stops", at_least=0, scope="start"
    )

    epochs: float | None = flag(
        None, "Training", "passes over the training images; default: 5, for ImageNet 90", above=0.0
    )
    steps: int | None = flag(None, "Training", "optimizer steps, instead of --epochs", at_least=1)
    optimizer: str = flag(
        "momentum", "Training", "optimizer of the forward weights; momentum is Nesterov's"
    )
    momentum: float = flag(0.9, "Training", "momentum of --optimizer=momentum", at_least=0.0)
    learning_rate: float | None = flag(
        None,
        "Training",
        "rate at batch 256, scaled linearly with --batch_size; default: 0.1",
        above=0.0,
        shown_in=("tensorboard",),
    )
    base_batch_size: int = flag(
        256,
        "Training",
        "the batch that --learning_rate is for; 0: the rate is not scaled",
        at_least=0,
    )
    schedule: str | None = flag(
        None,
        "Training",
        "of the learning rate; default: cosine, for ImageNet steps (x0.1 at 1/3, 2/3, 8/9)",
        choices=("cosine", "steps", "constant"),
    )
    warmup_epochs: float | None = flag(
        None,
        "Training",
        "linear warm-up of the learning rate; default: 0.5, for ImageNet 5",
        at_least=0.0,
    )
    feedback_optimizer: str | None = flag(
        None, "Training", "optimizer of the feedback kernels; default: the rule's"
    )
    feedback_learning_rate: float | None = flag(
        None, "Training", "rate of --feedback_optimizer, not scaled; default: the rule's", above=0.0
    )
    feedback_schedule: str = flag(
        "constant",
        "Training",
        "of --feedback_learning_rate, as --schedule",
        choices=("cosine", "steps", "constant"),
    )
    feedback_warmup_epochs: float = flag(
        0.0, "Training", "linear warm-up of --feedback_learning_rate", at_least=0.0
    )
    delay_epochs: float = flag(
        0.0, "Training", "epochs at the start in which only the alignment learns", at_least=0.0
    )
    alternate_steps: int = flag(
        0,
        "Training",
        "task steps after each alignment step (mirror, engaged); 0: both in every step",
        at_least=0,
    )
    alignment_every: int = flag(
        1, "Training", "train the feedback kernels by R in every k-th step only", at_least=1
    )
    accumulation_steps: int = flag(
        1, "Training", "parts of a batch, computed one by one to save memory", at_least=1
    )
    label_smoothing: float | None = flag(
        None,
        "Training",
        "part of each label that is spread over all classes, in training; default: 0",
        at_least=0.0,
        at_most=1.0,
    )
    early_stopping: int | None = flag(
        None,
        "Training",
        "stop after so many epochs without a better top-1 of the validation images, if there are "
        "such, else of the test images",
        at_least=1,
    )

    noise: str = flag(
        "none",
        "Updates",
        "distribution of noise to add to updates",
        choices=("none", "normal", "uniform"),
    )
    noise_variance: float = flag(0.0, "Updates", "variance of that noise", at_least=0.0)
    noise_variables: str = flag(
        "all", "Updates", "variables that get that noise", choices=("all", "feedback")
    )
    feedback_noise: str | None = flag(
        None,
        "Updates",
        "distribution of noise of --feedback_optimizer's own; default: as --noise",
        choices=("none", "normal", "uniform"),
    )
    feedback_noise_variance: float | None = flag(
        None, "Updates", "variance of --feedback_noise", at_least=0.0
    )
    clipnorm: float | None = flag(
        None,
        "Updates",
        "largest norm of the gradient of each forward weight, summed over all replicas",
        above=0.0,
    )
    global_clipnorm: float | None = flag(
        None, "Updates", "largest norm of all these gradients together", above=0.0
    )
    clipvalue: float | None = flag(
        None, "Updates", "largest number in each of these gradients", above=0.0
    )
    weight_decay: float | None = flag(
        None,
        "Updates",
        "decoupled decay of forward kernels, times the learning rate; default: the optimizer's",
        at_least=0.0,
    )
    ema_momentum: float | None = flag(
        None,
        "Updates",
        "evaluate and keep moving averages of the weights, of this momentum such as 0.999",
        above=0.0,
        below=1.0,
    )

    run_dir: str | None = flag(
        None, "Run", "folder of the run; default: a new one in runs/", path="path", scope="once"
    )
    mode: str = flag(
        "train_and_evaluate",
        "Run",
        "train: evaluate at the end only; evaluate: every new checkpoint in --run_dir; "
        "export: the newest one as model.keras, SavedModel and plain Keras network",
        choices=("train", "evaluate", "train_and_evaluate", "export"),
        scope="once",
    )
    seed: int = flag(
        0, "Run", "seed of all random draws", at_least=0, shown_in=("tensorboard", "report")
    )
    deterministic: bool = flag(False, "Run", "compute the same bits in every run on a machine")
    resume: str = flag(
        "never",
        "Run",
        "continue the run in --run_dir: never, auto (if there is one), must",
        choices=("never", "auto", "must"),
        scope="once",
    )
    overwrite: bool = flag(False, "Run", "delete the run in --run_dir first", scope="once")
    checkpoint_every_steps: int = flag(
        1000,
        "Run",
        "steps between checkpoints; each epoch ends with one too",
        at_least=1,
        scope="start",
    )
    checkpoint_every_minutes: float | None = flag(
        None, "Run", "minutes between further checkpoints; default: none", above=0.0, scope="start"
    )
    evaluation_batch_size: int | None = flag(
        None,
        "Run",
        "images per step of an evaluation; default: --batch_size",
        at_least=1,
        scope="start",
    )
    evaluate_first: bool = flag(False, "Run", "evaluate before the first step too", scope="start")
    log_every_steps: int | None = flag(
        None,
        "Run",
        "steps between rows of steps.csv, lines and points in TensorBoard within an epoch; "
        "default: none, for ImageNet 100",
        at_least=1,
        scope="start",
    )
    keep: int = flag(3, "Run", "checkpoints to keep", at_least=1, scope="start")
    histograms: bool = flag(
        False, "Run", "write histograms of all kernels to TensorBoard", scope="start"
    )
    measures: bool = flag(
        False,
        "Run",
        "compare errors and gradients with backprop's, in measures.csv and TensorBoard",
        scope="start",
    )
    measure_every_steps: int = flag(
        200, "Run", "steps between two measurements of --measures", at_least=1, scope="start"
    )

    strategy: str = flag(
        "auto",
        "Device",
        "where to compute; auto: what the machine has",
        choices=("auto", "one_device", "mirrored", "multi_worker", "tpu"),
        scope="start",
    )
    num_replicas: int | None = flag(
        None, "Device", "devices that share a batch; default: all GPUs", at_least=1, scope="start"
    )
    workers: str | None = flag(
        None,
        "Device",
        "host:port,host:port of all workers, the same list on each, or node[1-4]:port; "
        "default: TF_CONFIG's or SLURM's",
        scope="once",
    )
    worker: int | None = flag(
        None, "Device", "index of this worker in --workers", at_least=0, scope="once"
    )
    wait_for_workers: float = flag(
        300.0,
        "Device",
        "seconds that workers wait for each other at the start",
        above=0.0,
        scope="start",
    )
    tpu: str | None = flag(None, "Device", "local (on a TPU VM) or the TPU's name", scope="start")
    steps_per_execution: int | None = flag(
        None,
        "Device",
        "steps without a return to Python; default: 1, on a TPU 100",
        at_least=1,
        scope="start",
    )
    precision: str = flag(
        "float32", "Device", "of activity and products", choices=tuple(PRECISIONS)
    )
    jit_compile: bool = flag(False, "Device", "compile the training step with XLA")

    def __post_init__(self):
        flags.check(self)
        contradictions.check(self)

    def flagfile(self) -> str:
        """Write the recipe as a flagfile.

        Returns:
            A flag a line, without those of a single start. Paths are absolute, so that they lead
            to the same files from any working directory.
        """
        lines = []
        for name in flags.of_scope(self, "run", "start"):
            value = flags.absolute(self, name, getattr(self, name))
            name = flags.name_of(name)
            if isinstance(value, bool):
                lines.append(f"--{'' if value else 'no'}{name}")
            elif value is not None:
                lines.append(f"--{name}={value}")
        return "\n".join(lines) + "\n"


def parse(arguments: list[str]) -> tuple[Recipe, set[str]]:
    """Read a recipe from command-line arguments.

    Args:
        arguments: Without the program's name; `--flagfile=FILE` is read in place.

    Returns:
        The recipe, and the names of the flags that were given.

    Raises:
        UserError: Unknown flags, unreadable values or files, values out of range.
    """
    values, given = flags.read(Recipe, arguments)
    return Recipe(**values), given


def recipe_of(lines: list[str]) -> Recipe:
    """Read a recipe that `Recipe.flagfile` wrote, in this version or an earlier one.

    Args:
        lines: A flag each, an empty line or a comment behind `#`.

    Returns:
        The recipe.

    Raises:
        UserError: As `parse`, or a line is no flag or reads another file, or there is no flag.
    """
    lines = [line.strip() for line in lines]
    lines = [line for line in lines if line and not line.startswith("#")]
    odd = [line for line in lines if not FLAG.fullmatch(line)]
    if odd or not lines:
        raise UserError(f"{odd[0][:60]!r} is no flag" if odd else "it is empty")
    given = {line.partition("=")[0].lstrip("-"): line.partition("=")[2] for line in lines}
    if given.get("dataset") in contradictions.WITHOUT_FOLDER:  # earlier versions kept it
        lines = [line for line in lines if not line.lstrip("-").startswith("data_dir=")]
    return parse(lines)[0]
