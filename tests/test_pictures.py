from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage.color import rgb2lab

from gradcut import images, pictures
from gradcut.pictures import letters
from gradcut.seeds import Seeds


def test_palette_is_pascal_voc():
    # The first entries as the VOC development kit lists them.
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert pictures.palette()[:7].tolist() == [list(colour) for colour in expected]
    assert len(np.unique(pictures.palette(), axis=0)) == 256


def test_class_colours_differ():
    for n in (0, 1, 18, 100):
        colours = pictures.class_colours(n)
        assert colours.shape == (n, 3)
        assert len(np.unique(colours, axis=0)) == n
        assert (colours.sum(1) > 0).all(), "black is no class"


def lightness(colours):
    """L* of CIELAB, 0 to 100."""
    return rgb2lab(colours[None])[0, :, 0]


def test_inferno_gets_lighter_in_even_steps():
    steps = np.diff(lightness(pictures.inferno(np.linspace(0, 1, 33))))
    assert steps[2:].min() > 0.75 * steps.mean()
    assert steps[:2].min() > 0.45 * steps.mean(), "near black L* itself is less even"
    assert steps.max() < 1.3 * steps.mean()
    assert pictures.inferno(np.array([0.0, 1.0])).tolist() == [[0, 0, 4], [252, 255, 164]]


def test_heat_rises_with_the_map_and_clips_nothing():
    ramp = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    light = lightness(pictures.heat(ramp * 1e-5).reshape(-1, 3))
    assert (np.diff(light) > 0).all()
    assert np.array_equal(pictures.heat(ramp), pictures.inferno(ramp)), "even maps are drawn as they are"
    assert (pictures.heat(np.zeros((4, 4), dtype=np.float32)) == (0, 0, 4)).all()


def test_few_high_pixels_leave_the_rest_to_be_seen():
    ramp = np.linspace(0, 1, 2500, dtype=np.float32).reshape(50, 50)
    high = ramp.copy()
    high[0, :4] = 4, 5, 6, 7
    light = lightness(pictures.heat(high).reshape(-1, 3))
    assert light[-1] > 70
    assert lightness(pictures.inferno(high / 7).reshape(-1, 3))[-1] < 25
    assert light[-1] < light[0] < light[1] < light[2] < light[3], "the highest are told apart"
    share, place = pictures.stretch(high)
    assert share == pytest.approx(np.percentile(high, 99.5) / 7)
    assert place == pytest.approx(0.85)


def test_rounding_is_not_drawn_as_heat():
    """Where a map is 0 nearly everywhere, so is its percentile, but for what rounding leaves."""
    spot = np.zeros((100, 100))
    spot[3, 4] = 1
    rounding = np.abs(np.random.default_rng(0).normal(0, 1e-9, spot.shape))
    assert np.array_equal(pictures.heat(spot + rounding), pictures.heat(spot))
    assert (pictures.heat(spot)[3, 4] == (252, 255, 164)).all()
    assert (pictures.heat(spot) != (0, 0, 4)).any(2).sum() == 1


def test_overlay_tints_labelled_pixels_only():
    photograph = np.full((40, 40, 3), 100, dtype=np.uint8)
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[10:30, 10:30] = 1
    picture = pictures.overlay(photograph, labels)
    assert (picture[:9] == 100).all()
    assert picture[20, 20].tolist() == [93, 140, 166]  # half way to the first colour
    assert picture[10, 10].tolist() == [86, 180, 233]  # the outline
    assert picture[9, 20].tolist() == picture[11, 20].tolist() == [0, 0, 0], "its casing"
    assert (pictures.overlay(photograph, labels, opacity=0.0)[20, 20] == 100).all()


@pytest.mark.parametrize("number", range(1, 31))
def test_an_outline_shows_on_any_photograph(number):
    """It is far from its casing in lightness, and one of the two is far from any ground."""
    colour = pictures.class_colours(number)[-1]
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[10:30, 10:30] = number
    picture = pictures.overlay(np.broadcast_to(colour, (40, 40, 3)).copy(), labels)
    assert (picture[10, 20] == colour).all()
    line, casing = lightness(picture[[10, 9], 20])
    assert abs(line - casing) > 30


