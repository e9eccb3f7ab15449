"""Every target of the training step, from the benchmarks that measure them, in turn.

    python benchmarks/train_step.py --data_dir=demo/data \
        [--torch=torch/bin/python] [--peer=peer --python=python3.7] [--only=memory,...]

For an otherwise idle machine with 24 GB: about half an hour on two cores, a third of it
the ancestor's. Each benchmark prints as it does alone; the lines that say whether a
target was met are shown once more at the end, and the exit code is 1 if a benchmark
failed. PyTorch is left out, and named as such, without --torch, a Python that has it;
the ancestor without --peer, the folder that it is installed in. `step_times.py` has
the table of single problems.
"""

import argparse
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
VERDICT = re.compile(r"target .*: (met|missed|not judged)\b")
# What is measured: the benchmark with its flags, and which of ours it takes.
MEASURED = {
    "steps": ("step_times.py --hparams_set=multimodel_tiny", "data_dir"),
    "base_input": (
        "input_pipeline.py --hparams_set=multimodel_base --batches=4",
        "data_dir",
    ),
    "base_blocks": ("blocks.py --hparams_set=multimodel_base --tokens=4096", ""),
    "experts_base": (
        "step_ratios.py experts --hparams_set=multimodel_base "
        "--tokens=4096 --rounds=8 --apart",
        "data_dir",
    ),
    "experts_tiny": (
        "step_ratios.py experts --tokens=4096,16384 --rounds=16",
        "data_dir",
    ),
    "memory": ("step_ratios.py memory", "data_dir"),
    "precision": (
        "step_ratios.py precision --hparams_set=multimodel_base --rounds=5 "
        "--hparams=num_experts=8,batch_tokens=4096",
        "data_dir",
    ),
    "torch_transformer": (
        "step_ratios.py torch --hparams_set=transformer_tiny",
        "data_dir torch",
    ),
    "torch_multimodel": (
        "step_ratios.py torch --hparams_set=multimodel_tiny",
        "data_dir torch",
    ),
    "ancestor_tiny": (
        "rivals/ancestor.py --models=multimodel_tiny --repeats=2 "
        "--precisions=float32,mixed_bfloat16",
        "peer python tmp_dir pairs",
    ),
    "ancestor_base": (
        "rivals/ancestor.py --models=multimodel_base "
        "--precisions=float32,mixed_bfloat16",
        "peer python tmp_dir pairs",
    ),
}
FAILED = "failed"
NEEDED = "data_dir", "torch", "peer"  # of those flags, what there is no doing without


def flags():
    """Gives the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True, help="of mm-datagen: eight_small")
    parser.add_argument("--torch", help="Python of an environment with torch")
    parser.add_argument("--peer", help="folder of the ancestor")
    parser.add_argument("--python", default="python3.7", help="for the ancestor")
    parser.add_argument("--pairs", help="for the ancestor, as ancestor.py has it")
    parser.add_argument("--tmp_dir", default="downloads", help="for the ancestor")
    parser.add_argument("--only", default=",".join(MEASURED), help="some of these")
    return parser.parse_args()


def verdicts_of(command):
    """Runs a benchmark, showing what it prints; gives its lines with a verdict.

    The last one says so if it failed.
    """
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            if VERDICT.search(line):
                found.append(line.strip())
    if process.returncode:
        found.append(f"{FAILED} with exit code {process.returncode}")
    return found


def main():
    """Runs what was asked for, shows all verdicts; true if a benchmark failed."""
    asked = flags()
    names = asked.only.split(",")
    for name in names:
        if name not in MEASURED:
            sys.exit(
                f"train_step.py: --only={name} came; expected some of "
                f"{', '.join(MEASURED)}."
            )
    found = {}
    for name in names:
        text, wanted = MEASURED[name]
        given = {flag: getattr(asked, flag) for flag in wanted.split()}
        missing = [flag for flag in NEEDED if given.get(flag, "") is None]
        if missing:
            found[name] = [f"not measured: it needs --{missing[0]}"]
            continue
        script, *options = text.split()
        options += [f"--{flag}={value}" for flag, value in given.items() if value]
        print(f"\n== {name}: {script} {' '.join(options)}", flush=True)
        found[name] = verdicts_of([sys.executable, HERE / script, *options])
    print("\n== all")
    for name, lines in found.items():
        for line in lines or ["no verdict"]:
            print(f"{name:<18} {line}")
    return any(line.startswith(FAILED) for lines in found.values() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
