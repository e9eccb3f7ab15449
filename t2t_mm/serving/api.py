"""The JSON API: `/api/generate`, `/api/problems`, `/healthz`, and `/api` in words.

Every error is {"error": text}, the text saying what came, what was expected and what to
do. The machine-readable description is at `/openapi.json`.
"""

import math
import os
import reprlib
import time
from typing import Any

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

import t2t_mm
from t2t_mm.explanation import SOURCE, Trace
from t2t_mm.problem import AUDIO, IMAGE, TEXT
from t2t_mm.serving.desk import Desk
from t2t_mm.serving.limits import MALFORMED, NOT_READABLE, Limits, Refused
from t2t_mm.serving.service import KIND_WORDS, Question, Reply, Service, title_of
from t2t_mm.serving.uploads import from_base64

_FILES = {IMAGE: ("image", "picture.png"), AUDIO: ("audio", "sound.wav")}
# What pydantic adds to a field's name for each kind that it may be of.
_KINDS = ("str", "int", "float", "bool", "Input")
_TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "templates")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Input(_Strict):
    """One input: exactly one of the three."""

    text: str | None = Field(None, description="for problems that read text")
    image: str | None = Field(
        None, description="a PNG, JPEG, WEBP, GIF or BMP file in base64, or a data URI"
    )
    audio: str | None = Field(
        None, description="a WAV, FLAC, OGG, MP3 or AIFF file in base64, or a data URI"
    )


class GenerateRequest(_Strict):
    """What is asked."""

    problem: str = Field(description="a problem of the run, see /api/problems")
    inputs: str | Input | list[str | Input] = Field(
        description="one input or several; a bare string is text"
    )
    command: str | None = Field(
        None, description="asks for another product than the problem's: To-German"
    )
    decode_hparams: dict[str, int | float | bool | str] | str | None = Field(
        None,
        description='how to search: {"beam_size": 4, "num_return": 4}, or the same as '
        '"beam_size=4,num_return=4"; names as of mm-decoder --decode_hparams',
    )
    explain: bool = Field(
        False, description="also tells what was looked at and which experts answered"
    )


class Label(BaseModel):
    """A label and how likely it is."""

    label: str
    probability: float


class Alternative(BaseModel):
    """Another text that the network would have said."""

    output: str
    score: float | None = Field(description="log-probability of the text")
    penalized: float | None = Field(description="the score under the length penalty")


class AttentionBody(BaseModel):
    """What each target looked at: the mean over all layers and heads."""

    targets: list[str] = Field(description="tokens of the answer, or its label")
    source: list[str] = Field(description="tokens, regions or times of the input")
    grid: tuple[int, int] | None = Field(description="rows, columns of a picture")
    weights: list[list[float]] = Field(
        description="a row per target, 1 in sum over the source"
    )


class AnswerBody(BaseModel):
    """What the network made of one input."""

    output: str = Field(description="the text, or the likeliest label")
    score: float | None = Field(
        description="log-probability of the text or the label; null if it is not finite"
    )
    penalized: float | None = Field(description="the score under the length penalty")
    labels: list[Label] = Field(description="of class problems, from the likeliest")
    alternatives: list[Alternative] = Field(
        description="of texts, what else num_return wanted, the best first"
    )
    attention: AttentionBody | None = Field(
        None, description="if explained, and if there is attention to the input"
    )
    expert_use: dict[str, list[float]] | None = Field(
        None, description="if explained: by layer, the share of each expert"
    )


class GenerateResponse(BaseModel):
    """The answers, one per input, in their order."""

    problem: str
    command: str
    step: int = Field(description="training steps behind the checkpoint")
    seconds: float = Field(description="of waiting and work")
    answers: list[AnswerBody]


class ErrorBody(BaseModel):
    """What came, what was expected, what to do."""

    error: str


