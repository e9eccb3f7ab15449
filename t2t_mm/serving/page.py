"""The page for people: choose what to ask, give an input, see the answer drawn.

Built with Gradio; nothing of it comes from another host. Here is how it looks; what
happens on a click is in `clicks`.
"""

import functools
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from t2t_mm.serving.clicks import PICTURE_TAB, Clicks
from t2t_mm.serving.desk import Desk
from t2t_mm.serving.gallery import Shelf
from t2t_mm.serving.limits import Limits
from t2t_mm.serving.service import Service

# Of each visitor, Gradio keeps all that was shown last; of 10,000, unless told.
_MOST_REMEMBERED = 32
TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "templates")
_COLOURS = {
    "black": "#1a1f27",
    "red": "#dd2e44",
    "orange": "#f4900c",
    "yellow": "#ffcc4d",
    "green": "#77b255",
    "blue": "#3b88c3",
    "brown": "#a0673a",
    "white": "#ffffff",
}
_BOARD = (
    '<div class="mm-draw"><canvas width="320" height="320" aria-label="board to draw '
    'on"></canvas><div class="mm-pens">'
    + "".join(
        f'<button type="button" data-colour="{code}" style="background:{code}" '
        f'aria-label="{name}" aria-pressed="{str(name == "black").lower()}"></button>'
        for name, code in _COLOURS.items()
    )
    + '<button type="button" class="mm-wide" data-clear>Clear</button></div></div>'
)
_CARD_CLICKS = """
element.addEventListener("click", (event) => {
  const card = event.target.closest("[data-card]");
  if (!card || event.target.closest("audio")) return;
  trigger("click", {card: Number(card.dataset.card)});
  window.scrollTo({top: 0, behavior: "smooth"});
});
element.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.dataset.card) event.target.click();
});
"""


