"""Which pixels made the classifier say so: every saliency method, in one place.

A method is called as ``method(classifier, x, targets)`` with photographs ``x: Float "b 3 h w"`` as
`Classifier.prepare` makes them and ``n`` targets, and returns ``Float "n h w"``, never negative, on the
device of ``x``. A target is a pair (photograph in the batch, class), or (photograph, (class, class, ...)) for a
group of classes. Targets may also be a function from the logits to such pairs: then detection and
saliency share one forward pass.

The model is left as it was: no hook, no flag, no ``.grad``.
"""

from gradcut.affinity import Affinity, AttentionAffinity, Rivals
from gradcut.attentions import AttentionGradient, AttentionRollout
from gradcut.cams import CAM, GradCAM, GradCAMPlusPlus, GuidedGradCAM, HiResCAM, LayerCAM, PlaceProbability
from gradcut.features import ForwardPass, recording
from gradcut.gradients import (
    DeconvNet,
    Gradient,
    GradientXInput,
    GuidedBackprop,
    IntegratedGradients,
    PixelMethod,
    SmoothGrad,
    VarGrad,
    input_gradient,
)
from gradcut.scales import Crops, MultiScale
from gradcut.targets import Saliency, SaliencyError, Score, Target, Targets, resolve, score_gradient

__all__ = [
    "CAM",
    "Affinity",
    "AttentionAffinity",
    "AttentionGradient",
    "AttentionRollout",
    "Crops",
    "DeconvNet",
    "ForwardPass",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GradientXInput",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "IntegratedGradients",
    "LayerCAM",
    "MultiScale",
    "PixelMethod",
    "PlaceProbability",
    "Rivals",
    "Saliency",
    "SaliencyError",
    "Score",
    "SmoothGrad",
    "Target",
    "Targets",
    "VarGrad",
    "input_gradient",
    "recording",
    "resolve",
    "score_gradient",
]
