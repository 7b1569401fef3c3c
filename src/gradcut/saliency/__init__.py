"""Which pixels made the classifier say so: every saliency method, in one place.

A method is called as ``method(classifier, x, targets)`` with photographs ``x: Float "b 3 h w"`` as
`Classifier.prepare` makes them and ``n`` targets, and returns ``Float "n h w"``, never negative, on the
device of ``x``, in float32 at least. A target is a pair (photograph in the batch, class), or
(photograph, (class, class, ...)) for a group of classes. Targets may also be a function from the logits to such pairs:
then detection and saliency share one forward pass.

The model is left as it was: no hook, no flag, no ``.grad``.
"""

from gradcut.errors import SaliencyError
from gradcut.network.rules import AlphaBeta, Box, Composite, Epsilon, Flat, Gamma
from gradcut.network.view import View
from gradcut.saliency.attentions import AttentionGradient, AttentionRollout, BeyondIntuition, LeGrad
from gradcut.saliency.baselines import Baseline
from gradcut.saliency.cams import CAM, PlaceProbability
from gradcut.saliency.dense import DenseProbability
from gradcut.saliency.eigencams import EigenCAM, EigenGradCAM
from gradcut.saliency.fullgrad import FullGrad
from gradcut.saliency.gradcams import (
    Difference,
    FinerCAM,
    GradCAM,
    GradCAMPlusPlus,
    GuidedGradCAM,
    HiResCAM,
    LayerCAM,
    RefineCAM,
    ShapleyCAM,
    SoftmaxGradCAM,
    XGradCAM,
)
from gradcut.saliency.gradients import (
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
from gradcut.saliency.kinds import SUITED, Kind, at_one_size, kind_of, suited
from gradcut.saliency.method import GridMethod, Method, explained, resolved, scales_of, sized
from gradcut.saliency.perturbation import RISE, AblationCAM, Occlusion, Progress, ScoreCAM
from gradcut.saliency.relevance import LRP, AttnLRP
from gradcut.saliency.scales import Crops, MultiScale
from gradcut.saliency.shapley import KernelSHAP
from gradcut.saliency.targets import Saliency, Score, ScoreFunction, Target, Targets, resolve, score_gradient, scores
from gradcut.saliency.walks import Attention, Features, Mean, Rivals, Walk

__all__ = [
    "CAM",
    "LRP",
    "RISE",
    "SUITED",
    "AblationCAM",
    "AlphaBeta",
    "Attention",
    "AttentionGradient",
    "AttentionRollout",
    "AttnLRP",
    "Baseline",
    "BeyondIntuition",
    "Box",
    "Composite",
    "Crops",
    "DeconvNet",
    "DenseProbability",
    "Difference",
    "EigenCAM",
    "EigenGradCAM",
    "Epsilon",
    "Features",
    "FinerCAM",
    "Flat",
    "FullGrad",
    "Gamma",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GradientXInput",
    "GridMethod",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "IntegratedGradients",
    "KernelSHAP",
    "Kind",
    "LayerCAM",
    "LeGrad",
    "Mean",
    "Method",
    "MultiScale",
    "Occlusion",
    "PixelMethod",
    "PlaceProbability",
    "Progress",
    "RefineCAM",
    "Rivals",
    "Saliency",
    "SaliencyError",
    "Score",
    "ScoreCAM",
    "ScoreFunction",
    "ShapleyCAM",
    "SmoothGrad",
    "SoftmaxGradCAM",
    "Target",
    "Targets",
    "VarGrad",
    "View",
    "Walk",
    "XGradCAM",
    "at_one_size",
    "explained",
    "input_gradient",
    "kind_of",
    "resolve",
    "resolved",
    "scales_of",
    "score_gradient",
    "scores",
    "sized",
    "suited",
]