def test_an_unsure_label_is_hatched():
    photograph = np.full((400, 400, 3), 100, dtype=np.uint8)
    labels = np.zeros((400, 400), dtype=np.uint8)
    labels[20:180, 20:180] = 1
    labels[220:380, 220:380] = 2
    sure, picture = (pictures.overlay(photograph, labels, thickness=4, unsure=unsure) for unsure in ([], [2]))
    assert np.array_equal(picture[:200], sure[:200])
    inner = picture[240:360, 240:360] == 100
    assert 0.4 < inner.all(2).mean() < 0.6, "every second stripe is the photograph's own"
    line = [(drawn[215:260, 300] == (213, 94, 0)).all(1).sum() for drawn in (sure, picture)]
    assert line[0] > line[1] > 0, "a thinner outline"


def test_seeds_are_red_and_blue():
    half = np.arange(64).reshape(8, 8) < 32
    picture = pictures.draw_seeds(np.full((8, 8, 3), 90, dtype=np.uint8), Seeds(half, ~half)).astype(int)
    assert (picture[half][:, 0] > picture[half][:, 2] + 50).all()
    assert (picture[~half][:, 2] > picture[~half][:, 0] + 50).all()


def test_a_cut_out_is_transparent_outside():
    photograph = np.full((6, 8, 3), 90, dtype=np.uint8)
    mask = np.arange(48).reshape(6, 8) < 20
    cut = pictures.cut_out(photograph, mask)
    assert cut.dtype == np.uint8
    assert (cut[mask] == (90, 90, 90, 255)).all()
    assert (cut[~mask] == 0).all()


# The picture of a result ---------------------------------------------------------------------------------------------


def rows_of(shape, number, title="cat {}", **options):
    """Blobs of one colour each in a photograph of that shape."""
    y, x = np.mgrid[:32, :32] / 32
    places = np.random.default_rng(0).random((number, 2))
    maps = [np.exp(-20 * ((y - cy) ** 2 + (x - cx) ** 2)).astype(np.float32) for cy, cx in places]
    return [
        pictures.Row(title.format(n), m, Seeds(m > 0.8, m < 0.1), images.resize_map(m, shape) > 0.5, **options)
        for n, m in enumerate(maps)
    ]


def drawn_sheet(shape, rows, notes=()):
    photograph = np.full((*shape, 3), 90, dtype=np.uint8)
    labelmap = np.zeros(shape, dtype=np.int32)
    for number, row in enumerate(rows, start=1):
        labelmap[row.mask] = number
    return pictures.sheet(photograph, labelmap, rows, notes)


@pytest.fixture
def written(monkeypatch):
    """Every text and panel, by the picture that it is drawn into: its words, none for a panel, and its box."""
    texts = {}
    text, paste = ImageDraw.ImageDraw.text, Image.Image.paste

    def watched(draw, place, words, fill, font, anchor=None):
        box = draw.textbbox(place, words, font, anchor)
        texts.setdefault(id(draw.im), (draw, []))[1].append((words, box))
        text(draw, place, words, fill, font, anchor)

    def pasted(picture, panel, place, mask=None):
        if mask is None:
            box = (*place, place[0] + panel.width, place[1] + panel.height)
            texts.setdefault(id(picture.im), (picture, []))[1].append((None, box))
        paste(picture, panel, place, mask)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", watched)
    monkeypatch.setattr(Image.Image, "paste", pasted)
    return texts


_WIDE, _LONG, _ODD = "W" * 90, "one of the many long names that a class may have, {}", "\u0130\n\u00fc"
_OTHER = "Кот, γάτα, قطة, 猫 {}"
SHAPES = [(1, 1), (4, 900), (900, 4), (60, 80), (480, 640), (800, 400), (200, 700)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("number", "title"), [(1, _WIDE), (8, _LONG), (13, _WIDE), (13, _ODD), (8, _OTHER), (300, _LONG)]
)
def test_text_has_its_own_place(written, shape, number, title):
    """Inside the picture, and over no other text or panel; and the picture is no larger than it may be."""
    rows = rows_of(shape, number, title, score=0.876, confidence=0.123, unsure=True)
    rows = [replace(row, saliency=row.saliency * np.float32(1.23e-5)) for row in rows]
    picture = drawn_sheet(shape, rows, [title] * (number % 8))
    assert picture.shape[0] <= pictures.HIGHEST
    assert picture.shape[1] <= pictures.WIDEST
    for draw, texts in written.values():
        for words, (left, top, right, bottom) in texts:
            inside = 0 <= left <= right <= draw.im.size[0] and 0 <= top <= bottom <= draw.im.size[1]
            assert inside, (words, left, top, right, bottom, draw.im.size)
        boxes = [(words, box) for words, box in texts if words != ""]
        for n, (words, one) in enumerate(boxes):
            for others, two in boxes[n + 1 :]:
                apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
                assert apart, (words, one, others, two)


