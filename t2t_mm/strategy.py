"""Where a run computes, from flags: one device, several, several machines, TPU."""

import contextlib
import json
import logging
import os
import re
import socket
import time
from collections.abc import Sequence

import tensorflow as tf

from t2t_mm.distribution import Distribution

_LOG = logging.getLogger(__name__)
SECONDS_OF_PATIENCE = 10.0  # between words about workers that do not come
SECONDS_BETWEEN_TRIES = 0.2  # to reach them
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
    others = [job for job in cluster if job not in ("chief", "worker")]
    if others:
        raise ValueError(
            f"TF_CONFIG lists {' and '.join(map(repr, others))}; expected 'worker' and "
            "at most one 'chief' only: Keras 3 does not support parameter servers "
            "('ps'), and the chief evaluates. mm-make-tf-configs prints a TF_CONFIG "
            "without others."
        )
    addresses = [host for hosts in cluster.values() for host in hosts]
    wrong = [one for one in addresses if not re.fullmatch(r".+:\d+", one)]
    if wrong:
        raise ValueError(
            f"TF_CONFIG lists {', '.join(wrong)}; expected host:port of every worker. "
            "mm-make-tf-configs prints it so."
        )
    task = json.loads(os.environ["TF_CONFIG"])["task"]
    own = cluster[task["type"]][int(task["index"])]
    wait_for_workers(own, [one for one in addresses if one != own])
    return tf.distribute.MultiWorkerMirroredStrategy()


def wait_for_workers(
    own: str, others: Sequence[str], seconds: float = SECONDS_OF_PATIENCE
) -> None:
    """Waits until all other workers have been reached; says which ones are missing.

    TensorFlow would wait for them, too, but without a word, deaf to Ctrl-C and SIGTERM.
    So each worker listens at its own port until it has reached the others; TensorFlow's
    server listens there afterwards, for those that have not reached this one yet.

    Args:
      own: host:port of this worker.
      others: host:port of the others.
      seconds: between warnings.

    Raises:
      OSError: if this worker's port is taken.
    """
    port = int(own.rpartition(":")[2])
    try:
        # As TensorFlow does, at every address of this machine.
        is_dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if is_dual else socket.AF_INET
        there = socket.create_server(
            ("", port),
            family=family,
            backlog=max(128, len(others)),
            dualstack_ipv6=is_dual,
        )
    except OSError as error:
        raise OSError(
            f"This worker is {own} in TF_CONFIG, and port {port} cannot be used: "
            f"{error.strerror or error}. Expected a free port; end what uses it, or "
            "name another one in the TF_CONFIG of all workers."
        ) from error
    with there:
        missing, last = list(others), time.monotonic()
        while missing := [one for one in missing if not _is_reachable(one)]:
            if time.monotonic() - last >= seconds:
                last = time.monotonic()
                _LOG.warning(
                    "Waiting for %d of %d workers: nobody answers at %s. Start "
                    "mm-trainer there with its own TF_CONFIG (mm-make-tf-configs "
                    "prints it), and let the machines reach each other's ports.",
                    len(missing),
                    len(others) + 1,
                    ", ".join(missing),
                )
            time.sleep(SECONDS_BETWEEN_TRIES)


def _is_reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        # An IPv6 address stands in brackets.
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
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
