"""What is asked of a saliency method: which class, in which photograph, and the gradient of its score.

A method is called as ``method(classifier, x, targets)`` with photographs ``x: Float "b 3 h w"`` as
`Classifier.prepare` makes them and ``n`` targets, and returns ``Float "n h w"``, never negative, on the
device of ``x``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import index
from types import FunctionType
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import GradientEdge

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.passes import gradients as gradients_of
from gradcut.saliency.maps import wide

#: A photograph's place in the batch, and classes: one, or the members of a group.
Target = tuple[int, tuple[int, ...]]

#: Targets, where a class may stand for a group of one; or a function from the logits to such: then detection and
#: saliency share one forward pass.
Targets = Sequence[tuple[int, int | tuple[int, ...]]] | Callable[[Tensor], Sequence[tuple[int, int | tuple[int, ...]]]]

Saliency = Callable[[Classifier, Tensor, Targets], Tensor]

#: The score of a class whose gradient is taken; for a group of classes in parentheses.
#:
#: ``"logit"``: the unnormalised score z_c (log-sum-exp of the group's).
#: ``"probability"``: under a softmax p_c (the group's sum), under a sigmoid p_c (1 - prod (1 - p), the
#: probability of at least one of the group).
#: ``"contrast"``: the class against the others, z_c - log-sum-exp of all the other classes (the group's
#: log-sum-exp in place of z_c). Under a softmax these are the log-odds, whose gradient is the
#: probability's without the factor p (1 - p), which vanishes when the classifier is certain.
#: ``"share"``: of a classifier with sigmoids, the softmax's share of the class among those that are asked for in its
#: photograph and a logit of 0 (the group's sum). Logits of words are log-odds against the background words, so that
#: these have their places in the softmax, as CLIP-ES (Lin et al. 2023) has it.
NamedScore = Literal["logit", "probability", "contrast", "share"]

#: From the logits of one photograph, ``Float "classes"``, and the classes of a target to one number, by differentiable
#: torch functions: ``lambda z, classes: z[classes[0]] - z[classes[1]]`` of a target ``(0, (281, 282))``.
ScoreFunction = Callable[[Tensor, tuple[int, ...]], Tensor]

Score = NamedScore | ScoreFunction


def check_score(of: object) -> None:
    """Raise SaliencyError unless ``of`` is a `Score`."""
    if not callable(of) and of not in get_args(NamedScore):
        raise SaliencyError(
            f"of: expected 'logit', 'probability', 'contrast', 'share' or a function of a photograph's logits and a "
            f"target's classes, got {of!r}"
        )


def scores(
    classifier: Classifier, logits: Float[Tensor, "m classes"], groups: Sequence[tuple[int, ...]], of: Score
) -> Float[Tensor, "m n"]:
    """The scores of groups of classes, all asked of the same photograph, by each of its rows of logits.

    In float32 at least, with gradients as the caller's context has them.

    Args:
        logits: of one photograph, or of as many versions of it.
        groups: the classes of the photograph's targets; for ``"share"`` all of them.

    Raises:
        SaliencyError: as `score_gradient`.
    """
    z = wide(logits)
    if not isinstance(of, str):
        rows = [torch.stack([_called(of, row, members) for members in groups]) for row in z] if groups else []
        return torch.stack(rows) if rows else z.new_zeros(len(z), len(groups))
    asked = sorted({member for members in groups for member in members})
    background = z.new_zeros(len(z), 1)

    def score(members: tuple[int, ...]) -> Float[Tensor, " m"]:
        own = z[:, list(members)]
        if of == "logit":
            return own.logsumexp(1)
        if of == "contrast":
            return own.logsumexp(1) - z[:, _others(classifier, members)].logsumexp(1)
        if of == "share":
            _check_share(classifier)
            return (own.logsumexp(1) - torch.cat([z[:, asked], background], 1).logsumexp(1)).exp()
        if classifier.multilabel:
            return 1 - (-own).sigmoid().prod(1)
        return z.softmax(1)[:, list(members)].sum(1)

    return torch.stack([score(members) for members in groups], 1) if groups else z.new_zeros(len(z), 0)


def _others(classifier: Classifier, members: tuple[int, ...]) -> list[int]:
    others = [index for index in range(len(classifier.labels)) if index not in members]
    if not others:
        raise SaliencyError(
            f"of: 'contrast' needs another class to compare with; {classifier.name} has {len(members)} in all"
        )
    return others


def _check_share(classifier: Classifier) -> None:
    if not classifier.multilabel:
        raise SaliencyError(
            f"of: 'share' needs a classifier with sigmoids, such as one of words; {classifier.name} has a softmax, "
            "whose 'probability' is a share already"
        )


def _called(of: ScoreFunction, logits: Float[Tensor, " classes"], members: tuple[int, ...]) -> Float[Tensor, ""]:
    """What a function of one's own says, if it is a number."""
    score = of(logits, members)
    if not isinstance(score, Tensor) or score.numel() != 1 or not bool(score.isfinite().all()):
        came = f"a tensor of shape {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
        came = "NaN or infinity" if isinstance(score, Tensor) and score.numel() == 1 else came
        raise SaliencyError(f"of: expected {of!r} to return a tensor of one finite number, got {came}")
    return score.reshape(())


