"""Trains a small run twice: once without a stop, once killed again and again.

killed_runs.py FOLDER KILLS SEED

Every process that is killed is a real one and gets SIGKILL, half of them at a random
moment of their training, half of them while a checkpoint is being written. They are
forked after the imports, which take longer than the training. Prints how many were
killed where; FOLDER/whole and FOLDER/killed are the two runs.
"""

import json
import os
import random
import select
import signal
import sys
import time
import traceback

from t2t_mm import datagen, trainer
from t2t_mm.bin import command
from t2t_mm.training_log import TrainingLog

QUICK_PROBLEMS = os.path.join(os.path.dirname(__file__), "..", "quick_problems")
NAMES = ["quick_reverse", "quick_copy"]
STEPS = 24


def start(run_dir, data_dir):
    """Forks a process that trains; gives its id and a pipe that it writes steps to."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    status = 1
    try:
        record = TrainingLog.record

        def record_and_tell(self, step, *rest):
            record(self, step, *rest)
            os.write(writer, b".")

        TrainingLog.record = record_and_tell
        trainer.train(
            output_dir=run_dir,
            train_steps=STEPS,
            model="quick_bag",
            hparams_set="quick_tiny",
            problem=",".join(NAMES),
            data_dir=data_dir,
            eval_frequency=4,
            log_frequency=1,
            progress=False,
        )
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(child):
    """Gives how a child ended: its exit code, or minus the number of a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_running(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def moment_of_training(child, pipe, rng, step_seconds):
    """Waits until some random step, and a random part of the next one."""
    for _ in range(rng.randint(1, 7)):
        while is_running(child) and not select.select([pipe], [], [], 0.05)[0]:
            pass
        if not os.read(pipe, 1):
            return
    time.sleep(rng.random() * step_seconds)


def moment_of_saving(child, run_dir, rng):
    """Waits until files of the checkpoints change, up to a few times."""
    folder = os.path.join(run_dir, "checkpoints")

    def look():
        found = []
        for root, _, names in os.walk(folder):
            for name in names:
                try:
                    found.append(
                        (root, name, os.stat(os.path.join(root, name)).st_size)
                    )
                except FileNotFoundError:
                    found.append((root, name, -1))
        return found

    before = look()
    for _ in range(rng.randint(1, 4)):
        while is_running(child) and look() == before:
            time.sleep(0.0002)
        before = look()


def main():
    """Runs both; see the module."""
    folder, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    command.load_zoo(QUICK_PROBLEMS)
    data_dir, run_dir = os.path.join(folder, "data"), os.path.join(folder, "killed")
    datagen.generate_data(NAMES, data_dir, folder, num_processes=0, progress=False)
    child, _ = start(os.path.join(folder, "whole"), data_dir)
    if wait(child):
        sys.exit("The run that was not killed failed.")
    ends = {"training": 0, "saving": 0, "finished": 0}
    while ends["training"] + ends["saving"] < kills:
        child, pipe = start(run_dir, data_dir)
        kind = "saving" if (ends["training"] > ends["saving"]) else "training"
        if kind == "saving":
            moment_of_saving(child, run_dir, rng)
        else:
            moment_of_training(child, pipe, rng, 0.05)
        os.kill(child, signal.SIGKILL)
        code = wait(child)
        os.close(pipe)
        if code == 0:  # it was faster; so that there is something left to kill
            ends["finished"] += 1
            os.rename(run_dir, f"{run_dir}-{ends['finished']}")
        elif code != -signal.SIGKILL:
            sys.exit(f"A run that was to be killed ended with {code}.")
        else:
            ends[kind] += 1
    child, _ = start(run_dir, data_dir)
    if wait(child):
        sys.exit("The last run failed.")
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
