"""How answers are searched for: `DecodeHParams`, and reading them from a command line.

`decoding` obeys them; commands, export and page pass them on. Imports no TensorFlow.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from t2t_mm.configuration import parse_overrides
from t2t_mm.fields import fit_fields, setting
from t2t_mm.registry import UnknownNameError, nearest_names

FLAG = "--decode_hparams"
# Log-probabilities down to -1e9 and below, divided by it, stay far from float32's end.
_COLDEST = 1e-3


@dataclass(frozen=True)
class DecodeHParams:
    """Settings of decoding; the defaults are greedy search.

    Frozen and hashable, so that it can be the key of a compiled decoder. Names are
    those of Tensor2Tensor where it had one. A forced prefix and the command are not
    settings: they are given with the inputs.

    Raises:
      TypeError: if a value has another type than its field.
      ValueError: if a value is out of its range, or two settings exclude each other.
    """

    beam_size: int = setting(1, "answers kept at each step; 1: greedy", low=1, high=256)
    alpha: float = setting(
        0.6,
        "length penalty: answers are ranked by score / ((5 + length) / 6) ** alpha",
        low=0,
        high=10,
    )
    num_return: int = setting(1, "answers per input, the best first", low=1, high=256)
    temperature: float = setting(
        0.0, "draws from probabilities ** (1 / temperature); 0: draws nothing", low=0
    )
    top_k: int = setting(0, "draws from the k likeliest ids only; 0: from all", low=0)
    top_p: float = setting(
        1.0,
        "draws from the likeliest ids only that hold this probability together",
        low=1e-6,
        high=1,
    )
    random_seed: int = setting(1, "of what is drawn", low=0, high=2**31 - 1)
    max_length: int = setting(
        0, "most ids of an answer, its end counted; 0: by the problem", low=0
    )
    min_length: int = setting(
        0, "fewest ids of an answer, its end not counted", low=0, high=2**20
    )
    no_repeat_ngram: int = setting(
        0, "no n ids in a row come twice in an answer; 0: they may", low=0
    )
    well_formed_trees: bool = setting(
        False, "parsing: only whole trees, every bracket closed under its label"
    )
    alignment_weight: float = setting(
        1.0,
        "sounds: how much what each position says by itself counts beside the decoder",
        low=0,
    )
    jit_compile: bool = setting(
        False,
        "search with XLA: faster, and compiled anew for each size of a batch (seconds)",
    )
    batch_size: int = setting(32, "inputs decoded at once", low=1)

    def __post_init__(self):
        fit_fields(self)
        draws = self.temperature > 0
        if 0 < self.temperature < _COLDEST:
            raise _conflict(
                f"temperature={self.temperature}",
                f"0, or at least {_COLDEST}: below, probabilities overflow",
                "Set temperature=0, which takes the likeliest",
            )
        if self.beam_size > 1 and draws:
            raise _conflict(
                f"beam_size={self.beam_size} with temperature={self.temperature}",
                "a search or a draw",
                "Set beam_size=1 to draw, or temperature=0 to search",
            )
        if not draws and (self.top_k or self.top_p < 1):
            raise _conflict(
                f"top_k={self.top_k}, top_p={self.top_p} with temperature=0",
                "a temperature above 0 where something is to be drawn",
                "Set temperature=1",
            )
        if not draws and self.num_return > self.beam_size:
            raise _conflict(
                f"num_return={self.num_return} with beam_size={self.beam_size}",
                "at most as many answers as the beam keeps",
                f"Set beam_size={self.num_return}, or temperature=1 to draw them",
            )
        if self.max_length and self.min_length >= self.max_length:
            raise _conflict(
                f"min_length={self.min_length} with max_length={self.max_length}",
                "a smaller min_length, since the end counts in max_length",
                "Change one of the two",
            )
        if self.well_formed_trees and (self.min_length or self.no_repeat_ngram):
            raise _conflict(
                f"well_formed_trees with min_length={self.min_length}, "
                f"no_repeat_ngram={self.no_repeat_ngram}",
                "neither: a whole tree has its own end, and repeats its brackets",
                "Set both to 0",
            )


def _conflict(came: str, expected: str, advice: str) -> ValueError:
    return ValueError(f"{FLAG} came as {came}; expected {expected}. {advice}.")


def decode_settings(
    given: str | Mapping[str, Any] | DecodeHParams | None,
) -> DecodeHParams:
    """Makes settings of what a user writes.

    Args:
      given: settings; or text such as "beam_size=4,alpha=0.6"; or values by name; None
        for the defaults.

    Raises:
      UnknownNameError: if there is no such setting; names the nearest.
      TypeError, ValueError: as `DecodeHParams`, and if a text is no name=value list.

    Example:
      >>> decode_settings("beam_size=4,alpha=0.8").alpha
      0.8
    """
    if given is None:
        return DecodeHParams()
    if isinstance(given, DecodeHParams):
        return given
    if isinstance(given, str):
        return DecodeHParams(**parse_overrides(given, DecodeHParams(), flag=FLAG))
    if not isinstance(given, Mapping):
        raise TypeError(
            f"decode_hparams came as {type(given).__name__}; expected text such as "
            "'beam_size=4,alpha=0.6', a dict or DecodeHParams. Pass one of these."
        )
    known = [field.name for field in dataclasses.fields(DecodeHParams)]
    for name in given:
        if name not in known:
            raise UnknownNameError(
                f"DecodeHParams has no hparam '{name}'; expected one of its names. "
                f"{nearest_names(name, known)} Correct the name."
            )
    return DecodeHParams(**given)


def refuse_keywords(unknown: Mapping[str, Any], *known: str) -> None:
    """Says what to write instead of keywords that a call does not know.

    Args:
      unknown: by name; nothing is wrong if it is empty.
      known: names of those that there are.

    Raises:
      TypeError: if there is one; a decode setting is told where it belongs.
    """
    for name, value in unknown.items():
        settings = [field.name for field in dataclasses.fields(DecodeHParams)]
        advice = f"{nearest_names(name, list(known))} Correct the name."
        if name in settings:
            advice = f"Pass decode_hparams='{name}={value}'."
        raise TypeError(
            f"The keyword {name}={value!r} came; expected {', '.join(known)}. {advice}"
        )
