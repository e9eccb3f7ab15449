"""One HTML page about a run: scores, curves, sample outputs, expert use.

`write_report` is what mm-report calls. The page is a single file without scripts or
links to elsewhere: pictures and sounds are inside, drawings are SVG, colours follow
the reader's light or dark setting. All text of a run is escaped by the template
(`templates/report.html`); only the SVG of `figures` goes in as it is. No TensorFlow.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from t2t_mm import figures, metrics, registry, run_history, sample_display
from t2t_mm.files import write_atomically
from t2t_mm.problem import Problem
from t2t_mm.run_history import RunHistory

REPORT_FILE = "report.html"
_TEMPLATES = os.path.join(os.path.dirname(__file__), "templates")
_BASELINES = {
    "copy": "copy, the input as it is",
    "frequent": "frequent, the commonest answer of the training data",
}
_MODALITY_WORDS = {
    "text": "text",
    "image": "picture",
    "audio": "speech",
    "class_label": "class",
}


def write_report(run_dir: str) -> str:
    """Writes `<run_dir>/report.html` from what the run has recorded so far.

    Returns:
      The path of the report.

    Raises:
      ValueError: if the folder is not that of a run, or a file of it is damaged.
      OSError: if the report cannot be written.
    """
    page = render(run_history.read_history(run_dir))
    path = os.path.join(run_dir, REPORT_FILE)
    write_atomically(path, page.encode())
    return path


def render(history: RunHistory) -> str:
    """Gives the page as text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    names = history.problems()
    rows = [row for name in names for row in _rows(history, name)]
    judged = [row for row in rows if row["beats"] is not None and not row["is_extra"]]
    return environment.get_template("report.html").render(
        facts=_facts(history),
        num_problems=len(names),
        rows=rows,
        num_judged=len(judged),
        num_better=sum(row["beats"] for row in judged),
        baselines=[
            text
            for name, text in _BASELINES.items()
            if any(row["baseline_name"] == name for row in rows)
        ],
        is_final=bool(history.evaluation),
        problems=[_problem(history, i, name) for i, name in enumerate(names)],
        layers=_expert_layers(history, names),
        settings=_settings(history),
        signatures=history.evaluation.get("signatures") or {},
    )


# Head


def _facts(history: RunHistory) -> list[tuple[str, str]]:
    run, evaluation = history.run, history.evaluation
    parameters = evaluation.get("parameters") or run.get("parameters")
    seconds = history.training_seconds()
    facts = [
        ("model", evaluation.get("model") or run.get("model")),
        ("hparams set", history.hparams.get("hparams_set")),
        ("parameters", _count(parameters) if parameters else None),
        ("steps", f"{evaluation.get('step') or history.last_step():,}"),
        ("training time", _duration(seconds) if seconds else None),
        ("problems", str(len(history.problems()))),
        ("seed", run.get("random_seed")),
    ]
    return [(label, str(value)) for label, value in facts if value is not None]


def _count(number: int) -> str:
    """Gives a large number in short.

    Example:
      >>> _count(1_432_118), _count(950)
      ('1.43 M', '950')
    """
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if number >= size:
            unit = 1e3 if size == 1e4 else size
            return f"{number / unit:.3g}{suffix}"
    return f"{number:,}"


def _duration(seconds: float) -> str:
    """Gives a time in its two largest units.

    Example:
      >>> _duration(59.6), _duration(767), _duration(7380)
      ('1 min 0 s', '12 min 47 s', '2 h 3 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _settings(history: RunHistory) -> list[tuple[str, str]]:
    values = history.hparams.get("values") or {}
    versions = history.run.get("versions") or {}
    return [(name, str(value)) for name, value in values.items()] + [
        (f"version of {name}", str(value)) for name, value in versions.items()
    ]


# Results


def _results(history: RunHistory, name: str) -> dict[str, dict[str, Any]]:
    """Gives the scores of a problem by split: mm-eval's, or the last of training."""
    if name in history.evaluation.get("problems", {}):
        return history.evaluation["problems"][name]
    records = history.of("eval", name)
    return {records[-1].get("split", "dev"): records[-1]} if records else {}


def _rows(history: RunHistory, name: str) -> list[dict[str, Any]]:
    return [
        _row(name, split, result, is_extra=index > 0)
        for index, (split, result) in enumerate(_results(history, name).items())
    ]


def _row(
    name: str, split: str, result: Mapping[str, Any], *, is_extra: bool
) -> dict[str, Any]:
    scores = result.get("metrics") or {}
    baseline = result.get("baseline") or {}
    cells = [
        _cell(metric, value, (baseline.get("metrics") or {}).get(metric))
        for metric, value in scores.items()
    ]
    headline = cells[0] if cells else _cell("", None, None)
    return headline | {
        "problem": name,
        "split": split,
        "is_extra": is_extra,
        "examples": result.get("examples"),
        "others": cells[1:],
        "baseline_name": baseline.get("name"),
    }


