"""Any classifier: what it is, and where it comes from."""

from gradcut.classifiers.classifier import Classifier, Detection
from gradcut.classifiers.sources import list_classifiers, load_backbone, load_classifier
from gradcut.errors import ClassifierError

__all__ = ["Classifier", "ClassifierError", "Detection", "list_classifiers", "load_backbone", "load_classifier"]
