"""The training step and the evaluation step of a network, with their losses and metrics."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import tensorflow as tf

from tfcredit.analysis import feedback_layers
from tfcredit.layers import DirectFeedback, FeedbackLayer
from tfcredit.layers.losses import penalty
from tfcredit.layers.routing import without_alignment
from tfcredit.layers.states import random_states, unchanged
from tfcredit.optimizers.averages import averaged, averages, start_averages
from tfcredit.schedules import TaskRate
from tfcredit.training.state import AVERAGE, named, variables_of

# Between the random seeds of two replicas.
APART = 1_000_003


class Trainer:
    """Trains a compiled network of feedback layers; holds the metrics of an epoch.

    The objective is task_rate * (cross entropy + L2) + sum over layers of R (Kunin et al. 2020,
    section 3). Every replica computes it of its part of the batch; N replicas with n images each
    take the step of one device with N * n images. One step serves all strategies: there is no
    `tf.cond` in it, under which replicas could not exchange gradients.

    Make it in the scope of `strategy`.

    Args:
        network: A model that returns logits, compiled with its optimizer.
        task_rate: Factor on cross entropy and L2 as a function of the step; `None` for 1.
        jit_compile: True to compile the step with XLA.
        strategy: Where to compute; default: one device.
        accumulation_steps: Batches whose gradients are averaged for one optimizer step, >= 1.
        alignment_every: R is computed and teaches B in the steps 0, k, 2k, ... only, k >= 1. The
            steps between are a function of their own without R: they take no product for it, and
            B has no gradient to exchange or apply. Give `PartitionedOptimizer` `feedback_rests`,
            so that B's optimizer counts the steps in which B learns.
        label_smoothing: Part of each label that is spread evenly over all classes, in [0, 1]
            (Szegedy et al. 2016, section 7). The evaluation's cross entropy is of the labels.
    """

    def __init__(
        self,
        network: keras.Model,
        task_rate: TaskRate | None = None,
        jit_compile: bool = False,
        strategy: tf.distribute.Strategy | None = None,
        accumulation_steps: int = 1,
        alignment_every: int = 1,
        label_smoothing: float = 0.0,
    ):
        self.network = network
        self.optimizer = network.optimizer
        self.task_rate = task_rate
        self.jit_compile = jit_compile
        self.strategy = strategy or tf.distribute.get_strategy()
        self.accumulation_steps = accumulation_steps
        self.alignment_every = alignment_every
        self.label_smoothing = label_smoothing
        top = min(5, network.output_shape[-1])
        self.metrics = {
            "loss": keras.metrics.Mean("loss"),
            "task_loss": keras.metrics.Mean("task_loss"),
            "l2_loss": keras.metrics.Mean("l2_loss"),
            "alignment_loss": keras.metrics.Mean("alignment_loss"),
            "top1": keras.metrics.SparseCategoricalAccuracy("top1"),
            "top5": keras.metrics.SparseTopKCategoricalAccuracy(top, "top5"),
        }
        self.test_metrics = {
            "loss": keras.metrics.Mean("test_loss"),
            "top1": keras.metrics.SparseCategoricalAccuracy("test_top1"),
            "top5": keras.metrics.SparseTopKCategoricalAccuracy(top, "test_top5"),
        }
        self._aligned = [layer for layer in feedback_layers(network) if layer.rule.learns]
        self._direct = [each for each in network.layers if isinstance(each, DirectFeedback)]
        own = FeedbackLayer | DirectFeedback
        self._others = [each for each in network._flatten_layers() if not isinstance(each, own)]
        self._statistics = [
            variable
            for each in self._others
            for variable in each._non_trainable_variables
            if tf.as_dtype(variable.dtype).is_floating
        ]
        self.optimizer.build(network.trainable_variables)
        for metric in (*self.metrics.values(), *self.test_metrics.values()):
            _build(metric, network.output_shape[-1])
        self._sums = []
        if accumulation_steps > 1:
            self._sums = [_local_zeros(v.shape, v.dtype) for v in network.trainable_variables]
            self._not_finite = _local_zeros((), "float32")  # losses since the last step
        # Without AutoGraph, as Keras traces its steps: it would translate all that a step calls.
        graph = functools.partial(tf.function, autograph=False)
        # Only XLA needs a function around what a replica does: the outer one holds the graph.
        compile_it = graph(jit_compile=True) if jit_compile else lambda function: function
        self._replica_step = _with_and_without_r(self._take_step, compile_it)
        self._replica_accumulation = _with_and_without_r(self._accumulate, compile_it)
        self._replica_update = _with_and_without_r(self._apply_sums, compile_it)
        self._replica_test = compile_it(self._evaluate_batch)
        self._one_step = _with_and_without_r(self._next_step, graph(reduce_retracing=True))
        self._many_steps = _with_and_without_r(self._next_steps, graph(reduce_retracing=True))
        self._evaluate = graph(self._evaluate_next, reduce_retracing=True)

    @property
    def state(self) -> dict[str, tf.Variable]:
        """All state of a training by name: kernels, statistics, optimizer slots, steps, metrics."""
        metrics = {f"metrics/{name}": metric for name, metric in self.metrics.items()}
        found = named({"network": self.network, "optimizer": self.optimizer, **metrics})
        # Under the names of the weights, so that whoever reads a checkpoint finds them.
        paths = {id(v): name for name, v in variables_of(AVERAGE, self.network).items()}
        own = {id(average.value): paths[id(w)] for w, average in averages(self.optimizer)}
        return {own.get(id(variable), name): variable for name, variable in found.items()}

    def start_averages(self) -> None:
        """Begin the moving averages, if the optimizer keeps any, with the weights as they are."""
        start_averages(self.optimizer)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """A context with the moving averages, if there are any, in the place of the weights."""
        return averaged(self.optimizer)

    def objective(self, images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """The losses of one batch in training mode: total, task, L2, alignment; and logits.

        The total is `errors`, whose gradient travels down the network, plus `kernels`, whose does
        not: L2, and R but where a rule learns from the error that reaches its layer. What layers
        without feedback kernels add by `add_loss` belongs to `errors`.
        """
        logits = tf.cast(self.network(images, training=True), tf.float32)
        # Not Keras' loss class, which divides by the number of replicas on its own (Keras 3.15).
        task = _cross_entropy(labels, logits)
        if self.label_smoothing:
            even = tf.reduce_logsumexp(logits, axis=1) - tf.reduce_mean(logits, axis=1)
            task = (1.0 - self.label_smoothing) * task + self.label_smoothing * even
        task = tf.reduce_mean(task)
        decayed = [v for v in self.network.trainable_variables if v.regularizer is not None]
        penalties = (penalty(variable.regularizer, variable) for variable in decayed)
        l2 = tf.add_n([tf.zeros([]), *penalties])
        by_error, by_kernel = [tf.zeros([])], [tf.zeros([])]
        for layer, loss in self.alignment_losses():
            needs_scale = layer not in self._direct and layer.rule.scales_errors
            (by_error if needs_scale else by_kernel).append(loss)
        by_error, by_kernel = tf.add_n(by_error), tf.add_n(by_kernel)
        rate = 1.0 if self.task_rate is None else self.task_rate(self.optimizer.iterations)
        errors = rate * tf.add_n([task, *self._added_losses()]) + by_error
        kernels = rate * l2 + by_kernel
        return {
            "loss": errors + kernels,
            "task": task,
            "l2": l2,
            "alignment": by_error + by_kernel,
            "errors": errors,
            "kernels": kernels,
            "logits": logits,
        }

    def _added_losses(self) -> Iterator[tf.Tensor]:
        """What layers without feedback kernels have added to the loss in the call before."""
        for layer in self._others:
            for loss in layer._losses:
                yield tf.cast(loss, tf.float32)

    def alignment_losses(self):
        """Each layer and its R of the training calls since the last step, one per call."""
        for layer in (*self._aligned, *self._direct):
            for loss in layer.alignment_losses:
                yield layer, loss

    def run(
        self, batches: Iterator, steps: int, stop: bool = False, save: bool = False, first: int = 0
    ) -> tuple[int, bool, bool]:
        """Take optimizer steps without coming back to Python in between.

        Args:
            batches: An iterator of what `Cluster.distribute` gives.
            steps: How many steps.
            stop: True if this worker wants to stop.
            save: True if this worker wants to save.
            first: The number of the first of these steps in the training, which says when R acts.

        Returns:
            The number of steps before the first one that was not finite (`steps` if all were),
            and whether any worker wants to stop, and to save.
        """
        wishes = tf.constant([float(stop), float(save)])
        done = good = 0
        while done < steps and done == good:
            aligned, count = self._stretch(first + done, steps - done)
            if count == 1:
                bad, stop, save = self._one_step[aligned](batches, wishes)
                found = 0 if bad else 1
            else:
                found, stop, save = self._many_steps[aligned](batches, tf.constant(count), wishes)
            done, good = done + count, good + int(found)
        return good, bool(stop), bool(save)

    def _stretch(self, step: int, most: int) -> tuple[bool, int]:
        """True if R acts in a step; and the number of steps alike from it on, at most `most`."""
        if self.alignment_every == 1:
            return True, most
        behind = step % self.alignment_every
        return (True, 1) if behind == 0 else (False, min(most, self.alignment_every - behind))

    def _next_steps(self, batches, steps, wishes, aligned):
        def step(index, good, *_):
            bad, stop, save = self._next_step(batches, wishes, aligned)
            return index + 1, tf.where(bad, tf.minimum(good, index), good), stop, save

        first = (tf.constant(0), steps, tf.constant(False), tf.constant(False))
        _, *found = tf.while_loop(lambda index, *_: index < steps, step, first)
        return found

    def _next_step(self, batches, wishes, aligned):
        """Take a step on all replicas: three truths, not finite, stop and save."""
        if self.accumulation_steps == 1:
            result = self.strategy.run(
                self._replica_step[aligned], args=(*batches.get_next(), wishes)
            )
        else:
            for _ in range(self.accumulation_steps):
                self.strategy.run(self._replica_accumulation[aligned], args=batches.get_next())
            result = self.strategy.run(self._replica_update[aligned], args=(wishes,))
        return tf.unstack(self.strategy.reduce("SUM", result, axis=None) > 0)

    def _take_step(
        self, images: tf.Tensor, labels: tf.Tensor, wishes: tf.Tensor, aligned: bool = True
    ) -> tf.Tensor:
        """Take one replica's part of a step; return 1 if it was not finite, and `wishes`."""
        with self._draws_of_its_own():
            loss, gradients = self._differentiate(images, labels, aligned)
        return self._update(tf.math.is_finite(loss), gradients, wishes)

    def _accumulate(self, images: tf.Tensor, labels: tf.Tensor, aligned: bool) -> None:
        """Add the gradients of one replica's batch to those of the batches before it."""
        with self._draws_of_its_own():
            loss, gradients = self._differentiate(images, labels, aligned)
        self._not_finite.assign_add(1.0 - tf.cast(tf.math.is_finite(loss), tf.float32))
        for total, gradient in zip(self._sums, gradients, strict=True):
            if gradient is not None:
                total.assign_add(gradient)

    def _apply_sums(self, wishes: tf.Tensor, aligned: bool) -> tf.Tensor:
        taught = set() if aligned else {id(layer.feedback_kernel) for layer in self._aligned}
        variables = self.network.trainable_variables
        gradients = [
            None if id(variable) in taught else tf.convert_to_tensor(total)
            for variable, total in zip(variables, self._sums, strict=True)
        ]
        finite = tf.convert_to_tensor(self._not_finite) == 0.0
        result = self._update(finite, gradients, wishes)
        for total in (*self._sums, self._not_finite):
            total.assign(tf.zeros_like(total))
        return result

    @contextlib.contextmanager
    def _draws_of_its_own(self) -> Iterator[None]:
        """Each replica draws its own dropout, noise and augmentation.

        Keras (3.15) gives each replica the same state of a random generator, so that all drop the
        same units of their k-th image, in every step. The states are apart during a step only:
        checkpoints hold the first replica's.
        """
        states = []
        if self.strategy.num_replicas_in_sync > 1:
            states = list(random_states(self.network))
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        # A state is a seed and a count of draws.
        shift = APART * tf.cast(replica, tf.int64) * tf.constant([1, 0], tf.int64)
        for state in states:
            state.assign(tf.convert_to_tensor(state) + tf.cast(shift, state.dtype))
        yield
        for state in states:
            state.assign(tf.convert_to_tensor(state) - tf.cast(shift, state.dtype))

    def _differentiate(self, images: tf.Tensor, labels: tf.Tensor, aligned: bool):
        """The loss of one replica's batch and its share in the gradients of the step.

        L2's and R's gradients need no error, so that TensorFlow would compute them first and keep
        them. They wait until the errors have come down and activity is gone.
        """
        parts = self.strategy.num_replicas_in_sync * self.accumulation_steps
        resting = contextlib.nullcontext() if aligned else without_alignment()
        with tf.GradientTape(persistent=True) as tape, resting:
            terms = self.objective(images, labels)
            errors = self.optimizer.scale_loss(terms["errors"] / parts)
            kernels = self.optimizer.scale_loss(terms["kernels"] / parts)
        self.metrics["loss"].update_state(terms["loss"])
        self.metrics["task_loss"].update_state(terms["task"])
        self.metrics["l2_loss"].update_state(terms["l2"])
        if aligned:
            self.metrics["alignment_loss"].update_state(terms["alignment"])
        self.metrics["top1"].update_state(labels, terms["logits"])
        self.metrics["top5"].update_state(labels, terms["logits"])
        variables = self.network.trainable_variables
        first = tape.gradient(errors, variables)
        with tf.control_dependencies([gradient for gradient in first if gradient is not None]):
            one = tf.ones([])
        second = tape.gradient(kernels, variables, output_gradients=one)
        return terms["loss"], [_added(pair) for pair in zip(first, second, strict=True)]

    def _update(self, finite: tf.Tensor, gradients: list, wishes: tf.Tensor) -> tf.Tensor:
        """Apply gradients whose sum over the replicas is the step's.

        Gradients that are not finite are taken as 0, so that the kernels that led to them can be
        looked at. (Under float16 the loss scale handles gradients that overflow.)
        """
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            gradients = self._overflowing_together(gradients)
        else:
            finite &= tf.math.is_finite(tf.linalg.global_norm(gradients))
            gradients = self._zeros_unless(finite, gradients)
        pairs = zip(gradients, self.network.trainable_variables, strict=True)
        self.optimizer.apply_gradients(pairs)
        self._share_statistics()
        return tf.concat([[1.0 - tf.cast(finite, tf.float32)], wishes], 0)

    def _share_statistics(self) -> None:
        """Give all replicas the mean of their moving averages, those of batch norm for example.

        Keras (3.15) leaves each replica its own. An evaluation then depends on which replica sees
        an image, and a checkpoint holds the averages of the first one.
        """
        if self.strategy.num_replicas_in_sync == 1 or not self._statistics:
            return
        # A variable's value states no device on workers, where an exchange needs one.
        own = [tf.identity(variable) for variable in self._statistics]
        means = tf.distribute.get_replica_context().all_reduce("MEAN", own)
        for variable, mean in zip(self._statistics, means, strict=True):
            variable.assign(mean)

    def _overflowing_together(self, gradients: list) -> list:
        """The gradients, not finite on any replica if they are not finite on one.

        Keras (3.15) skips a step where the first replica's gradients are not finite, and asks no
        other: what overflowed on the second was applied, and the kernels were infinite.
        """
        if self.strategy.num_replicas_in_sync == 1:
            return gradients
        found = [getattr(g, "values", g) for g in gradients if g is not None]
        finite = [tf.reduce_all(tf.math.is_finite(values)) for values in found]
        # Feedback networks have dense kernels; those of embeddings stay sparse.
        place = next(i for i, gradient in enumerate(gradients) if tf.is_tensor(gradient))
        lost = 1.0 - tf.cast(tf.reduce_all(finite), tf.float32)
        lost = tf.distribute.get_replica_context().all_reduce("SUM", lost)
        spoil = tf.cast(tf.where(lost > 0.0, float("nan"), 0.0), gradients[place].dtype)
        return [g + spoil if i == place else g for i, g in enumerate(gradients)]

    def _zeros_unless(self, finite: tf.Tensor, gradients: list) -> list:
        """The gradients, or zeros."""
        if self.jit_compile:
            # XLA fuses the choice with the update; TPUs are spared a branch.
            return [g if g is None else tf.where(finite, g, 0.0) for g in gradients]
        # A branch hands tensors on, where a choice copies them: 1 % of a ResNet-18's step.
        given = [tf.convert_to_tensor(g) for g in gradients if g is not None]
        kept = iter(tf.cond(finite, lambda: given, lambda: [tf.zeros_like(g) for g in given]))
        return [g if g is None else next(kept) for g in gradients]

    def _evaluate_batch(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> None:
        logits = tf.cast(self.network(images, training=False), tf.float32)
        self.test_metrics["loss"].update_state(_cross_entropy(labels, logits), weights)
        self.test_metrics["top1"].update_state(labels, logits, weights)
        self.test_metrics["top5"].update_state(labels, logits, weights)

    def _evaluate_next(self, *batch) -> None:
        self.strategy.run(self._replica_test, args=batch)

    def evaluate(self, batches: Iterable) -> dict[str, float]:
        """Cross entropy, top-1 and top-5 over `batches` of (images, labels, weights)."""
        for metric in self.test_metrics.values():
            metric.reset_state()
        # Recurrent layers of Keras draw dropout's masks here as well: what is trained would depend
        # on how often and on how many images the network is evaluated.
        with unchanged(random_states(self.network)):
            for batch in batches:
                self._evaluate(*batch)
        return {name: float(metric.result()) for name, metric in self.test_metrics.items()}

    def results(self) -> dict[str, float]:
        """The training metrics since the last `reset`."""
        return {name: float(metric.result()) for name, metric in self.metrics.items()}

    def skipped(self, step: int) -> int:
        """The number of steps, of all those up to `step`, that float16's loss scale left out."""
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return 0
        return step - int(keras.ops.convert_to_numpy(self.optimizer.iterations))

    @property
    def loss_scale(self) -> float:
        """The factor of float16's loss scale; 1 in other precisions."""
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return 1.0
        return float(keras.ops.convert_to_numpy(self.optimizer.dynamic_scale))

    def reset(self) -> None:
        """Start an epoch's metrics anew."""
        for metric in self.metrics.values():
            metric.reset_state()


def _with_and_without_r(step: Callable, wrap: Callable) -> dict[bool, Callable]:
    """A function of `aligned` as two wrapped ones; TensorFlow traces those that are called."""
    return {a: wrap(functools.partial(step, aligned=a)) for a in (True, False)}


def _added(gradients: Iterable) -> tf.Tensor | None:
    """The sum of those that exist; `None` if none does."""
    found = [gradient for gradient in gradients if gradient is not None]
    return tf.add_n(found) if found else None


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def _local_zeros(shape: Sequence[int], dtype: str) -> tf.Variable:
    """A sum that each replica keeps for itself."""
    return tf.Variable(
        tf.zeros(shape, dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def _build(metric: keras.metrics.Metric, classes: int) -> None:
    """Create a metric's variables now, so that a checkpoint can restore them."""
    if isinstance(metric, keras.metrics.SparseCategoricalAccuracy) or "top" in metric.name:
        metric.update_state(tf.zeros([1], tf.int32), tf.zeros([1, classes]))
    else:
        metric.update_state(0.0)
    metric.reset_state()
