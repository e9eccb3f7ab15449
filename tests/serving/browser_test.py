"""The page as a visitor meets it: in Chromium, without a network, wide and narrow."""

import base64
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np
import pytest
import soundfile
from PIL import Image

selenium = pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.options import Options  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="chromium or chromedriver is not installed: "
        "apt-get install chromium chromium-driver",
    ),
]
SMALL_PROBLEMS = os.path.join(os.path.dirname(__file__), "..", "small_problems")
WIDE, NARROW = (1280, 900), (390, 844)
SPOKEN_HERTZ, RECORDED_SECONDS = 440.0, 2.0
QUIET = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--hide-scrollbars"
).split()
# Only waited for when something is wrong, or the machine very busy.
PATIENCE_SECONDS = 600


def wait_for(find, what):
    """Gives what `find` finds, as soon as it finds something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if found := find():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come in {PATIENCE_SECONDS} seconds")


@pytest.fixture(scope="module")
def address(run_dir):
    """The address of a server that mm-serve started in a process of its own."""
    with tempfile.TemporaryFile("w+") as log:
        started = subprocess.Popen(
            [
                *(sys.executable, "-m", "t2t_mm.bin.mm_serve", "--port=0"),
                f"--output_dir={run_dir}",
                f"--t2t_usr_dir={SMALL_PROBLEMS}",
                f"--deadline_seconds={PATIENCE_SECONDS}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )

        def announced():
            log.seek(0)
            text = log.read()
            assert started.poll() is None, text
            return [w for w in text.split() if w.startswith("http://")]

        try:
            found = wait_for(announced, "the address of mm-serve")[0]
            wait_for(lambda: is_warm(found), "the end of warming up")
            yield found
            started.terminate()
            assert started.wait(PATIENCE_SECONDS) == 0, "SIGTERM stops it"
        finally:
            started.kill()
            started.wait()


def is_warm(address):
    with urllib.request.urlopen(f"{address}healthz") as response:
        return json.load(response)["is_warm"]


@contextlib.contextmanager
def browser(address, size, microphone=None):
    """A browser with a new profile that can reach nothing but this machine.

    A file may be what its microphone hears, over and over.
    """
    options = Options()
    options.binary_location = CHROMIUM
    with tempfile.TemporaryDirectory() as profile:
        resolver = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
        for argument in (
            *QUIET,
            f"--window-size={size[0]},{size[1]}",
            f"--user-data-dir={profile}",
            f"--host-resolver-rules={resolver}",
        ):
            options.add_argument(argument)
        if microphone:
            for argument in ("ui-for-media-stream", "device-for-media-stream"):
                options.add_argument(f"--use-fake-{argument}")
            options.add_argument(f"--use-file-for-fake-audio-capture={microphone}")
        if size == NARROW:
            metrics = {"width": size[0], "height": size[1], "pixelRatio": 2.0}
            options.add_experimental_option(
                "mobileEmulation", {"deviceMetrics": metrics}
            )
        options.set_capability(
            "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
        )
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            driver.get(address)
            wait_for(lambda: answer_of(driver), "the first answer")
            yield driver
        finally:
            driver.quit()


@pytest.fixture(scope="module")
def wide(address):
    with browser(address, WIDE) as driver:
        yield driver


def answer_of(driver):
    """Gives the HTML of the answer that is shown, without Gradio's progress around."""
    return driver.execute_script(
        "return [...document.querySelectorAll('#result .mm-answer, #result .mm-more')]"
        ".map((part) => part.outerHTML).join('')"
    )


def bars_of(answer):
    return re.findall(r"<b>([0-9.]+ %)</b>", answer)


def choose(driver, title):
    """Clicks one of the jobs, unless it is chosen; gives the answer of its example."""
    before = answer_of(driver)
    labels = driver.find_elements(By.CSS_SELECTOR, "#jobs label")
    label = next(one for one in labels if title in one.text)
    if label.find_element(By.CSS_SELECTOR, "input").is_selected():
        return before
    driver.execute_script("arguments[0].click()", label)
    return wait_for(
        lambda: answer_of(driver) != before and answer_of(driver), f"answer of {title}"
    )