def make_api(service: Service, desk: Desk) -> fastapi.FastAPI:
    """Gives the application with all routes of the API.

    Args:
      service: what answers.
      desk: where it answers.
    """
    api = fastapi.FastAPI(
        title="t2t_mm",
        summary=f"One network, {len(service.run.problems)} problems, as a service.",
        version=t2t_mm.__version__,
        # The usual pages for the description load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    _add_errors(api)
    _add_generate(api, service, desk)
    _add_descriptions(api, service, desk)

    @api.api_route(
        "/api/{rest:path}",
        methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"],
        include_in_schema=False,
    )
    def unknown(rest: str) -> None:
        del rest
        raise HTTPException(404)

    return api


def _add_errors(api: fastapi.FastAPI) -> None:
    @api.exception_handler(Refused)
    def refused(request: fastapi.Request, error: Refused) -> JSONResponse:
        del request
        headers = {"Retry-After": "5"} if error.status == 503 else None
        return _error(error.status, str(error), headers)

    @api.exception_handler(RequestValidationError)
    def invalid(
        request: fastapi.Request, error: RequestValidationError
    ) -> JSONResponse:
        del request
        # Of something that may be of several kinds, the most that was understood.
        first = max(error.errors(), key=lambda one: len(one["loc"]))
        named = [str(part) for part in first["loc"] if str(part) not in _KINDS]
        where = ".".join(part for part in named if "[" not in part)[:120]
        broken = first["type"] == "json_invalid"
        return _error(
            MALFORMED if broken else NOT_READABLE,
            f"The request has a mistake at {where}: {first['msg'][:200]}; "
            f"{reprlib.repr(first.get('input'))} came. Expected JSON such as "
            '{"problem": "...", "inputs": ["..."]}. Correct it; /api shows all fields.',
        )

    @api.exception_handler(HTTPException)
    def other(request: fastapi.Request, error: HTTPException) -> JSONResponse:
        if error.status_code == MALFORMED:
            return _error(
                MALFORMED,
                "A body came that is no text in UTF-8; expected JSON. Encode it.",
            )
        return _error(
            error.status_code,
            f"{request.method} {request.url.path[:120]} is not served "
            f"({str(error.detail)[:120]}); expected one of the addresses that /api "
            "lists, and a body that can be read. Correct the request.",
        )


def _error(
    status: int, text: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    # A name in the request may hold half a character, which no answer can.
    text = text.encode("utf-8", "replace").decode()
    return JSONResponse({"error": text}, status, headers)


def _add_generate(api: fastapi.FastAPI, service: Service, desk: Desk) -> None:
    documented: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": description}
        for status, description in (
            (400, "The body is no JSON, or a file no base64."),
            (404, "No such problem or command."),
            (408, "The body did not come in time."),
            (413, "Too large: body, text, picture, sound or number of inputs."),
            (422, "A field is missing or wrong, or a file cannot be read."),
            (503, "The queue is full; try again in a moment."),
            (504, "The answer was not ready in time."),
        )
    }

    @api.post(
        "/api/generate",
        response_model=GenerateResponse,
        responses=documented,
        summary="Answers one or several inputs of a problem.",
    )
    async def generate(request: GenerateRequest) -> GenerateResponse:
        start = time.monotonic()
        question = _question(request, service.limits)
        service.check(question)
        replies = await desk.asked(lambda: service.answer(question))
        problem = service.problem(question.problem)
        return GenerateResponse(
            problem=problem.name,
            command=question.command or problem.command,
            step=service.run.step,
            seconds=round(time.monotonic() - start, 4),
            answers=[_body(reply) for reply in replies],
        )


def _question(request: GenerateRequest, limits: Limits) -> Question:
    listed = request.inputs if isinstance(request.inputs, list) else [request.inputs]
    # Before base64 is read, which a long list would make much work.
    listed = listed[: limits.max_inputs + 1]
    return Question(
        problem=request.problem,
        inputs=[_one_input(one, limits) for one in listed],
        command=request.command,
        decode_hparams=request.decode_hparams,
        explain=request.explain,
    )


def _one_input(one: str | Input, limits: Limits) -> str | bytes:
    if isinstance(one, str):
        return one
    given = one.model_dump(exclude_none=True)
    if len(given) != 1:
        raise Refused(
            NOT_READABLE,
            f"An input with {len(given)} of text, image and audio came; expected "
            "exactly one. Leave the others out.",
        )
    kind, value = given.popitem()
    if kind == "text":
        return value
    return from_base64(value, "picture" if kind == "image" else "sound", limits)


def _body(reply: Reply) -> AnswerBody:
    answer = reply.answer
    attention, expert_use = _explained(reply.trace)
    return AnswerBody(
        output=answer.output,
        score=_finite(answer.score),
        penalized=_finite(answer.penalized),
        labels=[Label(label=name, probability=p) for name, p in answer.ranked],
        alternatives=[
            Alternative(
                output=one.output,
                score=_finite(one.score),
                penalized=_finite(one.penalized),
            )
            for one in answer.alternatives
        ],
        attention=attention,
        expert_use=expert_use,
    )


def _explained(
    trace: Trace | None,
) -> tuple[AttentionBody | None, dict[str, list[float]] | None]:
    if trace is None:
        return None, None
    seen, body = trace.attention, None
    if seen.of_kind(SOURCE):
        body = AttentionBody(
            targets=list(seen.targets),
            source=list(seen.source.labels),
            grid=seen.source.grid,
            weights=seen.mean().round(4).tolist(),
        )
    use = {name: share.round(4).tolist() for name, share in trace.expert_use.items()}
    return body, use


def _finite(value: float) -> float | None:
    """Gives what JSON can say: it has no infinity."""
    return value if math.isfinite(value) else None


def _add_descriptions(api: fastapi.FastAPI, service: Service, desk: Desk) -> None:
    @api.get("/api/problems", summary="What the run can be asked, and the limits.")
    def problems() -> dict[str, Any]:
        return described(service)

    @api.get("/healthz", summary="Whether the server lives, and how busy it is.")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "is_warm": desk.is_warm,
            "step": service.run.step,
            "waiting": desk.num_waiting,
            "done": desk.done,
            "refused": desk.refused,
        }

    @api.get("/api", response_class=HTMLResponse, include_in_schema=False)
    def in_words(request: fastapi.Request) -> str:
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        return environment.get_template("api.html").render(
            api=api.openapi(),
            problems=described(service),
            base=str(request.base_url),
            examples=_examples(service),
        )


