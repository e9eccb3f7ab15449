"""A plain PyTorch encoder-decoder, trained on batches of ids: a yardstick.

    python -m venv torch && torch/bin/pip install torch==2.13.0 numpy
    torch/bin/python benchmarks/rivals/pytorch_transformer.py --gflop=8

Knows nothing of t2t_mm and needs none of it. `benchmarks/step_ratios.py torch` runs it
with the work of our steps as --gflop: the inner layers are made as wide as brings the
same number of multiply-adds, and PyTorch itself counts them.

Done as PyTorch does it best: nn.Transformer, whose attention is the fused kernel where
there is neither padding nor dropout; no mask of the source where nothing is padded;
logits of real positions only; Adam fused; gradients set to None.

Prints what it is as a line of JSON, and then a line for each step: the batch's number,
wall and CPU time. With --batches, a file that holds the arrays inputs_0, targets_0,
inputs_1, ... (int [B, L], 0 is padding), the steps are those that stdin asks for, one
batch's number a line; else --steps steps on one random batch.
"""

import argparse
import json
import math
import resource
import sys
import time
import warnings

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MOST_INNER = 1 << 16


def flags():
    """Gives the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--gflop", type=float, required=True, help="of a step, the mean over batches"
    )
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--label_smoothing", type=float, default=0.0)
    parser.add_argument("--tie", type=int, default=1, help="0: a softmax of its own")
    parser.add_argument("--clip_norm", type=float, default=1.0, help="0: none")
    parser.add_argument("--batches", help="a .npz file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    return parser.parse_args()


def read_batches(asked):
    """Gives pairs of ids (source [B, S], target [B, T])."""
    if not asked.batches:
        rng = np.random.default_rng(1)
        shapes = (93, 10), (93, 11)
        arrays = (rng.integers(3, asked.vocabulary, shape) for shape in shapes)
        return [tuple(map(torch.tensor, arrays))]
    with np.load(asked.batches) as file:
        return [
            tuple(
                torch.tensor(file[f"{name}_{number}"], dtype=torch.int64)
                for name in ("inputs", "targets")
            )
            for number in range(len(file.files) // 2)
        ]


def gflop_of(asked, batch, inner):
    """Gives the GFLOP of a step: matmuls, forward and backward, 2 per multiply-add."""
    source, target = batch
    d, rows, s, t = asked.width, *source.shape, target.shape[1]
    encoder = s * (4 * d * d + 2 * d * inner) + 2 * s * s * d
    decoder = t * (6 * d * d + 2 * d * inner) + 2 * s * d * d
    decoder += 2 * t * t * d + 2 * t * s * d
    logits = int((target != 0).sum()) * d * asked.vocabulary
    return 6e-9 * (rows * asked.layers * (encoder + decoder) + logits)


def mean_gflop(asked, batches, inner):
    """Gives the mean over batches of `gflop_of`."""
    return sum(gflop_of(asked, batch, inner) for batch in batches) / len(batches)


def inner_for(asked, batches):
    """Gives the width of the inner layers that brings the work asked for."""
    least = mean_gflop(asked, batches, 1)
    if least > asked.gflop:
        sys.exit(f"--gflop={asked.gflop} came; these sizes have {least:.2f} at least.")
    low, high = 1, MOST_INNER
    while low < high:
        middle = (low + high) // 2
        if mean_gflop(asked, batches, middle) < asked.gflop:
            low = middle + 1
        else:
            high = middle
    return low


class EncoderDecoder(nn.Module):
    """Embeddings, sines for positions, nn.Transformer, softmax."""

    def __init__(self, asked, inner, longest):
        super().__init__()
        width = asked.width
        self.embedding = nn.Embedding(asked.vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.softmax = nn.Linear(width, asked.vocabulary)
        if asked.tie:
            self.softmax.weight = self.embedding.weight
        self.body = nn.Transformer(
            width,
            asked.heads,
            asked.layers,
            asked.layers,
            inner,
            asked.dropout,
            batch_first=True,
            norm_first=True,
        )
        rates = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        angles = torch.arange(longest)[:, None] * rates
        timing = torch.cat([torch.sin(angles), torch.cos(angles)], 1)
        self.register_buffer("timing", timing)
        causal = nn.Transformer.generate_square_subsequent_mask(longest)
        self.register_buffer("causal", causal)

    def forward(self, source, target):
        """Gives logits [N, V] of the N real positions of the target."""
        scale = self.timing.shape[1] ** 0.5
        length = target.shape[1]
        x = self.embedding(source) * scale + self.timing[: source.shape[1]]
        shifted = nn.functional.pad(target, (1, 0))[:, :-1]
        y = self.embedding(shifted) * scale + self.timing[:length]
        padding = source == 0
        if not padding.any():
            padding = None
        # What a padded target position sees, nobody looks at.
        h = self.body(
            x,
            y,
            tgt_mask=self.causal[:length, :length],
            tgt_is_causal=True,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return self.softmax(h[target != 0])


def main():
    """Trains on the batches asked for and prints what each step costs."""
    asked = flags()
    warnings.filterwarnings("ignore", message="enable_nested_tensor is True")
    torch.manual_seed(1)
    torch.set_num_threads(asked.threads)
    batches = read_batches(asked)
    inner = inner_for(asked, batches)
    longest = max(ids.shape[1] for batch in batches for ids in batch)
    model = EncoderDecoder(asked, inner, longest)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def step(source, target):
        optimizer.zero_grad(set_to_none=True)
        logits = model(source, target)
        loss = nn.functional.cross_entropy(
            logits, target[target != 0], label_smoothing=asked.label_smoothing
        )
        loss.backward()
        if asked.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), asked.clip_norm)
        optimizer.step()
        return loss.item()

    with FlopCounterMode(display=False) as counter:
        for source, target in batches:
            model(source, target)
    about = {
        "GFLOP": mean_gflop(asked, batches, inner),
        "counted": 3e-9 * counter.get_total_flops() / len(batches),
        "inner": inner,
        "parameters": sum(p.numel() for p in model.parameters()),
        "threads": torch.get_num_threads(),
        "version": torch.__version__,
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin if asked.batches else [0] * asked.steps:
        number = int(line)
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step(*batches[number])
        record = {
            "batch": number,
            "wall": time.perf_counter() - wall,
            "CPU": time.process_time() - cpu,
            "loss": loss,
            "GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