def open_tab(driver, title):
    tabs = driver.find_elements(By.CSS_SELECTOR, "button[role=tab]")
    next(tab for tab in tabs if tab.text == title).click()
    time.sleep(0.5)  # the page tells the server which tab is open


def screenshot(driver, name):
    """Keeps a picture of the page where SERVE_SCREENSHOTS says, for people."""
    folder = os.environ.get("SERVE_SCREENSHOTS")
    if folder:
        driver.save_screenshot(os.path.join(folder, f"{name}.png"))


def visible(driver, selector):
    return any(
        one.is_displayed() for one in driver.find_elements(By.CSS_SELECTOR, selector)
    )


def test_each_job_shows_its_input_and_its_answer(wide):
    choose(wide, "Names a tone")
    assert visible(wide, "#sound") and not visible(wide, "#text")
    choose(wide, "which colour")
    assert "mm-bar" in answer_of(wide)
    assert visible(wide, "#picture") and not visible(wide, "#sound")
    choose(wide, "words backwards")
    assert visible(wide, "#text") and not visible(wide, "#picture")
    screenshot(wide, "wide")


def test_what_is_typed_is_answered(wide):
    choose(wide, "Names a tone")
    before = choose(wide, "words backwards")
    box = wide.find_element(By.CSS_SELECTOR, "#text textarea")
    box.clear()
    box.send_keys("a b <b>bold</b> {{x}} ${1+1}")
    wide.find_element(By.CSS_SELECTOR, "#ask").click()
    wait_for(lambda: answer_of(wide) != before, "an answer to what was typed")
    assert not wide.find_elements(By.CSS_SELECTOR, "#result b b")


def test_a_drawing_is_answered(wide):
    choose(wide, "words backwards")
    before = choose(wide, "which colour")
    open_tab(wide, "Draw")
    canvas = wait_for(
        lambda: [
            one
            for one in wide.find_elements(By.CSS_SELECTOR, "#board canvas")
            if one.is_displayed()
        ],
        "the board",
    )[0]
    red = wide.find_element(By.CSS_SELECTOR, "#board button[data-colour='#dd2e44']")
    red.click()
    actions = webdriver.ActionChains(wide).move_to_element(canvas).click_and_hold()
    for _ in range(6):
        actions.move_by_offset(15, 9)
    actions.release().perform()
    wait_for(lambda: answer_of(wide) != before, "an answer to the drawing")
    # Of the drawing, not of the picture in the other tab: its bars are others.
    of_drawing = bars_of(answer_of(wide))
    assert of_drawing != bars_of(before)
    screenshot(wide, "drawing")
    # Another example is shown, and the drawing is still there behind its tab.
    wide.find_element(By.CSS_SELECTOR, "#another").click()
    wait_for(lambda: visible(wide, "#picture"), "the other tab")
    shown = wait_for(
        lambda: "the data" in answer_of(wide) and answer_of(wide), "another example"
    )
    open_tab(wide, "Draw")
    wide.find_element(By.CSS_SELECTOR, "#ask").click()
    wait_for(lambda: answer_of(wide) != shown, "the answer to the drawing")
    assert bars_of(answer_of(wide)) == of_drawing