def _keep_to(folder: str, blocks: gr.Blocks) -> None:
    """Lets the page take and show files of one folder only, and fetch no addresses.

    Mounted in another application, Gradio does not ask where a file lies that a request
    names: whoever can reach the page could make the server read its own files.
    """
    root = os.path.realpath(folder)

    def kept(move: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        async def move_own(path: Any) -> Any:
            place = os.path.realpath(str(path))
            if "://" in str(path) or os.path.commonpath([root, place]) != root:
                raise ValueError(
                    f"The file {str(path)[:120]!r} came; expected one that was "
                    "uploaded to the page. Upload it."
                )
            return await move(path)

        return move_own

    for block in blocks.blocks.values():
        # Set as an item: mypy knows methods for constants.
        vars(block)["async_move_resource_to_block_cache"] = kept(
            block.async_move_resource_to_block_cache
        )


@dataclass(frozen=True)
class _Widgets:
    """The parts of the page that change."""

    trained: Any
    untrained: Any
    text_box: Any
    text: Any
    picture_box: Any
    tabs: Any
    picture: Any
    board: Any
    sound_box: Any
    sound: Any
    ask: Any
    another: Any
    result: Any
    pairing: Any
    shown: Any
    is_drawing: Any

    @property
    def changed_by_choice(self) -> list[Any]:
        """What a new choice sets, in the order of `Clicks.chosen`."""
        return [
            self.trained,
            self.untrained,
            self.text_box,
            self.text,
            self.picture_box,
            self.picture,
            self.sound_box,
            self.sound,
            self.pairing,
            self.shown,
            self.tabs,
            self.is_drawing,
        ]

    @property
    def asked_with(self) -> list[Any]:
        """What `Clicks.answered` gets."""
        return [
            self.pairing,
            self.text,
            self.picture,
            self.board,
            self.sound,
            self.is_drawing,
        ]

    @property
    def drawn_with(self) -> list[Any]:
        """What `Clicks.drawing_answered` gets."""
        return [self.pairing, self.board]


def make_page(service: Service, desk: Desk, shelf: Shelf, folder: str) -> gr.Blocks:
    """Gives the page.

    Args:
      service: what answers.
      desk: where it answers.
      shelf: the gallery.
      folder: an empty one for the examples' files; Gradio's own lie in it, too.
    """
    clicks = Clicks(service, desk, shelf, folder)
    num_problems = len(service.run.problems)
    plural = "" if num_problems == 1 else "s"
    title = f"One network, {num_problems} problem{plural}"
    with gr.Blocks(
        title=title, analytics_enabled=False, delete_cache=(600, 3600)
    ) as blocks:
        gr.HTML(
            f'<div class="mm-head"><h1>{title}</h1><p>{clicks.subtitle()}</p></div>',
            js_on_load=None,
        )
        widgets = _panel(clicks)
        cards = gr.HTML(js_on_load=_CARD_CLICKS, elem_id="gallery")
        _connect(clicks, widgets, blocks, cards)
    _keep_to(folder, blocks)
    blocks.state_session_capacity = _MOST_REMEMBERED
    blocks.queue(
        max_size=4 * service.limits.max_queue,
        default_concurrency_limit=2 * service.limits.max_queue,
    )
    return blocks


def _panel(clicks: Clicks) -> _Widgets:
    """Lays out what is asked on the left and the answer on the right."""
    trained, untrained = clicks.choices(True), clicks.choices(False)
    values: dict[str, Any] = {
        # Kept by the visitor's browser: the server remembers few visitors.
        "pairing": gr.Number(0, precision=0, visible="hidden", elem_id="pairing"),
        "shown": gr.Number(0, precision=0, visible="hidden", elem_id="shown"),
        "trained": gr.Radio(
            trained, value=0, show_label=False, container=False, elem_id="jobs"
        ),
    }
    with gr.Accordion(
        "Pairings it was never trained on", open=False, visible=bool(untrained)
    ):
        values["untrained"] = gr.Radio(untrained, show_label=False, container=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            values |= _inputs(clicks.service.limits)
            with gr.Row():
                values["ask"] = gr.Button("Ask", variant="primary", elem_id="ask")
                values["another"] = gr.Button("Another example", elem_id="another")
        with gr.Column(scale=1, min_width=300):
            values["result"] = gr.HTML(js_on_load=None, elem_id="result")
    return _Widgets(**values)


def _inputs(limits: Limits) -> dict[str, Any]:
    with gr.Group(visible=False) as text_box:
        text = gr.Textbox(
            label="Text",
            lines=1,  # of several, Enter would be a new line
            max_lines=6,
            max_length=limits.max_text_characters,
            submit_btn=False,
            elem_id="text",
        )
    is_drawing = gr.Checkbox(False, visible="hidden", elem_id="is-drawing")
    with gr.Column(visible=False) as picture_box, gr.Tabs() as tabs:
        with gr.Tab("Picture", id=PICTURE_TAB) as picture_tab:
            picture = gr.Image(
                label="Drop, paste or take a picture",
                type="filepath",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                height=220,
                buttons=["fullscreen"],
                elem_id="picture",
            )
        with gr.Tab("Draw") as drawing_tab:
            with open(os.path.join(TEMPLATES, "drawing_board.js")) as script:
                board = gr.HTML(
                    "",
                    html_template=_BOARD,
                    js_on_load=script.read(),
                    elem_id="board",
                )
    for tab, is_board in ((picture_tab, False), (drawing_tab, True)):
        tab.select(
            functools.partial(bool, is_board),
            outputs=is_drawing,
            show_progress="hidden",
            api_visibility="private",
        )
    with gr.Column(visible=False) as sound_box:
        sound = gr.Audio(
            label="Record or drop a sound",
            type="filepath",
            sources=["upload", "microphone"],
            buttons=["download"],  # not the one that shares it with another host
            elem_id="sound",
        )
    return {
        "text_box": text_box,
        "text": text,
        "picture_box": picture_box,
        "tabs": tabs,
        "picture": picture,
        "board": board,
        "is_drawing": is_drawing,
        "sound_box": sound_box,
        "sound": sound,
    }


def _connect(
    clicks: Clicks, widgets: _Widgets, blocks: gr.Blocks, cards: gr.HTML
) -> None:
    """Says what happens on which click."""
    private: dict[str, Any] = {"api_visibility": "private"}
    place = [widgets.pairing, widgets.shown]
    choices: list[tuple[Any, Any, Any]] = [
        (blocks.load, clicks.chosen, None),
        (widgets.trained.input, clicks.chosen, widgets.trained),
        (widgets.untrained.input, clicks.chosen, widgets.untrained),
        (widgets.another.click, clicks.another, place),
        (cards.click, clicks.card_chosen, None),
    ]
    for event, function, inputs in choices:
        # The input is there at once, the answer when the network has it.
        event(
            function,
            inputs=inputs,
            outputs=widgets.changed_by_choice,
            show_progress="hidden",
            **private,
        ).then(
            clicks.example_answered,
            inputs=place,
            outputs=widgets.result,
            show_progress="minimal",
            **private,
        )
    blocks.load(
        clicks.gallery_filled,
        outputs=cards,
        show_progress="hidden",
        concurrency_limit=None,
        **private,
    )
    asked: list[tuple[Any, Any, Any]] = [
        (widgets.board.change, clicks.drawing_answered, widgets.drawn_with)
    ]
    for event in (
        widgets.ask.click,
        widgets.text.submit,
        widgets.picture.upload,
        widgets.sound.upload,
        widgets.sound.stop_recording,
    ):
        asked.append((event, clicks.answered, widgets.asked_with))
    for event, function, inputs in asked:
        event(
            function,
            inputs=inputs,
            outputs=widgets.result,
            trigger_mode="always_last",
            show_progress="minimal",
            **private,
        )