def said(written):
    return [words for _, texts in written.values() for words, _ in texts if words]


def test_what_cannot_be_trusted_is_marked_in_words(written):
    sure, doubtful = rows_of((60, 80), 2, score=0.9, confidence=0.7)
    doubtful = replace(doubtful, confidence=0.1, unsure=True)
    nothing = Seeds(np.zeros((8, 8), dtype=bool), np.zeros((8, 8), dtype=bool))
    blank = pictures.Row("dog", np.zeros((8, 8), np.float32), nothing, np.zeros((60, 80), dtype=bool), 0.8, 0.0, True)
    drawn_sheet((60, 80), [sure, doubtful, blank])
    words = said(written)
    assert words.count("0.70") == 1, "in the legend"
    assert words.count("expected IoU 0.70") == 1, "in its row"
    assert words.count("0.10  unsure") == 1
    assert words.count("unsure") == 1
    assert words.count("blank: no mask") == 2
    written.clear()
    drawn_sheet((60, 80), rows_of((60, 80), 2, score=0.9))
    assert not {"unsure", "expected IoU", "blank: no mask"} & set(said(written))


def test_classes_beyond_the_height_are_counted(written):
    for number in (2, 12, 40, 300):
        written.clear()
        drawn_sheet((480, 640), rows_of((480, 640), number, score=0.9))
        words = said(written)
        counts = [int(text.split()[0]) for text in words if text.endswith("no row here")]
        rows = words.count("score 0.90")
        assert rows + sum(counts) == number
        assert bool(counts) == (number > 11)
        legend = [int(text.split()[1]) for text in words if text.startswith("and ")]
        assert words.count("0.90") + sum(legend) == number
        assert bool(legend) == (number == 300)


def test_notes_stand_between_legend_and_rows(written):
    rows = rows_of((60, 80), 2, score=0.9)
    plain = drawn_sheet((60, 80), rows).shape
    for number, last in ((1, "note 0"), (4, "note 3"), (5, "and 2 more"), (9, "and 6 more")):
        written.clear()
        picture = drawn_sheet((60, 80), rows, [f"note {n}" for n in range(number)])
        told = [words for words in said(written) if words.startswith(("note", "and"))]
        assert (len(told), told[-1]) == (min(number, 4), last)
        assert picture.shape[1] == plain[1]
        assert plain[0] < picture.shape[0]


def test_the_scale_tells_the_numbers_of_the_map(written):
    (row,) = rows_of((480, 640), 1)
    drawn_sheet((480, 640), [replace(row, saliency=row.saliency / row.saliency.max() * 8)])
    assert {"8", "4", "0"} <= set(said(written))
    written.clear()
    high = np.linspace(0, 1, 2500, dtype=np.float32).reshape(50, 50)
    high[0, :4] = 4, 5, 6, 7
    drawn_sheet((480, 640), [replace(row, saliency=high)])
    assert {"7", "1", "0"} <= set(said(written)), "where the scale bends, instead of the middle"


def test_the_photograph_is_shown_once_whole(cat):
    """Beside the one in colour; the rows show it with what was found."""
    shape = cat.shape[:2]
    rows = rows_of(shape, 3)
    labelmap = np.zeros(shape, dtype=np.uint8)
    labelmap[rows[0].mask] = 1
    picture = pictures.sheet(cat, labelmap, rows)
    height = int(np.flatnonzero((picture[20:, 30] == 255).all(1))[0])
    width = int(height * shape[1] / shape[0])
    whole = images.resize(cat, (height, width))
    assert np.array_equal(picture[20 : 20 + height, 34 + width : 34 + 2 * width], whole)
    coloured = picture[20 : 20 + height, 20 : 20 + width].astype(int)
    there = images.resize_mask(labelmap > 0, (height, width))
    inner = images.resize_map(there.astype(np.float32), (height, width)) > 0.99
    assert np.abs(coloured - whole)[inner].mean() > 10 * np.abs(coloured - whole)[~there].mean()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", [1, 3])
