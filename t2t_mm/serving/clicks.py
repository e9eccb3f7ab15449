"""What happens on the page when somebody clicks, apart from how the page looks.

Everything that a visitor sends is read by `service`, as in the API; of one visitor
nothing is kept here.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import gradio as gr

from t2t_mm.answers import Answer
from t2t_mm.problem import AUDIO, IMAGE, TEXT
from t2t_mm.serving import drawings, explanations
from t2t_mm.serving.desk import Desk
from t2t_mm.serving.gallery import Example, Shelf
from t2t_mm.serving.limits import TOO_LARGE, Limits, Refused
from t2t_mm.serving.service import Pairing, Question, Reply, Service
from t2t_mm.serving.uploads import from_base64

PICTURE_TAB = "picture"
_GALLERY_SECONDS = 0.5


class Clicks:
    """Answers the events of the page.

    Args:
      service: what answers.
      desk: where it answers.
      shelf: the gallery.
      folder: for the files of examples, as Gradio's widgets want files.
    """

    def __init__(self, service: Service, desk: Desk, shelf: Shelf, folder: str):
        self.service = service
        self.desk = desk
        self.shelf = shelf
        self.folder = folder
        self.pairings: Sequence[Pairing] = service.pairings
        self.cards = [
            (name, number)
            for number in range(shelf.answered)
            for name, examples in shelf.examples.items()
            if number < len(examples)
        ]
        self._gallery = ((-1, False), "")

    def subtitle(self) -> str:
        """Gives the line below the heading, as HTML."""
        run = self.service.run
        return (
            f"{run.record['model']} after {run.step:,} steps. Choose, then change the "
            'example or bring your own. <a href="api">JSON API</a>'
        )

    def choices(self, is_trained: bool) -> list[tuple[str, int]]:
        """Gives title and number of the pairings of a sort."""
        return [
            (pairing.title, number)
            for number, pairing in enumerate(self.pairings)
            if pairing.is_trained == is_trained
        ]

    async def gallery_filled(self) -> AsyncIterator[str]:
        """Gives the gallery as HTML, anew for every problem that is answered."""
        last = -1
        while True:
            is_last, known = self.desk.is_warm, len(self.shelf.replies)
            if known != last or is_last:
                yield self.gallery()
            if is_last:
                return
            last = known
            await asyncio.sleep(_GALLERY_SECONDS)

    def gallery(self) -> str:
        """Gives the gallery as HTML, as far as it is answered.

        One text for all visitors, until there is another: Gradio keeps it for each.
        """
        state = (len(self.shelf.replies), self.desk.is_warm)
        if state != self._gallery[0]:
            self._gallery = (state, self._drawn_gallery())
        return self._gallery[1]

    def _drawn_gallery(self) -> str:
        titles = {p.problem: p.title for p in self.pairings if p.is_trained}
        cards = [
            drawings.drawn_card(
                titles[name],
                self.shelf.examples[name][number],
                self._gallery_answer(name, number),
                is_tree=self.service.writes_trees(self.service.problem(name).command),
                number=place,
            )
            for place, (name, number) in enumerate(self.cards)
        ]
        return drawings.drawn_gallery(cards, self.shelf.note)

    def _gallery_answer(self, name: str, number: int) -> Answer | str:
        reply = self.shelf.reply(name, number)
        if isinstance(reply, Refused):
            return str(reply)
        if reply is not None:
            return reply.answer
        return "No answer." if self.desk.is_warm else "Waiting for the answer ..."

    # What the events call

    def chosen(self, number: int | None = 0, shown: int = 0) -> list[Any]:
        """Shows a pairing with one of its examples; `example_answered` comes next."""
        if number is None or number not in range(len(self.pairings)):
            number = 0
        pairing = self.pairings[number]
        modality = self.service.problem(pairing.problem).inputs.modality
        example = self._example(pairing, shown)
        content = self._for_widget(example, pairing, shown)
        return [
            gr.update(value=number if pairing.is_trained else None),
            gr.update(value=None if pairing.is_trained else number),
            gr.update(visible=modality == TEXT),
            content if modality == TEXT else "",
            gr.update(visible=modality == IMAGE),
            content if modality == IMAGE else None,
            gr.update(visible=modality == AUDIO),
            content if modality == AUDIO else None,
            number,
            shown,
            gr.update(selected=PICTURE_TAB),
            False,
        ]

    async def example_answered(self, number: int, shown: int) -> str:
        """Answers the example that is shown; gives HTML."""
        pairing = self.pairings[number]
        example = self._example(pairing, shown)
        if example is None:
            return drawings.drawn_invitation()
        known = self.shelf.reply(pairing.problem, shown)
        if pairing.is_trained and isinstance(known, Reply):
            content, reference = example.content, example.reference
            return await asyncio.to_thread(
                self._drawn_reply, pairing, known, content, reference
            )
        return await self._drawn(pairing, example.content, example.reference)

    def _example(self, pairing: Pairing, shown: int) -> Example | None:
        examples = self.shelf.examples.get(pairing.problem, ())
        return examples[shown % len(examples)] if examples else None

    def another(self, number: int, shown: int) -> list[Any]:
        """Shows the next example of the same pairing."""
        return self.chosen(number, shown + 1)

    def card_chosen(self, event: gr.EventData) -> list[Any]:
        """Shows the example of a card of the gallery."""
        place = getattr(event, "card", 0)
        name, shown = self.cards[place if place in range(len(self.cards)) else 0]
        numbers = [i for i, p in enumerate(self.pairings) if p.problem == name]
        return self.chosen(numbers[0], shown)

    async def answered(
        self,
        number: int,
        text: str,
        picture: str | None,
        board: str | None,
        sound: str | None,
        is_drawing: bool,
    ) -> str:
        """Answers what stands in the input; gives HTML."""
        pairing = self.pairings[number]
        modality = self.service.problem(pairing.problem).inputs.modality
        limits = self.service.limits
        try:
            content: str | bytes | None = text
            if modality == IMAGE and is_drawing:
                content = from_base64(board, "drawing", limits) if board else None
            elif modality == IMAGE:
                content = _file_content(picture, limits)
            elif modality == AUDIO:
                content = _file_content(sound, limits)
        except Refused as error:
            return drawings.drawn_error(str(error))
        if not content:
            return drawings.drawn_invitation()
        return await self._drawn(pairing, content)

    async def drawing_answered(self, number: int, board: str | None) -> str:
        """Answers what was drawn; gives HTML."""
        return await self.answered(number, "", None, board, None, True)

    async def _drawn(
        self, pairing: Pairing, content: str | bytes, reference: str = ""
    ) -> str:
        problem = self.service.problem(pairing.problem)
        question = Question(
            problem.name,
            [content],
            pairing.command,
            self.service.usual_settings(pairing.command),
            explain=True,
        )

        def work() -> str:
            reply = self.service.answer(question)[0]
            return self._drawn_reply(pairing, reply, content, reference)

        try:
            self.service.check(question)
            return await self.desk.asked(work)
        except Refused as error:
            return drawings.drawn_error(str(error))

    def _drawn_reply(
        self, pairing: Pairing, reply: Reply, content: str | bytes, reference: str
    ) -> str:
        drawn = drawings.drawn_answer(
            reply.answer,
            is_tree=self.service.writes_trees(pairing.command),
            sentence=content if isinstance(content, str) else "",
            reference=reference if pairing.is_trained else "",
        )
        if reply.trace is not None:
            inputs = self.service.problem(pairing.problem).inputs
            seen = self.service.read(inputs, content)
            drawn += explanations.drawn_trace(reply.trace, seen)
        return drawn

    def _for_widget(
        self, example: Example | None, pairing: Pairing, shown: int
    ) -> str | None:
        """Gives a text, or the path of a file with a picture or sound."""
        if example is None:
            return None
        if isinstance(example.content, str):
            return example.content
        problem = self.service.problem(pairing.problem)
        number = shown % len(self.shelf.examples[pairing.problem])
        suffix = drawings.kind_of_file(problem)
        path = os.path.join(self.folder, f"{problem.name}-{number}{suffix}")
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(example.content)
        return path


def _file_content(path: str | None, limits: Limits) -> bytes | None:
    """Gives the bytes of a file that Gradio received from the visitor."""
    if not path:
        return None
    size = os.path.getsize(path)
    if size > limits.max_upload_bytes:
        raise Refused(
            TOO_LARGE,
            f"A file of {size / 2**20:.1f} MB came; expected at most "
            f"{limits.max_upload_megabytes:g} MB. Make it smaller.",
        )
    with open(path, "rb") as file:
        return file.read()
