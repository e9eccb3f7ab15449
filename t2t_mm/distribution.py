"""The replicas of a run: they share each batch by rows and take each step together.

`strategy.make_distribution` makes one from flags; `train_step` compiles its steps with
it. A thin layer over tf.distribute: it makes variables on every replica, cuts batches,
and passes numbers between workers. The sums over replicas inside a step are the step's
own (`replicas`). One device needs none of it and costs nothing.
"""

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_mm.made_static import padded_to_static
from t2t_mm.replicas import sum_over_replicas

_SEED_STRIDE = 1_000_003  # a prime: replicas draw from other seeds, layers too

Batch = Mapping[str, Any]
Signature = Mapping[str, tf.TensorSpec]


class Distribution:
    """The replicas of a run: on one device, unless a strategy is given.

    Args:
      strategy: of tf.distribute; None for one device.
      use_xla: compile steps with XLA; batches are then padded to a few fixed shapes,
        and a step is compiled once for each.

    Attributes:
      num_replicas: copies of the network that share each batch.
      is_chief: whether this process writes checkpoints and logs.
      num_workers: processes that train together; `worker` is this one's number.
      has_static_shapes: whether batches are padded to fixed shapes.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy | None = None,
        *,
        use_xla: bool = False,
    ):
        self._strategy: Any = strategy
        # On TPU, strategy.run compiles with XLA by itself.
        is_tpu = isinstance(strategy, tf.distribute.TPUStrategy)
        self._jit_compile = True if use_xla and not is_tpu else None
        self.has_static_shapes = use_xla or is_tpu
        self.num_replicas = strategy.num_replicas_in_sync if strategy else 1
        resolver: Any = strategy.cluster_resolver if strategy else None
        cluster = resolver.cluster_spec() if resolver else None
        self.worker = 0
        self.num_workers = 1
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            jobs = cluster.as_dict() if cluster else {}
            self.num_workers = max(1, sum(map(len, jobs.values())))
            if resolver.task_type != "chief" and "chief" in jobs:
                self.worker = len(jobs["chief"])
            self.worker += resolver.task_id or 0
        self.is_chief = self.worker == 0

    def describe(self) -> str:
        """Gives the devices in words, for the first line of a run."""
        if self._strategy is None:
            return "one device"
        name = type(self._strategy).__name__
        workers = f" on {self.num_workers} workers" if self.num_workers > 1 else ""
        return f"{self.num_replicas} replicas{workers} ({name})"

    def scope(self) -> contextlib.AbstractContextManager:
        """Within it, variables are made on every replica."""
        return self._strategy.scope() if self._strategy else contextlib.nullcontext()

    def compile(
        self, step: Callable, signature: Signature, *others: tf.TensorSpec
    ) -> Callable:
        """Gives a compiled step over a whole batch.

        Args:
          step: f(rows, share, *others), called on each replica with its rows of the
            batch; share is 1.0, or 0.0 where there were too few rows for all
            replicas and the first, as padding, fills the place. What it gives must be
            the same on all replicas.
          signature: of the batch, with free dimensions.
          others: of further tensors, the same for all replicas.

        Returns:
          f(batch, *others), what `step` gives.
        """
        if self.has_static_shapes:
            return _ByShape(self, step, others)
        return self._compile(step, signature, others)

    def _compile(
        self, step: Callable, signature: Signature, others: Sequence[tf.TensorSpec]
    ) -> Callable:
        if self._strategy is None:

            @tf.function(autograph=False, jit_compile=self._jit_compile)
            def whole(batch, *rest):
                return step(batch, tf.constant(1.0), *rest)

            return whole.get_concrete_function(dict(signature), *others)
        strategy = self._strategy
        parts_signature = self._parts_signature(signature)

        @tf.function(
            input_signature=[*parts_signature, *others],
            autograph=False,
            jit_compile=self._jit_compile,
        )
        def together(rows, share, *rest):
            outputs = strategy.run(step, args=(rows, share, *rest))
            return tf.nest.map_structure(self._first, outputs, expand_composites=False)

        # tf.distribute's signature of a single replica has its rows as they are.
        is_single = isinstance(parts_signature[1], tf.TensorSpec)

        def call(batch, *rest):
            parts = self.split(batch)
            if is_single:
                parts = tf.nest.map_structure(self._first, parts)
            return together(*parts, *rest)

        return call

    def compile_update(self, update: Callable, *specs: tf.TensorSpec) -> Callable:
        """Gives a compiled f(*tensors) that every replica runs on the same tensors.

        It gives what `update` gives, which must be the same on all replicas.
        """

        @tf.function(autograph=False, input_signature=specs)
        def everywhere(*tensors):
            if self._strategy is None:
                return update(*tensors)
            outputs = self._strategy.run(update, args=tensors)
            return tf.nest.map_structure(self._first, outputs)

        return everywhere.get_concrete_function()

    def split(self, batch: Batch) -> tuple[Any, Any]:
        """Cuts a batch by rows over the replicas of all workers.

        Returns:
          (this worker's rows, their shares), as tf.distribute passes them to replicas.
        """
        batch = {name: tf.convert_to_tensor(value) for name, value in batch.items()}
        num_rows = next(iter(batch.values())).shape[0]
        bounds = [num_rows * i // self.num_replicas for i in range(self.num_replicas)]
        bounds.append(num_rows)

        def part(context):
            replica = int(context.replica_id_in_sync_group)
            begin, end = bounds[replica], bounds[replica + 1]
            share = tf.constant(float(end > begin))
            if begin < end:
                return {name: x[begin:end] for name, x in batch.items()}, share
            # All of it is padding: experts balance what is real, and no more.
            filling = {name: x[:1] for name, x in batch.items()}
            masks = {n: tf.zeros_like(x) for n, x in filling.items() if x.dtype.is_bool}
            return filling | masks, share

        return self._strategy.experimental_distribute_values_from_function(part)

    def _parts_signature(self, signature: Signature) -> tuple[Any, Any]:
        elements = (dict(signature), tf.TensorSpec([], tf.float32))
        # The public way to the specs of values that differ between replicas.
        dataset = self._strategy.distribute_datasets_from_function(
            lambda _: tf.data.Dataset.from_generator(
                lambda: iter(()), output_signature=elements
            )
        )
        return dataset.element_spec

    def _first(self, value: Any) -> Any:
        return self._strategy.experimental_local_results(value)[0]

    def spread_seeds(self, variables: Sequence[Any]) -> None:
        """Makes replicas draw other random numbers: dropout, noise, augmentation.

        Called when all replicas hold the same state, at the start and after a restore.

        Args:
          variables: Keras variables; only states of random generators are changed.
        """
        if self.num_replicas == 1:
            return
        for variable in variables:
            if not tf.as_dtype(variable.dtype).is_integer:
                continue
            copies = self._strategy.experimental_local_results(variable.value)
            first = self.worker * len(copies)
            state = copies[0].numpy()
            for place, copy in enumerate(copies):
                change = [(first + place) * _SEED_STRIDE, 0]
                copy.assign(state + np.array(change, state.dtype))

    def check_same_step(self, step: int, run_dir: str) -> None:
        """Checks that all workers start from the same checkpoint.

        Raises:
          ValueError: if they do not, or one cannot see the run's folder.
        """
        steps = self.total(float(step))
        if steps != self.num_workers * step:
            raise ValueError(
                f"This worker starts at step {step}, the {self.num_workers} workers at "
                f"{steps / self.num_workers:g} on average; expected all to see the "
                f"same checkpoints in {run_dir}. Use a folder that all machines share."
            )

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """Checks that all workers were started with the same settings.

        Args:
          settings: by name; values that are the same have the same repr.

        Raises:
          ValueError: if they differ, on every worker; names the settings.
        """
        names = list(settings)
        if not self._is_same(names):
            differing = ["the model"]
        elif self._is_same(settings):
            return
        else:
            differing = [name for name in names if not self._is_same(settings[name])]
        raise ValueError(
            f"The {self.num_workers} workers were started with different settings: "
            f"{', '.join(differing)}. Expected the same command on all of them, but "
            "for TF_CONFIG. Start all again so."
        )

    def check_same_folder(self, path: str, *, seconds: float = 60.0) -> None:
        """Checks that all workers see what the chief has written into the run's folder.

        Args:
          path: of a file that is there on the chief's machine.
          seconds: how long a shared folder may take to show it.

        Raises:
          ValueError: if one does not, on every worker.
        """
        self.total(0.0)  # the chief has written it by now
        deadline = time.monotonic() + seconds
        while not (is_there := os.path.exists(path)) and time.monotonic() < deadline:
            time.sleep(0.2)
        missing = self.total(float(not is_there))
        if missing:
            raise ValueError(
                f"{missing:g} of {self.num_workers} workers do not see {path}, which "
                "the first one wrote; expected one folder for all. Use an --output_dir "
                "that all machines share."
            )

    def _is_same(self, value: Any) -> bool:
        """Tells whether a value has the same repr on all workers; all must ask."""
        digest = hashlib.sha256(repr(value).encode()).digest()
        number = int.from_bytes(digest[:5])  # sums of these are exact in float64
        return self.total(float(number)) == self.num_workers * number

    def total(self, value: float) -> float:
        """Gives the sum over all workers of a number of each; all of them must ask."""
        if self.num_workers == 1:
            return value
        replicas_of_a_worker = self.num_replicas // self.num_workers
        number = tf.constant(value, tf.float64)  # float32 rounds large steps
        return float(self._exchange(number)) / replicas_of_a_worker

    @functools.cached_property
    def _exchange(self) -> Callable:
        @tf.function(autograph=False)
        def exchange(number):
            def share():
                # Made anew, since what is summed must lie on the replica's device.
                return sum_over_replicas(tf.identity(number))

            return self._first(self._strategy.run(share))

        return exchange.get_concrete_function(tf.TensorSpec([], tf.float64))


class _ByShape:
    """A step, compiled anew for each shape of a batch, of which there are few."""

    def __init__(self, distribution: Distribution, step: Callable, others: Any):
        self._distribution = distribution
        self._step = step
        self._others = others
        self._compiled: dict[tuple, Callable] = {}

    def __call__(self, batch: Batch, *rest: Any) -> Any:
        distribution = self._distribution
        batch = padded_to_static(batch, multiple=distribution.num_replicas)
        key = tuple(tuple(value.shape) for value in batch.values())
        if key not in self._compiled:
            signature = {
                name: tf.TensorSpec(
                    [value.shape[0] // distribution.num_replicas, *value.shape[1:]],
                    value.dtype,
                )
                for name, value in batch.items()
            }
            self._compiled[key] = distribution._compile(
                self._step, signature, self._others
            )
        return self._compiled[key](batch, *rest)


ONE_DEVICE = Distribution()
