import glob
import json
import os
import subprocess
import sys

import pytest

from t2t_mm import checkpoint_folders
from tests.made.quick_runs import check_equal_runs

PROGRAM = os.path.join(os.path.dirname(__file__), "programs", "killed_runs.py")


def check_killed_runs(folder, kills, seed):
    done = subprocess.run(
        [sys.executable, PROGRAM, str(folder), str(kills), str(seed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    ends = json.loads(done.stdout.splitlines()[-1])
    assert ends["training"] + ends["saving"] == kills
    assert ends["training"] and ends["saving"]
    whole = str(folder / "whole")
    others = glob.glob(str(folder / "killed-*"))
    assert len(others) == ends["finished"]
    for run_dir in [str(folder / "killed"), *others]:
        newest = checkpoint_folders.newest_checkpoint(run_dir)
        assert os.path.basename(newest) == "ckpt-24"
        check_equal_runs(whole, run_dir)


def test_three_kills_lose_nothing(tmp_path):
    check_killed_runs(tmp_path, 3, seed=1)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_nothing(tmp_path):
    check_killed_runs(tmp_path, 20, seed=2)