def resolve(targets: Targets, logits: Float[Tensor, "b classes"]) -> list[Target]:
    """Targets as a list, each with its classes in a tuple.

    Raises:
        SaliencyError: not pairs of a photograph and a class, one outside the batch or the classes, an empty group, or a
            class twice in one.
    """
    asked: object = targets(logits.detach()) if callable(targets) else targets
    if isinstance(asked, str) or not isinstance(asked, Sequence):
        raise SaliencyError(f"targets: expected {_PAIRS}, got {asked!r}")
    return [_target(pair, *logits.shape) for pair in asked]


_PAIRS = "a list of pairs (photograph in the batch, class or tuple of classes), such as [(0, 281)]"


def _target(pair: Any, batch: int, classes: int) -> Target:
    try:
        photograph, asked = pair
        photograph = index(photograph)
        members = tuple(map(index, asked if isinstance(asked, tuple | list) else [asked]))
    except (TypeError, ValueError):
        raise SaliencyError(f"targets: expected {_PAIRS}, got {pair!r} in the list") from None
    if not (0 <= photograph < batch and members and all(0 <= member < classes for member in members)):
        raise SaliencyError(f"targets: expected photographs below {batch} and classes below {classes}, got {pair!r}")
    if len(set(members)) != len(members):
        raise SaliencyError(f"targets: expected every class once in a group, got {pair!r}")
    return photograph, members


class Remembered:
    """A function of the logits that gives the targets to a method, once, and keeps them.

    Args:
        targets: as a method gets them.
        method: who is to ask, for the message where it asks never or twice.
    """

    def __init__(self, targets: Targets, method: object) -> None:
        self._targets = targets
        self._name = method.__name__ if isinstance(method, FunctionType) else repr(method)
        self._pairs: list[Target] | None = None

    def __call__(self, logits: Tensor) -> list[Target]:
        if self._pairs is not None:
            raise SaliencyError(f"method: expected {self._name} to ask for its targets once, it asked again")
        self._pairs = resolve(self._targets, logits)
        return self._pairs

    @property
    def pairs(self) -> list[Target]:
        """The targets.

        Raises:
            SaliencyError: nobody has asked for them.
        """
        if self._pairs is None:
            raise SaliencyError(f"method: expected {self._name} to ask for its targets, it did not")
        return self._pairs


def score_gradient(
    classifier: Classifier, logits: Float[Tensor, "b classes"], pairs: Sequence[Target], of: Score
) -> Float[Tensor, "n classes"]:
    """The gradient of each target's score with respect to its photograph's logits.

    In closed form, unless the score is a function of one's own, and float64 (on the CPU: not every device has it), so
    that a saturated probability has a tiny gradient, not none; in float32 at least.

    Raises:
        SaliencyError: ``of`` is ``"contrast"`` and a target leaves no other class, or ``"share"`` and the classifier
            has a softmax; or a function that returns no finite number, or one that does not depend on the logits.
    """
    if not pairs:
        return wide(logits.new_zeros(0, logits.shape[1]))
    z = logits.detach().cpu().double()[[photograph for photograph, _ in pairs]]
    if not isinstance(of, str):
        gradient = torch.stack([_differentiated(of, row, members) for row, (_, members) in zip(z, pairs, strict=True)])
        return gradient.to(logits.device, wide(logits).dtype)
    inside = torch.zeros_like(z, dtype=torch.bool)
    for row, (_, members) in enumerate(pairs):
        inside[row, list(members)] = True
    within = z.masked_fill(~inside, -torch.inf).softmax(1)
    if of == "logit":
        gradient = within
    elif of == "contrast":
        for _, members in pairs:
            _others(classifier, members)
        gradient = within - z.masked_fill(inside, -torch.inf).softmax(1)
    elif of == "share":
        _check_share(classifier)
        asked = torch.stack([inside[[other == b for other, _ in pairs]].any(0) for b, _ in pairs])
        p = F.pad(z.masked_fill(~asked, -torch.inf), (0, 1)).softmax(1)
        p, rest = p[:, :-1], p[:, -1:]
        own, others = (torch.where(side, p, 0).sum(1, keepdim=True) for side in (inside, ~inside))
        gradient = p * torch.where(inside, others + rest, -own)
    elif classifier.multilabel:
        none_of_them = torch.where(inside, (-z).sigmoid(), 1).prod(1, keepdim=True)
        gradient = torch.where(inside, z.sigmoid() * none_of_them, 0)
    else:
        p = z.softmax(1)
        # 1 - p of the group as the sum of the others, which does not cancel when p is close to 1.
        own, others = (torch.where(side, p, 0).sum(1, keepdim=True) for side in (inside, ~inside))
        gradient = p * torch.where(inside, others, -own)
    return gradient.to(logits.device, wide(logits).dtype)


