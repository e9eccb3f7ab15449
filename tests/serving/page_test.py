import asyncio
import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from t2t_mm.serving import explanations
from t2t_mm.serving.clicks import Clicks
from t2t_mm.serving.desk import Desk
from t2t_mm.serving.gallery import Shelf, filled_shelf
from t2t_mm.serving.service import Service

TEXT, SOUND, PICTURE = range(3)


@pytest.fixture
def clicks(service, desk, shelf, tmp_path):
    return Clicks(service, desk, shelf, str(tmp_path))


def answered(clicks, number, *, text="", picture=None, board=None, sound=None):
    return asyncio.run(
        clicks.answered(number, text, picture, board, sound, board is not None)
    )


def png(size=(23, 19)):
    content = io.BytesIO()
    Image.new("RGB", size, "red").save(content, "PNG")
    return content.getvalue()


def test_the_page_is_served_without_links_to_other_hosts(client):
    page = client.get("/")
    assert page.status_code == 200
    assert b"default-src 'self'" in page.headers["content-security-policy"].encode()
    assert "fonts.googleapis" not in page.text + client.get("/theme.css").text


def test_a_choice_shows_an_example_answered(clicks, service):
    for number, pairing in enumerate(service.pairings):
        found = clicks.chosen(number)
        assert found[8:10] == [number, 0]
        drawn = asyncio.run(clicks.example_answered(number, 0))
        assert "mm-answer" in drawn and "mm-error" not in drawn, pairing
        modality = service.problem(pairing.problem).inputs.modality
        shown = [found[2]["visible"], found[4]["visible"], found[6]["visible"]]
        assert shown == [modality == m for m in ("text", "image", "audio")]


def test_another_example_is_another_one_and_they_come_round(clicks, shelf):
    number_of = len(shelf.examples["small_reverse"])
    texts = [clicks.another(TEXT, n)[3] for n in range(-1, number_of)]
    assert texts[0] == texts[-1] and len(set(texts)) == number_of


def test_what_a_visitor_gives_is_answered_and_explained(clicks, tmp_path):
    assert "mm-heat" in answered(clicks, TEXT, text="a b c")
    (tmp_path / "red.png").write_bytes(png())
    drawn = answered(clicks, PICTURE, picture=str(tmp_path / "red.png"))
    assert "mm-bars" in drawn
    board = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    assert "mm-bars" in answered(clicks, PICTURE, board=board)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"number": TEXT, "text": "a" * 102}, "102 characters came"),
        ({"number": PICTURE, "board": "data:image/png;base64,%%%"}, "is no base64"),
        ({"number": PICTURE, "board": "data:image/png;base64,AAAA"}, "cannot be read"),
        ({"number": SOUND, "sound": "BROKEN"}, "cannot be read"),
        ({"number": SOUND, "sound": "LARGE"}, "expected at most 0.25 MB"),
    ],
)
def test_mistakes_are_told_on_the_page(clicks, tmp_path, given, text):
    (tmp_path / "BROKEN").write_bytes(b"RIFF")
    (tmp_path / "LARGE").write_bytes(b"R" * 300_000)
    if "sound" in given:
        given = given | {"sound": str(tmp_path / given["sound"])}
    drawn = answered(clicks, given.pop("number"), **given)
    assert "mm-error" in drawn and text in drawn


@pytest.mark.parametrize("number", [TEXT, PICTURE, SOUND])
def test_nothing_given_is_no_mistake(clicks, number):
    assert "then press Ask" in answered(clicks, number)


def test_without_data_the_gallery_says_so_and_the_page_works(
    small_run, service, desk, tmp_path
):
    run = small_run[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "data_dir", str(tmp_path / "nowhere"))
        shelf = filled_shelf(Service(run, service.limits))
    assert not shelf.examples
    assert (
        "No examples of 4 of the problems" in shelf.note and "--data_dir" in shelf.note
    )
    clicks = Clicks(service, desk, shelf, str(tmp_path))
    assert "nowhere" in clicks.gallery()
    assert clicks.chosen(TEXT)[3] is None
    assert "then press Ask" in asyncio.run(clicks.example_answered(TEXT, 0))