def test_a_strip_has_a_row_an_object(shape, number):
    photograph = np.full((*shape, 3), 90, dtype=np.uint8)
    rows = rows_of(shape, number)
    one, picture = pictures.strip(photograph, rows[:1]), pictures.strip(photograph, rows)
    assert picture.shape[1] == one.shape[1]
    assert picture.shape[0] - one.shape[0] == (number - 1) * (one.shape[0] - 34)
    lower = pictures.strip(photograph, rows, height=100)
    assert lower.shape[0] <= picture.shape[0]


def test_a_row_of_a_blank_map_shows_the_map_alone():
    photograph = np.full((60, 80, 3), 90, dtype=np.uint8)
    nowhere = np.zeros((8, 8), dtype=bool)
    blank = pictures.Row("cat", np.zeros((8, 8), np.float32), Seeds(nowhere, nowhere), np.zeros((60, 80), dtype=bool))
    with_map = replace(blank, saliency=np.eye(8, dtype=np.float32))
    picture, other = pictures.strip(photograph, [blank]), pictures.strip(photograph, [with_map])
    right = slice(picture.shape[1] // 2, None)
    assert (picture[30:, right] == 255).all(), "no seeds, no mask"
    assert (other[30:, right] != 255).any()


def compared(photograph, methods, classes, **options):
    ramp = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    headings = [
        [pictures.Heading(f"{what} {n}", "0.9") for n in range(count)]
        for what, count in (("m", methods), ("c", classes))
    ]
    panels = [[pictures.Panel(ramp) for _ in range(classes)] for _ in range(methods)]
    return pictures.comparison(photograph, "a photograph", *headings, panels, **options)


@pytest.mark.parametrize(("methods", "classes"), [(1, 1), (2, 2), (9, 1), (1, 9), (33, 4), (3, 20)])
@pytest.mark.parametrize("size", [(60, 80), (400, 40), (30, 600)])
def test_a_comparison_is_never_too_wide(methods, classes, size):
    picture = compared(np.full((*size, 3), 90, dtype=np.uint8), methods, classes)
    assert 900 <= picture.shape[1] <= pictures.WIDEST
    assert picture.shape[0] >= 200
    if methods * classes <= 9 and size == (60, 80):
        assert picture.shape[0] <= pictures.HIGHEST + 20


@pytest.mark.parametrize(("methods", "classes"), [(3, 2), (2, 3)])
def test_what_a_method_took_stands_beside_its_name(methods, classes, written):
    compared(np.zeros((60, 80, 3), dtype=np.uint8), methods, classes)
    words = [text for _, texts in written.values() for text, _ in texts]
    if methods < classes:
        assert {"m 0  0.9", "m 1  0.9"} <= set(words)
    else:
        assert {"m 0", "m 1", "m 2"} <= set(words)
        assert words.count("0.9") >= methods


def test_a_comparison_has_each_map_and_mask_once():
    photograph = np.zeros((60, 80, 3), dtype=np.uint8)
    dark, light = np.zeros((4, 4), dtype=np.float32), np.ones((4, 4), dtype=np.float32)
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:40, 20:60] = True
    names = [pictures.Heading("one"), pictures.Heading("two")]
    panels = [[pictures.Panel(dark), pictures.Panel(light)], [pictures.Panel(dark, mask), pictures.Panel(dark)]]
    picture = pictures.comparison(photograph, "black", names, names, panels)
    yellow = (picture == pictures.glow(photograph, light)[0, 0]).all(2)
    rows, columns = np.nonzero(yellow)
    assert yellow[rows.min() : rows.max(), columns.min() : columns.max()].mean() > 0.95, "one light panel"
    with_mask = pictures.comparison(photograph, "black", names, names, [panels[0], [panels[1][1]] * 2])
    changed = np.argwhere((picture != with_mask).any(2))
    assert len(changed) > 100
    assert changed[:, 0].min() > rows.max(), "the outline is in the second row"
    assert changed[:, 1].max() < columns.min(), "and in the first column"


