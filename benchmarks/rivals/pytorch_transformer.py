"""A plain PyTorch encoder-decoder, trained on random batches: a yardstick.

    python -m venv torch && torch/bin/pip install torch==2.13.0 numpy
    torch/bin/python benchmarks/rivals/pytorch_transformer.py --gflop=3.1

Knows nothing of t2t_mm and needs none of it. `benchmarks/step_ratios.py --torch=...`
runs it with the work of one of our steps as --gflop: the inner layers are made as wide
as brings the same number of multiply-adds. Prints a line of JSON.
"""

import argparse
import json
import math
import statistics
import sys
import time

import torch
from torch import nn

MOST_INNER = 1 << 16


def flags():
    """Gives the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gflop", type=float, required=True, help="of a step")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--examples", type=int, default=93)
    parser.add_argument("--source", type=int, default=10, help="positions a row")
    parser.add_argument("--target", type=int, default=11, help="positions a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    return parser.parse_args()


def gflop_of(asked, inner):
    """Gives the GFLOP of a step: matmuls, forward and backward, 2 per multiply-add."""
    d, s, t = asked.width, asked.source, asked.target
    encoder = s * (4 * d * d + 2 * d * inner) + 2 * s * s * d
    decoder = t * (6 * d * d + 2 * d * inner) + 2 * s * d * d
    decoder += 2 * t * t * d + 2 * t * s * d
    per_example = asked.layers * (encoder + decoder) + t * d * asked.vocabulary
    return 6e-9 * asked.examples * per_example


def inner_for(asked):
    """Gives the width of the inner layers that brings the work asked for."""
    low, high = 1, MOST_INNER
    while low < high:
        middle = (low + high) // 2
        if gflop_of(asked, middle) < asked.gflop:
            low = middle + 1
        else:
            high = middle
    return low


class EncoderDecoder(nn.Module):
    """Embeddings, sines for positions, nn.Transformer, shared softmax."""

    def __init__(self, asked, inner):
        super().__init__()
        width = asked.width
        self.embedding = nn.Embedding(asked.vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.body = nn.Transformer(
            width,
            asked.heads,
            asked.layers,
            asked.layers,
            inner,
            0.1,
            batch_first=True,
            norm_first=True,
        )
        longest = max(asked.source, asked.target)
        rates = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        angles = torch.arange(longest)[:, None] * rates
        timing = torch.cat([torch.sin(angles), torch.cos(angles)], 1)
        self.register_buffer("timing", timing)

    def forward(self, source, target):
        """Gives logits [B, T, V]."""
        scale = self.timing.shape[1] ** 0.5
        x = self.embedding(source) * scale + self.timing[: source.shape[1]]
        shifted = nn.functional.pad(target, (1, 0))[:, :-1]
        y = self.embedding(shifted) * scale + self.timing[: target.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        h = self.body(x, y, tgt_mask=mask, tgt_is_causal=True)
        return h @ self.embedding.weight.T


def main():
    """Trains for a few steps and prints what one costs."""
    asked = flags()
    torch.manual_seed(1)
    torch.set_num_threads(asked.threads)
    inner = inner_for(asked)
    least = gflop_of(asked, 1)
    if least > asked.gflop:
        sys.exit(f"--gflop={asked.gflop} came; these sizes have {least:.2f} at least.")
    model = EncoderDecoder(asked, inner)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    source = torch.randint(3, asked.vocabulary, (asked.examples, asked.source))
    target = torch.randint(3, asked.vocabulary, (asked.examples, asked.target))

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = model(source, target).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, target.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for _ in range(3):
        step()
    walls, cpus = [], []
    for _ in range(asked.steps):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    record = {
        "GFLOP": round(gflop_of(asked, inner), 3),
        "inner": inner,
        "parameters": sum(p.numel() for p in model.parameters()),
        "ms": round(1e3 * statistics.median(walls), 1),
        "CPU ms": round(1e3 * statistics.median(cpus), 1),
    }
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
