"""Make the README's pictures: `python examples/pictures.py docs`. It takes the photograph that scikit-image ships."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from skimage.data import chelsea

from gradcut import Segmenter, load_classifier, refine
from gradcut.images import write_png
from gradcut.pictures import strip


def main(folder: Path) -> None:
    cat = chelsea()
    result = Segmenter(load_classifier("embedded"))(cat)
    write_png(folder / "demo.png", result.picture())

    # Two strokes on what is missed, the far cheek and the throat, and one on the blanket.
    inside, outside = (np.zeros(cat.shape[:2], dtype=bool) for _ in range(2))
    inside[110:190, 340:348] = True
    inside[278:286, 150:250] = True
    outside[60:260, 400:408] = True
    corrected = refine(result, foreground=inside, background=outside)
    rows = [
        (title, found.saliency, found.seeds, found.mask)
        for title, found in (("as found", result.objects[0]), ("after three strokes", corrected.objects[0]))
    ]
    write_png(folder / "refine.png", strip(cat, rows, height=160))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
