"""The shortest program: a photograph in, masks out.

python examples/five_lines.py [PHOTOGRAPH]
"""

import sys

from skimage.data import chelsea

from gradcut import Segmenter, load_classifier

segment = Segmenter(load_classifier("coco80"))
result = segment(sys.argv[1] if sys.argv[1:] else chelsea())
for found in result.objects:
    print(f"{found.label}: score {found.score:.2f}, {found.mask.mean():.0%} of the photograph")
result.save("out/")
