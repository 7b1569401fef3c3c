"""Letters: Pillow's own font, which has those of English alone, and what is done about all others."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import ImageFont, features

from gradcut.names import printable

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

#: Where Linux, macOS and Windows keep fonts: what all users have, then what one has installed.
FOLDERS = (
    "/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:/Windows/Fonts",
    "~/.local/share/fonts", "~/.fonts", "~/Library/Fonts", "~/AppData/Local/Microsoft/Windows/Fonts",
)  # fmt: skip
_SUFFIXES = {".ttf", ".ttc", ".otf", ".otc"}
# Of fonts' files: not the plain hand that a legend is in; and fonts that draw boxes, or nothing, for every letter.
_FANCY = re.compile("bold|italic|oblique|light|thin|black|condensed|mono|serif", re.IGNORECASE)
_HOLLOW = re.compile("lastresort|adobeblank", re.IGNORECASE)
# Latin letters without a decomposition, and dashes.
_LATIN = str.maketrans({
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
    "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ħ": "h", "Ħ": "H", "\u0131": "i",
    "\u2013": "-", "\u2014": "-",
})  # fmt: skip


def plain(text: str) -> str:
    """What is drawn of a text, in one line.

    Latin letters lose their accents, for which Pillow's own font has no shapes. A text in another script is kept if a
    font of this machine has all of its letters; else they are told by their numbers: ``\\u732b``.
    """
    letters = unicodedata.normalize("NFKD", printable(text)).translate(_LATIN)
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    if not _beyond(letters):
        return letters
    # Letters whole, without the marks that only ask for another form of them.
    whole = printable("".join(letter for letter in unicodedata.normalize("NFC", text) if not _asks(letter)))
    return whole if _file(_beyond(whole)) else whole.encode("ascii", "backslashreplace").decode()


def told_by_numbers(texts: Iterable[str]) -> list[str]:
    """Of these texts those in whose place `plain` has numbers, for want of a font."""
    return [text for text in texts if "\\" in plain(text) and "\\" not in text]


def font(size: int, text: str = "") -> Font:
    """Pillow's own, or one of this machine that has all letters of a text that `plain` gave."""
    file = _file(_beyond(text))
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


def _asks(letter: str) -> bool:
    return unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f"


def _beyond(text: str) -> frozenset[str]:
    """The letters for which Pillow's own font has no shapes."""
    letters = frozenset(letter for letter in text if letter > "~")
    if not letters:  # nearly always, and a font takes longer to load than a text to draw
        return letters
    own = ImageFont.load_default(16)
    return frozenset(letter for letter in letters if not _has(own, letter))


def _has(font: Font, letter: str) -> bool:
    """Whether a font draws a letter otherwise than what is none."""
    drawn, nothing = font.getmask(letter), font.getmask("\U0010ffff")
    return drawn.size != nothing.size or bytes(drawn) != bytes(nothing)


@cache
def _file(letters: frozenset[str]) -> Path | None:
    """The first font of this machine that has all these letters; None without one, or where there are no letters."""
    joined = any(
        unicodedata.bidirectional(letter) in ("R", "AL") or unicodedata.category(letter)[0] == "M" for letter in letters
    )
    if not letters or (joined and not features.check("raqm")):  # they would stand apart, and the wrong way round
        return None
    for file in _files():
        try:
            font = ImageFont.truetype(file, 16, layout_engine=ImageFont.Layout.BASIC)
            if all(_has(font, letter) for letter in [*letters, "a", "…"]):
                return file
        except OSError:  # of fixed size, as coloured emoji are, or damaged
            continue
    return None


@cache
def _files() -> list[Path]:
    """This machine's fonts, the plain ones first."""
    files: list[Path] = []
    for folder in FOLDERS:  # with the functions of `os`: those of `Path` raise for another user's home, or for none
        below = os.walk(os.path.expanduser(folder))  # noqa: PTH111
        files += sorted(Path(top, name) for top, _, names in below for name in names)
    fonts = (file for file in files if file.suffix.lower() in _SUFFIXES and not _HOLLOW.search(file.stem))
    return sorted(fonts, key=lambda file: bool(_FANCY.search(file.stem)))
