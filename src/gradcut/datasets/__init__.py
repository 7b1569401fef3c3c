"""Photographs with true masks, in the layouts that people have on disk.

Each function returns a `Dataset`: a lazy sequence of `Sample`s. Nothing but the list of names is read until a
sample is asked for, and a sample that cannot be used raises an error that names it and the reason.
"""

# A layout's function has its module's name. Python binds a module to its package's attribute once, when it is first
# loaded; all of them are loaded here, before the functions take these names, so that whatever else is imported, and in
# whatever order, `datasets.coco` is the function.
from gradcut.datasets.coco import coco
from gradcut.datasets.folder import folder
from gradcut.datasets.imagenet import imagenet_s, imagenet_segmentation
from gradcut.datasets.opening import open_dataset
from gradcut.datasets.pets import pets
from gradcut.datasets.sample import OBJECT, Dataset, Sample
from gradcut.datasets.voc import voc
from gradcut.errors import DatasetError

__all__ = [
    "OBJECT",
    "Dataset",
    "DatasetError",
    "Sample",
    "coco",
    "folder",
    "imagenet_s",
    "imagenet_segmentation",
    "open_dataset",
    "pets",
    "voc",
]