def _differentiated(
    of: ScoreFunction, logits: Float[Tensor, " classes"], members: tuple[int, ...]
) -> Float[Tensor, " classes"]:
    with torch.inference_mode(False), torch.enable_grad():
        leaf = logits.clone().requires_grad_()
        score = _called(of, leaf, members)
        if not score.requires_grad:
            raise SaliencyError(f"of: expected {of!r} to be differentiable in the logits, got a constant")
        (gradient,) = torch.autograd.grad(score, leaf)
    return gradient


def backpropagate(
    classifier: Classifier,
    logits: Float[Tensor, "b classes"],
    pairs: Sequence[Target],
    of: Score,
    inputs: Sequence[Tensor],
) -> list[Tensor]:
    """Gradients of the targets' scores with respect to tensors that the logits were computed from.

    As many backward passes as the largest number of targets in one photograph: photographs do not depend
    on each other, so one pass takes a target of every photograph. The graph is freed by the last.

    Args:
        inputs: each ``(b, ...)``.

    Returns:
        A tensor ``(n, ...)`` for each input, in float32 at least; zeros where a score does not depend on it.
    """
    gradients = [wide(x.new_zeros(len(pairs), *x.shape[1:])) for x in inputs]
    for chosen, photographs, found in backward_passes(classifier, logits, pairs, of, inputs):
        if chosen == photographs == list(range(len(logits))) and len(chosen) == len(pairs):
            return found
        for total, gradient in zip(gradients, found, strict=True):
            total[chosen] = of_photographs(gradient, photographs)
    return gradients


def backward_passes(
    classifier: Classifier,
    logits: Float[Tensor, "b classes"],
    pairs: Sequence[Target],
    of: Score,
    inputs: Sequence[Tensor | GradientEdge],
) -> Iterator[tuple[list[int], list[int], list[Tensor]]]:
    """The backward passes of `backpropagate`, one by one, for who need not keep the gradients of all.

    Yields:
        Positions among the targets, their photographs, none twice, and the gradients ``(b, ...)`` for each input,
        in float32 at least; a single 0 for an edge of the graph from which no score depends.
    """
    direction = score_gradient(classifier, logits, pairs, of)
    # What a saturated probability's gradient is would be 0 in float16: it goes through the network at full size.
    size = torch.ones(len(pairs), device=logits.device)
    if logits.dtype == torch.float16:
        size = direction.abs().amax(1)
        direction = direction / size.clamp(min=torch.finfo(size.dtype).tiny)[:, None]
    turns = rounds(pairs)
    for number, chosen in enumerate(turns):
        photographs = [pairs[i][0] for i in chosen]
        upstream = torch.zeros_like(logits)
        upstream[photographs] = direction[chosen].to(logits.dtype)
        more = number + 1 < len(turns)
        found = gradients_of(classifier, logits, inputs, upstream, again=more)
        gradients = [wide(_nothing(x) if g is None else g) for g, x in zip(found, inputs, strict=True)]
        if logits.dtype == torch.float16:
            factors = torch.zeros(len(logits), device=logits.device)
            factors[photographs] = size[chosen]
            gradients = [g * factors.view(-1, *(1,) * (g.ndim - 1)) if g.ndim else g for g in gradients]
        yield chosen, photographs, gradients


def _nothing(x: Tensor | GradientEdge) -> Tensor:
    return torch.zeros_like(x) if isinstance(x, Tensor) else torch.zeros(())


def of_photographs(values: Tensor, photographs: Sequence[int]) -> Tensor:
    """Those rows of a batch; the batch itself, not a copy, if they are all in their order."""
    return values if list(photographs) == list(range(len(values))) else values[list(photographs)]


def rounds(pairs: Sequence[Target]) -> list[list[int]]:
    """Positions of the targets, grouped so that no group has two of one photograph."""
    turns: list[list[int]] = []
    seen: dict[int, int] = {}
    for position, (photograph, _) in enumerate(pairs):
        turn = seen.get(photograph, 0)
        seen[photograph] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(position)
    return turns