def test_the_gallery_has_cards_of_every_problem(clicks, shelf):
    drawn = clicks.gallery()
    assert drawn.count("<article") == len(clicks.cards) == 4
    assert isinstance(shelf, Shelf) and drawn.count("<audio") == 1


def test_the_gallery_fills_up_while_the_network_warms_up(service, tmp_path):
    desk, shelf = Desk(service.limits), filled_shelf(service, answered=1)
    desk.is_warm = False
    clicks = Clicks(service, desk, shelf, str(tmp_path))

    async def seen_while_it_fills():
        drawn = []
        async for gallery in clicks.gallery_filled():
            drawn.append(gallery.count("Waiting for the answer"))
            if len(drawn) == 1:
                shelf.answer_all(service, lambda work: work())
            else:
                desk.is_warm = True
        return drawn

    assert asyncio.run(seen_while_it_fills()) == [4, 0, 0]
    desk.close()


def test_an_example_beyond_the_limits_leaves_its_card_without_an_answer(
    small_run, service, desk, tmp_path
):
    limits = dataclasses.replace(service.limits, max_text_characters=2)
    own = Service(small_run[1], limits)
    shelf = filled_shelf(own, answered=1)
    shelf.answer_all(own, lambda work: work())
    drawn = Clicks(own, desk, shelf, str(tmp_path)).gallery()
    assert drawn.count("expected at most 2") == 1 and drawn.count("<article") == 4


def test_a_spectrogram_shows_low_tones_below_and_high_ones_above():
    times = np.arange(8000) / 8000
    for hertz, is_below in ((300, True), (3700, False)):
        loud = explanations.spectrogram(np.sin(2 * np.pi * hertz * times))
        row = int(loud.mean(1).argmax())
        assert (row > len(loud) / 2) == is_below
        # Rows are thinned out, so that the very loudest may be missing.
        assert loud.dtype == np.uint8 and loud.max() > 200


def test_the_usual_search_is_within_the_limits(small_run, service):
    narrow = dataclasses.replace(service.limits, max_answers=2)
    own = Service(small_run[1], narrow)
    own.settings(own.usual_settings("To-English"))
    assert own.usual_settings("To-English")["beam_size"] == 2


def clicked_ask(client, picture):
    """What comes back when a program clicks Ask with a picture of its choice."""
    config = client.get("/config").json()
    elements = {c["id"]: c["props"].get("elem_id") for c in config["components"]}
    asked = next(
        d
        for d in config["dependencies"]
        if any(elements.get(i) == "ask" and e == "click" for i, e in d["targets"])
    )
    known = {"picture": picture, "pairing": PICTURE, "is-drawing": False}
    data = [known.get(elements[i]) for i in asked["inputs"]]
    body = {"data": data, "fn_index": asked["id"], "session_hash": "stranger"}
    joined = client.post("/gradio_api/queue/join", json=body)
    assert joined.status_code == 200, joined.text
    return client.get("/gradio_api/queue/data?session_hash=stranger").text


@pytest.mark.parametrize(
    "path", ["http://127.0.0.1:9/a.png", "https://example.org/a.png", "own.png"]
)
def test_no_address_and_no_file_of_the_server_is_taken_for_an_upload(
    client, monkeypatch, path, tmp_path
):
    from gradio import processing_utils

    if path == "own.png":  # a picture that could be read
        path = str(tmp_path / path)
        (tmp_path / "own.png").write_bytes(png())
    fetched = []

    async def fetch(url, **options):
        fetched.append(url)
        raise OSError("not in a test")

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", fetch)
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    told = clicked_ask(client, picture)
    assert '"process_completed"' in told and '"success":false' in told
    assert not fetched


# Gradio leaves the file of a picture open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_was_uploaded_is_taken(client):
    files = {"files": ("a.png", png())}
    (path,) = client.post("/gradio_api/upload", files=files).json()
    told = clicked_ask(client, {"path": path, "meta": {"_type": "gradio.FileData"}})
    assert '"success":true' in told


def test_an_event_that_the_page_has_not_is_refused(client):
    body = {"data": [], "fn_index": 10**6, "session_hash": "stranger"}
    answer = client.post("/gradio_api/queue/join", json=body)
    assert answer.status_code == 400 and "Reload the page" in answer.json()["error"]
