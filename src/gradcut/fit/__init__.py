"""Heads from image-level labels: a linear layer on a frozen backbone, and weights for single places."""

from gradcut.errors import FitError
from gradcut.fit.backbones import fit_backbone
from gradcut.fit.features import features, linear_layer
from gradcut.fit.folds import Heads, fit_folds
from gradcut.fit.head import Fitted, LinearFit
from gradcut.fit.labels import ImageLabels, read_labels
from gradcut.fit.places import PlaceFit

__all__ = [
    "FitError", "Fitted", "Heads", "ImageLabels", "LinearFit", "PlaceFit", "features", "fit_backbone", "fit_folds",
    "linear_layer", "read_labels",
]  # fmt: skip
