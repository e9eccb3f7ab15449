"""The graph turns photos as Python does, whatever their EXIF data looks like."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from t2t_mm.graph_orientation import orientation
from t2t_mm.graph_pictures import decode
from t2t_mm.media import upright
from t2t_mm.problem import Feature
from t2t_mm.raw_inputs import make_batch

PICTURE = Feature("image", height=11, width=13, channels=3)
PIXELS = np.random.default_rng(0).integers(0, 256, (17, 29, 3), np.uint8)


def photo(number, endian="<"):
    """A JPEG with EXIF data of a camera."""
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "Maker"
    exif[0x0112] = number
    content = io.BytesIO()
    Image.fromarray(PIXELS).save(content, "JPEG", exif=exif, comment=b"before")
    return content.getvalue()


@pytest.fixture(scope="module")
def in_graph():
    """f(file): (its orientation, the decoded picture, an error)."""
    spec = [tf.TensorSpec([], tf.string)]
    return tf.function(
        lambda content: (orientation(content), *decode(content, PICTURE, 5000)),
        autograph=False,
        input_signature=spec,
    )


@pytest.mark.parametrize("endian", ["<", ">"])
def test_each_orientation_is_turned_as_python_turns_it(endian, in_graph):
    seen = set()
    for number in range(1, 9):
        found, picture, error = in_graph(photo(number, endian))
        assert (int(found), error.numpy()) == (number, b"")
        expected = make_batch(PICTURE, [photo(number, endian)], {})["inputs"][0]
        np.testing.assert_allclose(picture, expected, atol=2e-6)
        seen.add(picture.numpy().tobytes())
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("number", "corner"), [(1, (0, 0)), (3, (2, 1)), (6, (0, 1)), (8, (2, 0))]
)
def test_the_corner_that_the_exif_data_names_comes_to_the_upper_left(number, corner):
    with Image.open(io.BytesIO(photo(number))) as image:
        marked = Image.new("RGB", (3, 2))
        marked.info = dict(image.info)
    marked.putpixel(corner, (255, 255, 255))
    assert upright(marked).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's
def test_of_damaged_exif_data_the_picture_stays_as_it_is(in_graph):
    whole = photo(6)
    place = whole.index(b"Exif\0\0") + 6
    for start, damage in (
        (place + 4, b"\xff\xff\xff\xff"),  # the directory is far behind the end
        (place + 4, b"\x00\x00\x00\xf0"),
        (place + 8, b"\x00\x00"),  # it has no entry
        (place - 6, b"Exit"),
        (place, b"\0" * 40),
    ):
        content = whole[:start] + damage + whole[start + len(damage) :]
        found, _, error = in_graph(content)
        assert (int(found), error.numpy()) == (1, b""), (start, damage)
        with Image.open(io.BytesIO(content)) as image:
            assert upright(image) is image


def test_files_that_end_early_or_repeat_themselves_are_read_to_an_end():
    whole = photo(6)
    for content in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe1", whole[:30], whole[:50]):
        assert int(orientation(tf.constant(content))) == 1
    assert int(orientation(tf.constant(b"\xff" * 5000))) == 1
    assert int(orientation(tf.constant(b"\xff\xe0\0\0" * 5000))) == 1
