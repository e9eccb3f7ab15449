"""Several problems and how often each is trained.

`draw_problem` is a pure function of (seed, step): every worker draws the same problem,
and a run that was killed draws on as if it had not been.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from t2t_mm import declarations, declared_problems, registry
from t2t_mm.problem import Feature, Problem, get_problem

DEFAULT_TEMPERATURE = 2.0
RULES = ("explicit", "equal", "proportional", "temperature")


@dataclass(frozen=True)
class Mixture:
    """Problems with explicit rates.

    Args:
      problems: names of registered problems.
      rates: steps spent on each, relative to each other; empty means that a rule
        (`mixture_rates`) makes them.

    Raises:
      ValueError: if a rate is for no problem of the mixture, or not positive.
    """

    problems: tuple[str, ...]
    rates: Mapping[str, float] | None = None

    def __post_init__(self):
        for name, rate in (self.rates or {}).items():
            if name not in self.problems:
                raise ValueError(
                    f"Rate for '{name}', which is not in the mixture; expected one of "
                    f"{', '.join(self.problems)}. Remove the rate or add the problem."
                )
            if not 0 < rate < math.inf:
                raise ValueError(
                    f"Rate {rate} of '{name}'; expected a number above 0. "
                    "Leave the problem out of the mixture to train without it."
                )


def parse_problems(names: str | Sequence[str]) -> Mixture:
    """Gives the mixture that `--problem` means.

    Args:
      names: a problem, a mixture, a declaration (a path that ends in .toml, or a line
        such as tfds:mnist), or a comma list of these.

    Returns:
      A mixture; its rates are those of the named mixtures, and 1 for a problem that
      was named by itself beside one.

    Raises:
      UnknownNameError: if a name is none of these.
      FileNotFoundError, ValueError: if a declaration cannot be read.
    """
    parts = names.split(",") if isinstance(names, str) else list(names)
    problems: list[str] = []
    rates: dict[str, float] = {}
    for part in (p.strip() for p in parts if p.strip()):
        if declarations.is_reference(part):
            names_declared, rates_declared = declared_problems.declare(part)
            problems += names_declared
            rates |= rates_declared
        elif part in registry.mixtures:
            mixture = registry.mixtures.get(part)()
            problems += mixture.problems
            rates |= mixture.rates or {}
        elif part in registry.problems:
            problems.append(part)
        else:
            known = registry.problems.names() + registry.mixtures.names()
            raise registry.UnknownNameError(
                f"No problem or mixture is called '{part}'. "
                f"{registry.nearest_names(part, known)} "
                "mm-registry lists all; --t2t_usr_dir adds your own."
            )
    if not problems:
        raise ValueError(
            f"--problem={names!r} names nothing; expected a problem, a mixture or a "
            "comma list of them. mm-registry lists all."
        )
    unique = tuple(dict.fromkeys(problems))
    if rates:
        rates = {name: rates.get(name, 1.0) for name in unique}
    return Mixture(unique, rates or None)


def get_problems(mixture: Mixture) -> list[Problem]:
    """Makes the problems of a mixture, in its order.

    Raises:
      ValueError: if two of them mean different things by one vocabulary or label set.
    """
    problems = [get_problem(name) for name in mixture.problems]
    first: dict[str | None, tuple[str, Feature]] = {}
    for problem in problems:
        for feature in (problem.inputs, problem.targets):
            owner, known = first.setdefault(feature.vocabulary, (problem.name, feature))
            same = (feature.modality, feature.labels) == (known.modality, known.labels)
            if feature.vocabulary and not same:
                raise ValueError(
                    f"'{feature.vocabulary}' came as the vocabulary or label set of "
                    f"both '{owner}' ({known.modality}) and '{problem.name}' "
                    f"({feature.modality}), with different contents; one name must "
                    "mean one thing. Rename one, or train them apart."
                )
    return problems


def mixture_rates(
    mixture: Mixture,
    num_examples: Mapping[str, int],
    *,
    rule: str = "explicit",
    temperature: float | None = None,
) -> dict[str, float]:
    """Gives the share of steps of each problem; the shares sum to 1.

    rate_i ~ 1 (equal), n_i (proportional), n_i ** (1 / temperature) (temperature), or
    the mixture's own rates (explicit; equal where it has none).

    Args:
      mixture: the problems.
      num_examples: training examples of each problem.
      rule: "explicit", "equal", "proportional" or "temperature".
      temperature: of the rule of that name, 2 by default; 1 is proportional, infinity
        is equal.

    Raises:
      ValueError: on another rule, a temperature of 0 or less or without its rule, or a
        problem without examples where the rule counts them.

    Source: temperature sampling as in Arivazhagan et al. 2019, section 4.2,
    arxiv.org/abs/1907.05019.
    """
    check_rule(rule, temperature)
    if temperature is None:
        temperature = DEFAULT_TEMPERATURE
    for name in mixture.problems:
        if (
            rule in ("proportional", "temperature")
            and not num_examples.get(name, 0) > 0
        ):
            raise ValueError(
                f"Problem '{name}' has {num_examples.get(name, 0)} training examples; "
                f"the rule '{rule}' expects at least 1. Run mm-datagen for it, or "
                "leave it out of the mixture."
            )
    rules = {
        "explicit": lambda n: (mixture.rates or {}).get(n, 1.0),
        "equal": lambda n: 1.0,
        "proportional": lambda n: float(num_examples[n]),
        "temperature": lambda n: float(num_examples[n]) ** (1.0 / temperature),
    }
    raw = {name: rules[rule](name) for name in mixture.problems}
    total = math.fsum(raw.values())
    if math.isclose(total, 1.0, rel_tol=1e-12):
        return raw  # shares already, as a run keeps them: they stay the same to the bit
    return {name: rate / total for name, rate in raw.items()}


def check_rule(rule: str, temperature: float | None) -> None:
    """Checks what can be checked of `mixture_rates` before there is data.

    Raises:
      ValueError: on another rule, or a temperature of 0 or less or without its rule.
    """
    if rule not in RULES:
        raise ValueError(
            f"rates rule is '{rule}'; expected one of {', '.join(RULES)}. "
            "Set --rates to one of them."
        )
    if temperature is not None and rule != "temperature":
        raise ValueError(
            f"temperature {temperature:g} came with rates '{rule}'; expected it with "
            "the rule 'temperature' only. Set --rates=temperature, or leave it out."
        )
    if temperature is not None and not temperature > 0:
        raise ValueError(
            f"temperature is {temperature}; expected a number above 0. 1 is "
            "proportional to size, larger is more equal."
        )


def draw_problem(seed: int, step: int, rates: Mapping[str, float]) -> str:
    """Draws the problem of a step: the same for equal (seed, step, rates), anywhere.

    Args:
      seed: of the run, 0 or more.
      step: number of the step, 0 or more.
      rates: share of steps by problem; scaled to sum to 1.

    Example:
      >>> draw_problem(1, 5, {"a": 0.5, "b": 0.5}) in ("a", "b")
      True
    """
    point = np.random.Generator(np.random.Philox(key=seed, counter=step)).random()
    names = list(rates)
    edges = np.cumsum([rates[name] for name in names])
    place = int(np.searchsorted(edges, point * edges[-1], "right"))
    return names[min(place, len(names) - 1)]
