"""Prints what each machine needs to train together: TF_CONFIG and the flags.

mm-make-tf-configs --workers=10.0.0.1:2222,10.0.0.2:2222

One line a worker, in the order given: start mm-trainer there with this TF_CONFIG in
its environment and the same command everywhere. The first writes checkpoints and logs;
--output_dir and --data_dir are folders that all machines share. More in
docs/distributed.md.
"""

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from t2t_mm.bin import command

# A name, an IPv4 address, or an IPv6 address in brackets.
_ADDRESS = re.compile(r"(\w[\w.-]*|\[[\da-fA-F:.]+\]):(?P<port>[0-9]{1,5})")
_DROPPED = {
    "ps": (
        "Keras 3 has no parameter servers: give every machine as one of --workers; "
        "gradients are summed between them."
    ),
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-make-tf-configs."""
    flags.DEFINE_list(
        "workers",
        None,
        "host:port of each worker, joined by commas; the first saves and logs",
        flag_values=values,
    )
    flags.DEFINE_alias("masters", "workers", flag_values=values)
    flags.DEFINE_integer(
        "index",
        None,
        "print the TF_CONFIG of this worker only, as JSON (from 0)",
        lower_bound=0,
        flag_values=values,
    )
    command.define_dropped_flags(values, _DROPPED)


def tf_configs(addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Gives the TF_CONFIG of each worker.

    Args:
      addresses: host:port of each.

    Raises:
      ValueError: if an address is not host:port, or comes twice.
    """
    addresses = [address.strip() for address in addresses]
    for address in addresses:
        found = _ADDRESS.fullmatch(address)
        if not found or not 0 < int(found["port"]) < 65536:
            raise ValueError(
                f"--workers has '{address}'; expected host:port with a port of 1 to "
                "65535. Write for example --workers=node1:2222,node2:2222."
            )
    twice = sorted({one for one in addresses if addresses.count(one) > 1})
    if twice:
        raise ValueError(
            f"--workers has {', '.join(twice)} more than once; expected each address "
            "once. Two workers of one machine need two ports."
        )
    cluster = {"worker": addresses}
    return [
        {"cluster": cluster, "task": {"type": "worker", "index": index}}
        for index in range(len(addresses))
    ]


def print_configs(values: flags.FlagValues) -> None:
    """Prints a line per worker, or one worker's JSON."""
    if values["workers"].present > 1:
        raise ValueError(
            f"--workers or --masters came {values['workers'].present} times; expected "
            "all addresses in one of them. Join them by commas."
        )
    configs = tf_configs(values.workers)
    if values.index is None:
        for config in configs:
            print(_line(config))
        return
    if values.index >= len(configs):
        raise ValueError(
            f"--index={values.index} came for {len(configs)} of --workers; expected "
            f"less than {len(configs)}, since they are counted from 0. Correct one."
        )
    print(json.dumps(configs[values.index]))


def _line(config: Mapping[str, Any]) -> str:
    return f"TF_CONFIG={shlex.quote(json.dumps(config))} --strategy=multi_worker"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit code."""
    return command.run(
        "mm-make-tf-configs",
        print_configs,
        __doc__,
        define_flags,
        argv,
        required=("workers",),
        reads_gin=False,
    )


if __name__ == "__main__":
    sys.exit(main())
