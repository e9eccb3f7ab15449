"""The ancestor, Tensor2Tensor 1.9.0, in a virtual environment of its own.

The versions of `ancestor_pins.txt` come from the package index; then it is mended where
it does not run. `ancestor.py` and `ancestor_decode.py` call `install`.
"""

import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ANCESTOR = "tensor2tensor==1.9.0"


def install(peer, python):
    """Makes the ancestor's virtual environment, once."""
    venv = peer / "v19"
    if (venv / "ready").exists():
        return
    print(f"installing {ANCESTOR} in {venv}", flush=True)
    subprocess.run([python, "-m", "venv", "--clear", venv], check=True)
    pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "pip==21.3.1"], check=True)
    subprocess.run([*pip, "-r", HERE / "ancestor_pins.txt"], check=True)
    subprocess.run([*pip, "--no-deps", ANCESTOR], check=True)
    repair(next(venv.glob("lib/python3.*/site-packages/tensor2tensor")))
    (venv / "ready").touch()


def repair(package):
    """Mends the two lines that keep the ancestor from training on text here.

    Its MultiModel reads `inputs` before the one line that sets it, which text skips;
    and one of its video models wants a part of TensorFlow that 1.15 no longer has.
    """
    for name, found, wanted in (
        (
            "models/research/multimodel.py",
            r"\n( +)(# Project to hidden size if necessary)",
            r'\n\1inputs = sharded_features["inputs"]\n\1\2',
        ),
        ("models/__init__.py", r".*import savp.*\n", ""),
    ):
        file = package / name
        text, count = re.subn(found, wanted, file.read_text("utf-8"), count=1)
        if not count:
            sys.exit(f"ancestor.py: nothing to mend in {file}; expected {ANCESTOR}.")
        file.write_text(text, "utf-8")
