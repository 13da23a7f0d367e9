"""The flags of the paper's code beside ours: a list, and the table that is made of it.

    python -m studies authors_flags             # print the table
    python -m studies authors_flags --update    # put it into docs/authors_flags.md

Read off `flags.py` and `params.py` of github.com/neuroailab/Neural-Alignment, commit d83defb
(Kunin et al. 2020, arXiv:2003.01513): all 112 flags of `train.py` and `test.py`.
"""

import dataclasses

from studies.study import Rows, Study
from studies.table import Place
from tfcredit.records import markdown

PAGE = "docs/authors_flags.md"


@dataclasses.dataclass(frozen=True)
class Entry:
    """Flags of the paper's code that belong together.

    Attributes:
        theirs: Their names.
        ours: Flags of ours, with values where they matter; empty if there is none.
        note: What differs, or why there is none.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...] = ()
    note: str = ""


def _entry(theirs: str, ours: str = "", note: str = "") -> Entry:
    return Entry(tuple(theirs.split()), tuple(ours.split()), note)


def _of_coefficients(ending: str) -> str:
    return " ".join(f"{name}_{ending}" for name in ("alpha", "beta", "gamma"))


ENTRIES = {
    "Rule": [
        _entry(
            "alignment",
            "--rule",
            "none, feedback, symmetric, activation, mirror, information, kolen_pollack: backprop, "
            "feedback_alignment, symmetric_alignment, activation_alignment, weight_mirror, "
            "info_alignment, kolen_pollack",
        ),
        _entry(
            "alpha beta gamma",
            "--amp --decay --null --sparse --self",
            "symmetric: decay, self; activation: sparse, amp; mirror: decay, amp; information: "
            "amp, null, decay; Kolen-Pollack: decay. Their decay, null and sparse have no half: "
            "give twice their value",
        ),
        _entry(
            _of_coefficients("start") + " " + _of_coefficients("stop"),
            "--coefficient_start --coefficient_stop --coefficient_schedules",
            "of all coefficients, and of single ones",
        ),
        _entry(
            _of_coefficients("schedule_type") + " " + _of_coefficients("schedule_rate"),
            "--coefficient_change --coefficient_rate --coefficient_schedules",
            "their type cyclic raises an error; a cycle belongs to the other two",
        ),
        _entry(_of_coefficients("cycle"), "--coefficient_cycle --coefficient_schedules"),
        _entry(
            "save_alignment_coefficients",
            "",
            "always: scheduled coefficients are in `metrics.csv`, `steps.csv` and TensorBoard",
        ),
        _entry("input_distribution", "--inputs=noise=normal", "or `noise=uniform`"),
        _entry("input_stddev", "--inputs=stddev=1.0"),
        _entry(
            "use_bias_forward use_bias_backward",
            "--inputs=use_bias_forward=true,use_bias_backward=true",
            "theirs are on by default, ours off",
        ),
        _entry("activation_fn_override", "--inputs=activation=relu"),
        _entry(
            "activation_forward activation_backward",
            "--inputs=activation_forward=true,activation_backward=true",
            "in residual networks relu, for convolutions that one follows behind batch norm",
        ),
        _entry(
            "batch_center_backward_input center_input normalize_input "
            "batch_center_forward_output center_forward_output normalize_forward_output "
            "center_backward_output normalize_backward_output",
            "--inputs=center_input=true",
            "the same names",
        ),
        _entry(
            "reconstruction_amp reconstruction_reversal update_forward",
            "--inputs=update_forward=true",
            "the same names",
        ),
        _entry("use_sparse", "--rule", "a sum: `--rule=0.002*amp+0.001*null+0.001*sparse`"),
    ],
    "Phases": [
        _entry(
            "delay_epochs",
            "--delay_epochs",
            "ours delays the schedule of the learning rate, too, whatever its kind",
        ),
        _entry(
            "alternate_step_freq",
            "--alternate_steps",
            "our schedule of the learning rate covers the task's steps; theirs is stretched",
        ),
        _entry("loss_rate", "", "multiply `--learning_rate`: the same under SGD and momentum"),
        _entry("alignment_rate", "", "multiply the coefficients"),
        _entry(
            "constant_rate",
            "--schedule=steps",
            "their decay of both losses at epochs 30, 60 and 80 acts on SGD as one of the rates",
        ),
    ],
    "Training": [
        _entry("train_epochs", "--epochs --steps"),
        _entry("train_batch_size", "--batch_size"),
        _entry("minibatch_size", "--accumulation_steps", "the number of parts, not their size"),
        _entry(
            "optimizer",
            "--optimizer",
            "gd is sgd. For swats (swrats) train with adam (radam), then a run from its weights "
            "(`--initial_weights`) with sgd",
        ),
        _entry(
            "alignment_optimizer",
            "--feedback_optimizer",
            "adam in the authors' code; our default hangs on the rule",
        ),
        _entry(
            "learning_rate rescale_lr base_batch_size",
            "--learning_rate --base_batch_size",
            "ours is scaled by default, theirs is not: `--base_batch_size=0`",
        ),
        _entry(
            "alignment_learning_rate alignment_rescale_lr",
            "--feedback_learning_rate",
            "never scaled with the batch",
        ),
        _entry(
            "constant_lr",
            "--schedule=constant",
            "else steps: ours drops at 1/3, 2/3 and 8/9 of the run, theirs at epochs 30, 60 and "
            "80, the same for 90 epochs. Their constant rate has no warm-up: `--warmup_epochs=0`",
        ),
        _entry("alignment_constant_lr", "--feedback_schedule"),
        _entry("warmup_epochs", "--warmup_epochs"),
        _entry("alignment_warmup_epochs", "--feedback_warmup_epochs"),
        _entry(
            "manual_lr drop boundary_step alignment_manual_lr alignment_drop "
            "alignment_boundary_step",
            "--initial_weights --learning_rate",
            "a drop by hand is a run of its own from the weights of the one before; the momentum "
            "starts anew",
        ),
        _entry(
            "use_noisy_global_opt noisy_global_opt_distribution noisy_global_opt_variance "
            "noisy_opt_distribution noisy_opt_variance",
            "--noise --noise_variance --noise_variables",
            "of all variables, or of B alone (theirs under Kolen-Pollack)",
        ),
        _entry(
            "use_noisy_alignment_opt noisy_alignment_opt_distribution noisy_alignment_opt_variance",
            "--feedback_noise --feedback_noise_variance",
        ),
        _entry(
            "grad_clip grad_clipping_value grad_clipping_method",
            "--clipnorm --clipvalue --global_clipnorm",
            "of the forward weights' gradients; theirs clip those of R, too",
        ),
    ],
    "Network": [
        _entry("model use_resnet_v2", "--model", "resnet50v2 for the second version"),
        _entry("layers_list", "--widths", "their default is no hidden layer"),
        _entry("activation", "--activation", "their default is sigmoid, ours relu"),
        _entry(
            "regularize_weights_via_model",
            "--l2",
            "0 for none; `--weight_decay` is the decoupled one",
        ),
        _entry("bn_trainable", "--bn_trainable", "false: statistics are fixed, too"),
        _entry("tf_layers", "--rule=backprop", "the same layers, without B"),
    ],
    "Data": [
        _entry("dataset", "--dataset", "mnist is read by TensorFlow Datasets"),
        _entry("data_dir", "--data_dir"),
        _entry("image_size", "--image_size"),
    ],
    "Run": [
        _entry("cache_dir exp_id_suffix", "--run_dir", "a run is a folder, and needs no data base"),
        _entry(
            "port dbname save_to_gfs load_db load_port load_dbname load_collname load_exp_id "
            "val_exp_id",
            "",
            "there is no data base",
        ),
        _entry("skip_check", "", "of tfutils, which is not used"),
        _entry("validate_first", "--evaluate_first", "off by default"),
        _entry("eval_batch_size", "--evaluation_batch_size", "all images are evaluated once"),
        _entry("epochs_per_checkpoint", "--checkpoint_every_steps --checkpoint_every_minutes"),
        _entry("checkpoint_max", "--keep"),
        _entry("do_restore", "--resume", "exact, to the bit"),
        _entry(
            "load_checkpoint load_step",
            "--initial_weights",
            "`tfcredit import-reference` reads their checkpoints, `tfcredit evaluate` evaluates "
            "them (their `test.py validate`)",
        ),
        _entry("load_params_file save_params_file", "--flagfile", "`flags.txt` of each run is one"),
    ],
    "Devices": [
        _entry("gpu", "--strategy --num_replicas", "CUDA_VISIBLE_DEVICES chooses among GPUs"),
        _entry("tpu_name", "--tpu"),
        _entry("tpu_zone gcp_project", "", "the environment of the TPU VM tells them"),
        _entry("num_shards", "", "all cores of the TPU are used"),
        _entry("iterations_per_loop", "--steps_per_execution"),
    ],
}
"""Heading -> flags, in the order of their `flags.py` where that groups them so."""


def table(rows: Rows = ()) -> str:
    """Makes the table.

    Args:
        rows: None: the list is all there is.

    Returns:
        Markdown, a table below each heading.
    """
    parts = []
    for heading, entries in ENTRIES.items():
        cells = [[_code(each.theirs), _code(each.ours) or "-", each.note] for each in entries]
        parts.append(f"## {heading}\n\n{markdown(['theirs', 'ours', 'what differs'], cells)}")
    return "\n\n".join(parts)


def _code(flags) -> str:
    return " ".join(f"`{flag}`" for flag in flags)


STUDY = Study("authors_flags", __doc__, [(table, Place("authors_flags", PAGE))])
