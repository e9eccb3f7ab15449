"""Where a run computes, from flags: one device, several, several machines, TPU."""

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence

import tensorflow as tf

from t2t_mm.distribution import Distribution

_LOG = logging.getLogger(__name__)
SECONDS_OF_PATIENCE = 30.0  # between words about workers that do not come
NAMES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


def make_distribution(
    name: str = "auto",
    *,
    use_xla: bool = False,
    tpu: str | None = None,
) -> Distribution:
    """Gives the replicas that a flag asks for.

    Args:
      name: "one_device"; "mirrored", all GPUs of this machine (without GPUs, its
        logical CPUs); "multi_worker", the machines of TF_CONFIG; "tpu"; or "auto":
        multi_worker if TF_CONFIG names several machines, mirrored if there are several
        GPUs, else one_device.
      use_xla: compile the step with XLA.
      tpu: name or address of the TPU.

    Raises:
      ValueError: if the name is not known, or what it needs is not there.
    """
    if name == "parameter_server":
        raise ValueError(
            "--strategy=parameter_server came; expected one of "
            f"{', '.join(NAMES)}. Keras 3 does not support parameter servers: updates "
            "of several workers at once get lost. Use --strategy=multi_worker, which "
            "adds up the gradients of all workers."
        )
    if name not in NAMES:
        raise ValueError(
            f"--strategy={name} came; expected one of {', '.join(NAMES)}. "
            "Leave it out to have it chosen."
        )
    if name == "auto":
        name = _best_strategy()
    if tpu and name != "tpu":
        raise ValueError(
            f"--tpu_name={tpu} came with --strategy={name}; expected it with "
            "--strategy=tpu only. Leave one of the two out."
        )
    if use_xla and name in ("mirrored", "multi_worker"):
        raise ValueError(
            f"--xla came with --strategy={name}; expected one device or a TPU, since "
            "variables of several replicas cannot be reached from one XLA program. "
            "Leave --xla out, or use --strategy=one_device."
        )
    if name != "tpu":
        _grow_gpu_memory()
    trust_traced_graphs()
    if name == "one_device":
        return Distribution(use_xla=use_xla)
    if name == "mirrored":
        return Distribution(_mirrored())
    if name == "multi_worker":
        return Distribution(_multi_worker())
    return Distribution(_tpu(tpu))


def _best_strategy() -> str:
    if sum(map(len, _cluster().values())) > 1:
        return "multi_worker"
    return (
        "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "one_device"
    )


def _cluster() -> dict[str, list[str]]:
    """Gives the addresses of TF_CONFIG by job; empty without it.

    Raises:
      ValueError: if it is not the JSON that TensorFlow expects.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return {}
    try:
        config = json.loads(text)
        cluster = {job: list(hosts) for job, hosts in config["cluster"].items()}
        job, index = config["task"]["type"], int(config["task"]["index"])
        known = job in cluster and 0 <= index < len(cluster[job])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"TF_CONFIG is {text!r} ({error!r}); expected JSON with 'cluster' "
            "(addresses by job) and 'task' (type and index of this process). "
            "mm-make-tf-configs prints it for each worker."
        ) from error
    if not known:
        raise ValueError(
            f"TF_CONFIG says that this process is {job} {index}, and lists "
            f"{ {job: len(hosts) for job, hosts in cluster.items()} }; expected a task "
            "of the list. mm-make-tf-configs prints it for each worker."
        )
    return cluster


def trust_traced_graphs() -> None:
    """Lets TensorFlow run graphs as they were traced, where there is no GPU.

    Rewriting them took half of the CPU time until the first step of the eight small
    problems, and made no step faster. On GPUs it fuses operations and picks layouts.
    """
    if not tf.config.list_physical_devices("GPU"):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def _grow_gpu_memory() -> None:
    """Lets TensorFlow take GPU memory as it needs it, not all of it at once."""
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # it is in use already, as it was set
            tf.config.experimental.set_memory_growth(gpu, True)


def _mirrored() -> tf.distribute.Strategy:
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    # NCCL where there are GPUs. Between CPUs the default, collective operations, breaks
    # from the second strategy of a process on.
    operations = None if gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(
        [device.name for device in devices], cross_device_ops=operations
    )


def _multi_worker() -> tf.distribute.Strategy:
    cluster = _cluster()
    if not cluster:
        raise ValueError(
            "--strategy=multi_worker came without TF_CONFIG in the environment; "
            "expected the addresses of all workers there. mm-make-tf-configs prints "
            "it for each."
        )
    if "ps" in cluster:
        raise ValueError(
            f"TF_CONFIG lists {len(cluster['ps'])} parameter servers ('ps'); expected "
            "'worker' and at most one 'chief', since Keras 3 does not support "
            "parameter servers. mm-make-tf-configs prints a TF_CONFIG without them."
        )
    addresses = [host for hosts in cluster.values() for host in hosts]
    with missing_workers_named(addresses, SECONDS_OF_PATIENCE):
        return tf.distribute.MultiWorkerMirroredStrategy()


@contextlib.contextmanager
def missing_workers_named(addresses: Sequence[str], seconds: float) -> Iterator[None]:
    """Warns again and again, while it is entered, which workers cannot be reached.

    Args:
      addresses: host:port of all workers.
      seconds: between warnings.
    """
    is_over = threading.Event()

    def warn() -> None:
        while not is_over.wait(seconds):
            missing = [one for one in addresses if not _is_reachable(one)]
            if missing and not is_over.is_set():
                _LOG.warning(
                    "Waiting for %d of %d workers: nobody answers at %s. Start "
                    "mm-trainer there with its own TF_CONFIG (mm-make-tf-configs "
                    "prints it), and let the machines reach each other's ports.",
                    len(missing),
                    len(addresses),
                    ", ".join(missing),
                )

    thread = threading.Thread(target=warn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _is_reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except (OSError, ValueError):
        return False
    return True


def _tpu(name: str | None) -> tf.distribute.Strategy:
    reason = "this machine has none"
    if name or tf.config.list_physical_devices("TPU"):
        try:
            resolvers = tf.distribute.cluster_resolver
            resolver = resolvers.TPUClusterResolver(name or "local")
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
            return tf.distribute.TPUStrategy(resolver)
        except (ValueError, IndexError, OSError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0]
    raise ValueError(
        f"--strategy=tpu found no TPU ({reason}); expected one of this machine, or the "
        "one that --tpu_name names, and the package tensorflow-tpu in place of "
        "tensorflow. See docs/distributed.md."
    )