def test_a_map_glows_on_its_photograph():
    photograph = np.full((20, 20, 3), 200, dtype=np.uint8)
    ramp = np.tile(np.linspace(0, 1, 20, dtype=np.float32), (20, 1))
    glowing = pictures.glow(photograph, ramp * 1e-6)
    assert np.array_equal(glowing, pictures.glow(photograph, ramp)), "by the map's own scale"
    assert np.ptp(glowing[0, 0]) == 0, "grey where the map is 0"
    assert glowing[0, -1, 0] - glowing[0, -1, 2] > 50, "yellow at its maximum"


@pytest.fixture
def fonts(monkeypatch, tmp_path):
    """A folder in the place of this machine's fonts."""
    monkeypatch.setattr(letters, "FOLDERS", (str(tmp_path),))
    for remembered in (letters._file, letters._files):
        remembered.cache_clear()
    yield tmp_path
    for remembered in (letters._file, letters._files):
        remembered.cache_clear()


def is_box(font, text):
    """Whether every letter is drawn as one that no font has."""
    return {bytes(font.getmask(letter)) for letter in text} == {bytes(font.getmask("\U0010ffff"))}


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("crème brûlée, ½", "creme brulee, 1\u20442"),
        ("Straße\u2013Øresund, Łódź", "Strasse-Oresund, Lodz"),
        ("a\nb", "a_b"),
    ],
)
def test_latin_letters_are_drawn_in_pillows_own_font(fonts, text, drawn):
    assert letters.plain(text) == drawn
    assert letters.font(15, drawn).font.family == ImageFont.load_default(15).font.family
    assert letters.told_by_numbers([text]) == []


def of_a_file(font):
    return isinstance(font.path, str | Path)


OTHERS = ["猫", "ねこ", "が", "قطة", "बिल्ली", "Кот", "γάτα", "แมว", "고양이", "cat 😀"]


@pytest.mark.parametrize("text", OTHERS)
def test_letters_of_no_font_are_told_by_numbers(fonts, written, text):
    assert is_box(ImageFont.load_default(15), text.removeprefix("cat ")), "what would be drawn else"
    numbers = text.encode("ascii", "backslashreplace").decode()
    assert letters.plain(text) == numbers
    assert letters.told_by_numbers([text, "cat", r"a\b"]) == [text]
    (row,) = rows_of((60, 80), 1, text)
    drawn_sheet((60, 80), [row], [text])
    assert [words for words in said(written) if words == numbers]
    for words in said(written):
        assert words.isascii() or "…" in words


def test_fonts_in_a_home_that_is_another_users_or_nobodys_are_none(fonts, monkeypatch):
    stat = os.stat

    def refused(path, **options):
        if "another" in os.fspath(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return stat(path, **options)

    def unknown(user):
        raise KeyError(user)

    monkeypatch.setattr(os, "stat", refused)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(letters, "FOLDERS", (str(fonts / "another"), "~/.fonts"))
    assert letters.plain("猫") == r"\u732b"


@pytest.mark.parametrize("text", ["猫", "が", "می\u200cخواهم", "❤\ufe0f"])  # noqa: RUF001
def test_letters_of_another_script_are_drawn_in_a_font_of_this_machine(fonts, monkeypatch, text):
    whole = text.replace("\u200c", "").replace("\ufe0f", "")
    assert letters.plain(text) != whole
    letters._file.cache_clear(), letters._files.cache_clear()
    content = ImageFont.load_default(16).font_bytes
    for name in ("a-Bold.ttf", "b-Regular.otf", "c.ttc", "LastResort.ttf"):
        (fonts / name).write_bytes(content)
    (fonts / "a.ttf").write_bytes(b"no font")
    has = letters._has
    monkeypatch.setattr(letters, "_has", lambda font, letter: of_a_file(font) or has(font, letter))
    assert letters.plain(text) == whole
    assert Path(letters.font(15, whole).path) == fonts / "b-Regular.otf", "the plain one, and one that can be read"
    assert letters.font(15, whole).size == 15
    assert letters.told_by_numbers([text]) == []


def test_letters_that_join_need_a_layout_that_joins_them(fonts, monkeypatch):
    (fonts / "a.ttf").write_bytes(ImageFont.load_default(16).font_bytes)
    has = letters._has
    monkeypatch.setattr(letters, "_has", lambda font, letter: of_a_file(font) or has(font, letter))
    monkeypatch.setattr(letters.features, "check", lambda feature: False)
    assert letters.plain("猫") == "猫"
    assert letters.plain("قطة") == r"\u0642\u0637\u0629"