def test_a_dropped_picture_and_sound_are_answered(wide, tmp_path):
    Image.new("RGB", (31, 29), "green").save(tmp_path / "green.png")
    tone = np.sin(np.arange(4000) / 5)
    soundfile.write(tmp_path / "tone.wav", tone, 8000)
    for title, part, file in (
        ("which colour", "#picture", "green.png"),
        ("Names a tone", "#sound", "tone.wav"),
    ):
        choose(wide, "words backwards")
        before = choose(wide, title)
        for button in wide.find_elements(
            By.CSS_SELECTOR, f"{part} button[aria-label='Clear']"
        ):
            button.click()
        field = wait_for(
            lambda part=part: wide.find_elements(
                By.CSS_SELECTOR, f"{part} input[type=file]"
            ),
            "a place to drop files",
        )[0]
        field.send_keys(str(tmp_path / file))
        wait_for(
            lambda before=before: answer_of(wide) != before, f"an answer to {file}"
        )


def button(driver, part, name):
    """Waits for a button by what it says, or what it says of itself to the blind."""

    def found():
        for one in driver.find_elements(By.CSS_SELECTOR, f"{part} button"):
            said = (one.text, one.get_attribute("aria-label"))
            if one.is_displayed() and name in said:
                return one
        return None

    return wait_for(found, f"the button {name}")


def test_what_the_microphone_hears_is_recorded_and_answered(address, tmp_path):
    times = np.arange(48_000) / 48_000
    tone = 0.3 * np.sin(2 * np.pi * SPOKEN_HERTZ * times)
    soundfile.write(tmp_path / "tone.wav", tone, 48_000, "PCM_16")
    with browser(address, WIDE, tmp_path / "tone.wav") as driver:
        before = choose(driver, "Names a tone")
        button(driver, "#sound", "Clear").click()
        button(driver, "#sound", "Record audio").click()
        button(driver, "#sound", "Record").click()
        stop = button(driver, "#sound", "Stop")
        time.sleep(RECORDED_SECONDS)
        stop.click()
        wait_for(lambda: answer_of(driver) != before, "the answer to what was said")
        assert "mm-strips" in answer_of(driver)  # drawn below its spectrogram
        screenshot(driver, "recorded")
        link = wait_for(
            lambda: driver.execute_script(
                "const link = document.querySelector('#sound a[download]');"
                "return link && link.href"
            ),
            "the recorded file",
        )
    with urllib.request.urlopen(link) as response:
        heard, rate = soundfile.read(io.BytesIO(response.read()))
    heard = heard if heard.ndim == 1 else heard.mean(1)
    assert 0.5 * RECORDED_SECONDS < len(heard) / rate
    loudest = np.abs(np.fft.rfft(heard)).argmax() * rate / len(heard)
    assert abs(loudest - SPOKEN_HERTZ) < 5


def test_a_card_of_the_gallery_is_taken_up(wide):
    choose(wide, "words backwards")
    before = answer_of(wide)
    cards = wide.find_elements(By.CSS_SELECTOR, ".mm-card")
    assert len(cards) >= 4
    wide.execute_script("arguments[0].querySelector('h3').click()", cards[2])
    wait_for(lambda: answer_of(wide) != before, "the answer of a card")


def test_the_page_asks_no_other_host_and_reports_no_fault(address):
    with browser(address, WIDE) as driver:
        hosts = set()
        for entry in driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if url.startswith("http"):
                    hosts.add(url.split("/")[2])
        assert hosts == {address.split("/")[2]}
        faults = [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]
        assert not faults, faults


def test_on_a_phone_nothing_sticks_out_and_the_answer_is_near(address):
    with browser(address, NARROW) as driver:
        choose(driver, "words backwards")
        width = driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= NARROW[0]
        result = driver.find_element(By.CSS_SELECTOR, "#result").rect
        assert result["y"] < NARROW[1]
        screenshot(driver, "narrow")


def test_the_api_answers_beside_the_page(address):
    content = io.BytesIO()
    Image.new("RGB", (5, 5)).save(content, "PNG")
    picture = base64.b64encode(content.getvalue()).decode()
    body = {"problem": "small_colours", "inputs": {"image": picture}}
    request = urllib.request.Request(
        f"{address}api/generate",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
        answers = json.load(response)["answers"]
    assert answers[0]["output"] in ("red", "green", "blue")