def _cell(metric: str, value: Any, baseline: Any) -> dict[str, Any]:
    is_known = metric in registry.metrics
    higher = metrics.is_higher_better(metric) if is_known else True
    full = 100.0 if is_known and metrics.unit_of(metric) == metrics.POINTS else 1.0
    beats = None
    if run_history.is_finite(value) and run_history.is_finite(baseline):
        beats = value > baseline if higher else value < baseline
    return {
        "title": metrics.title_of(metric) if is_known else metric,
        "lower_is_better": not higher,
        "score": _shown(metric, value),
        "baseline": _shown(metric, baseline) if baseline is not None else None,
        "score_width": _width(value, full),
        "baseline_width": _width(baseline, full),
        "beats": beats,
    }


def _shown(metric: str, value: Any) -> str:
    if not run_history.is_finite(value):
        return "n/a"
    if metric in registry.metrics:
        return metrics.format_score(metric, value)
    return f"{value:.3g}"


def _width(value: Any, full: float) -> float | None:
    if not run_history.is_finite(value):
        return None
    return round(100 * min(max(value / full, 0.0), 1.0), 1)


# One problem


def _problem(history: RunHistory, index: int, name: str) -> dict[str, Any]:
    results = _results(history, name)
    rows = _rows(history, name)
    headline = next(iter(results.values()), {})
    return {
        "name": name,
        "anchor": f"problem-{index}",
        "row": rows[0] if rows else None,
        "charts": _charts(history, name, f"chart-{index}"),
        "samples": [
            sample_display.displayed(history.folder, name, sample)
            for sample in headline.get("samples") or ()
        ],
        "growth": sample_display.growth(history, name),
        "description": _description(name),
    }


def _description(name: str) -> str:
    if name not in registry.problems:
        return ""
    if description := registry.problems.describe(name):
        return description
    problem: Problem = registry.problems.get(name)()
    source, target = problem.inputs.modality, problem.targets.modality
    return f"{_MODALITY_WORDS.get(source, source)} to " + _MODALITY_WORDS.get(
        target, target
    )


def _charts(history: RunHistory, name: str, prefix: str) -> list[dict[str, Any]]:
    charts = []
    for field, title, percent in (
        ("loss", "Loss per position, nats", False),
        ("accuracy", "Accuracy per position", True),
    ):
        lines = [
            figures.Line("training", history.curve("train", name, field), "quiet"),
            figures.Line("held out", history.curve("eval", name, field), "accent"),
        ]
        charts.append((title, lines, percent))
    evaluations = history.of("eval", name)
    headline = next(iter((evaluations or [{}])[-1].get("metrics") or {}), None)
    if headline:
        curve = history.curve("eval", name, "metrics", headline)
        percent = _shown(headline, 0.0).endswith("%")
        decoded = f"{evaluations[-1]['examples']:,} {evaluations[-1]['split']} examples"
        title = f"{_cell(headline, 0.0, None)['title']} of {decoded}"
        charts.append((title, [figures.Line("held out", curve, "accent")], percent))
    drawn = []
    for number, (title, lines, percent) in enumerate(charts):
        lines = [line for line in lines if line.curve]
        if lines:
            svg = figures.line_chart(
                lines,
                last_step=history.last_step(),
                percent=percent,
                prefix=f"{prefix}-{number}",
            )
            drawn.append({"title": title, "lines": lines, "svg": svg})
    return drawn


# Experts


def _expert_layers(history: RunHistory, names: Sequence[str]) -> list[dict[str, Any]]:
    layers: dict[str, dict[str, list[float]]] = {}
    for name in names:
        for record in history.of("expert_use", name):
            layers.setdefault(record["layer"], {})[name] = record["use"]
    drawn = []
    for layer, use in layers.items():
        values = [v for row in use.values() for v in row if run_history.is_finite(v)]
        strongest = max(values, default=0.0) or 1.0
        num_experts = max(map(len, use.values()))
        drawn.append(
            {
                "layer": layer,
                "num_experts": num_experts,
                "even": f"{100 / max(num_experts, 1):.3g} %",
                "rows": [
                    (name, [_heat(value, strongest) for value in row])
                    for name, row in use.items()
                ],
            }
        )
    return drawn


def _heat(value: Any, strongest: float) -> dict[str, Any]:
    share = value if run_history.is_finite(value) else math.nan
    if math.isnan(share):
        return {"label": "n/a", "strength": 0}
    strength = round(100 * min(max(share / strongest, 0.0), 1.0))
    return {"label": f"{100 * share:.0f}", "strength": strength}