def _examples(service: Service) -> list[str]:
    """Gives a body for curl, quoted for a shell, of each kind of input."""
    names: dict[str, str] = {}
    for problem in service.run.problems.values():
        names.setdefault(problem.inputs.modality, problem.name)
    found = []
    for modality, name in names.items():
        if modality == TEXT:
            found.append(f"""'{{"problem": "{name}", "inputs": "Good morning"}}'""")
        else:
            kind, file = _FILES[modality]
            found.append(
                f"""'{{"problem": "{name}", "inputs": {{"{kind}": "'"""
                f"""$(base64 -w0 {file})'"}}}}'"""
            )
    return found


def described(service: Service) -> dict[str, Any]:
    """Gives what /api/problems answers."""
    run, limits = service.run, service.limits
    return {
        "model": run.record["model"],
        "step": run.step,
        "problems": [
            {
                "name": problem.name,
                "title": title_of(problem),
                "inputs": KIND_WORDS.get(
                    problem.inputs.modality, problem.inputs.modality
                ),
                "targets": problem.targets.modality,
                "labels": list(problem.targets.labels),
                "command": problem.command,
            }
            for problem in run.problems.values()
        ],
        "commands": service.commands,
        "pairings": [
            {
                "problem": pairing.problem,
                "command": pairing.command,
                "title": pairing.title,
                "is_trained": pairing.is_trained,
            }
            for pairing in service.pairings
        ],
        "limits": {name: getattr(limits, name) for name in limits.__dataclass_fields__},
    }
