"""Errors: one line, whatever came."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import gradcut
from gradcut import GradcutError, errors
from gradcut.errors import MaskError, SaliencyError
from gradcut.masks import ColourCut, Superpixels
from gradcut.saliency import Features, IntegratedGradients, SmoothGrad


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "first"),
        (ValueError("\n  first  \nsecond"), "first"),
        (ValueError(), "ValueError"),
        (ValueError(" \n "), "ValueError"),
        (OSError(2, "No such file"), "[Errno 2] No such file"),
        (ValueError("x" * 999), "x" * 200),
    ],
)
def test_one_line(error, line):
    assert errors.one_line(error) == line


def test_no_other_module_takes_the_first_line_itself():
    package = Path(gradcut.__file__).parent
    places = {path.name for path in package.rglob("*.py") if "splitlines()[0]" in path.read_text(encoding="utf-8")}
    assert places == set()


@pytest.mark.parametrize(
    ("step", "error", "says"),
    [
        (lambda: SmoothGrad(samples="3"), SaliencyError, "samples: expected a whole number of at least 1, got '3'"),
        (lambda: SmoothGrad(samples=True), SaliencyError, "samples: expected a whole number of at least 1, got True"),
        (lambda: SmoothGrad(samples=None), SaliencyError, "samples: expected a whole number of at least 1, got None"),
        (
            lambda: IntegratedGradients(steps=2.5),
            SaliencyError,
            "steps: expected a whole number of at least 1, got 2.5",
        ),
        (lambda: ColourCut(grid=160.0), MaskError, "grid: expected a whole number of at least 2, got 160.0"),
        (lambda: ColourCut(grid=1), MaskError, "grid: expected a whole number of at least 2, got 1"),
        (lambda: ColourCut(smoothness="a"), MaskError, "smoothness: expected a number of at least 0, got 'a'"),
        (lambda: ColourCut(smoothness=math.nan), MaskError, "smoothness: expected a number of at least 0, got nan"),
        (lambda: ColourCut(smoothness=math.inf), MaskError, "smoothness: expected a number of at least 0, got inf"),
        (lambda: ColourCut(smoothness=-1), MaskError, "smoothness: expected a number of at least 0, got -1"),
        (lambda: Superpixels(count=0), MaskError, "count: expected a whole number of at least 1, got 0"),
        (lambda: Features(power=None), SaliencyError, "power: expected a number of at least 0, got None"),
    ],
)
def test_options_of_another_type_or_range(unchecked, step, error, says):
    with pytest.raises(error) as caught:
        step()
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, GradcutError)


def test_numbers_of_numpy_and_whole_numbers_for_real_ones_are_taken(unchecked):
    assert ColourCut(grid=np.int64(160), smoothness=3) == ColourCut(grid=160, smoothness=3.0)
