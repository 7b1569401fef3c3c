"""What is asked of a saliency method: which class, in which photograph, and the gradient of its score.

A method is called as ``method(classifier, x, targets)`` with photographs ``x: Float "b 3 h w"`` as
`Classifier.prepare` makes them and ``n`` targets, and returns ``Float "n h w"``, never negative, on the
device of ``x``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError

#: A photograph's place in the batch, and a class; several classes together are a group.
Target = tuple[int, int | tuple[int, ...]]

#: Targets, or a function from the logits to targets: then detection and saliency share one forward pass.
Targets = Sequence[Target] | Callable[[Tensor], Sequence[Target]]

Saliency = Callable[[Classifier, Tensor, Targets], Tensor]

#: The score of a class whose gradient is taken; for a group of classes in parentheses.
#:
#: ``"logit"``: the unnormalised score z_c (log-sum-exp of the group's).
#: ``"probability"``: under a softmax p_c (the group's sum), under a sigmoid p_c (1 - prod (1 - p), the
#: probability of at least one of the group).
#: ``"contrast"``: the class against the others, z_c - log-sum-exp of all the other classes (the group's
#: log-sum-exp in place of z_c). Under a softmax these are the log-odds, whose gradient is the
#: probability's without the factor p (1 - p), which vanishes when the classifier is certain.
Score = Literal["logit", "probability", "contrast"]


def check_score(of: str) -> None:
    """Raise SaliencyError unless ``of`` is a `Score`."""
    if of not in get_args(Score):
        raise SaliencyError(f"of: expected 'logit', 'probability' or 'contrast', got {of!r}")


def resolve(targets: Targets, logits: Float[Tensor, "b classes"]) -> list[Target]:
    """Targets as a list.

    Raises:
        SaliencyError: a target outside the batch or the classes, an empty group, or a class twice in one.
    """
    pairs = list(targets(logits.detach()) if callable(targets) else targets)
    batch, classes = logits.shape
    for photograph, index in pairs:
        members = group(index)
        if not (0 <= photograph < batch and members and all(0 <= member < classes for member in members)):
            raise SaliencyError(
                f"targets: expected photographs below {batch} and classes below {classes}, got {(photograph, index)}"
            )
        if len(set(members)) != len(members):
            raise SaliencyError(f"targets: expected every class once in a group, got {(photograph, index)}")
    return pairs


def group(index: int | tuple[int, ...]) -> tuple[int, ...]:
    """The classes of a target."""
    return tuple(index) if isinstance(index, tuple | list) else (index,)


def score_gradient(
    classifier: Classifier, logits: Float[Tensor, "b classes"], pairs: Sequence[Target], of: Score
) -> Float[Tensor, "n classes"]:
    """The gradient of each target's score with respect to its photograph's logits.

    In closed form and float64 (on the CPU: not every device has it), so that a saturated probability has
    a tiny gradient, not none.

    Raises:
        SaliencyError: ``of`` is ``"contrast"`` and a target leaves no other class.
    """
    if not pairs:
        return logits.new_zeros(0, logits.shape[1])
    z = logits.detach().cpu().double()[[photograph for photograph, _ in pairs]]
    inside = torch.zeros_like(z, dtype=torch.bool)
    for row, (_, index) in enumerate(pairs):
        inside[row, list(group(index))] = True
    within = z.masked_fill(~inside, -torch.inf).softmax(1)
    if of == "logit":
        gradient = within
    elif of == "contrast":
        if bool(inside.all(1).any()):
            raise SaliencyError(
                f"of: 'contrast' needs another class to compare with; {classifier.name} has {z.shape[1]} in all"
            )
        gradient = within - z.masked_fill(inside, -torch.inf).softmax(1)
    elif classifier.multilabel:
        none_of_them = torch.where(inside, (-z).sigmoid(), 1).prod(1, keepdim=True)
        gradient = torch.where(inside, z.sigmoid() * none_of_them, 0)
    else:
        p = z.softmax(1)
        # 1 - p of the group as the sum of the others, which does not cancel when p is close to 1.
        own, others = (torch.where(side, p, 0).sum(1, keepdim=True) for side in (inside, ~inside))
        gradient = p * torch.where(inside, others, -own)
    return gradient.to(logits.device, logits.dtype)


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
        A tensor ``(n, ...)`` for each input; zeros where a score does not depend on it.
    """
    gradients = [x.new_zeros(len(pairs), *x.shape[1:]) for x in inputs]
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
    inputs: Sequence[Tensor],
) -> Iterator[tuple[list[int], list[int], list[Tensor]]]:
    """The backward passes of `backpropagate`, one by one, for who need not keep the gradients of all.

    Yields:
        Positions among the targets, their photographs, none twice, and the gradients ``(b, ...)`` for each input.
    """
    direction = score_gradient(classifier, logits, pairs, of)
    rounds = _rounds(pairs)
    for number, chosen in enumerate(rounds):
        photographs = [pairs[i][0] for i in chosen]
        upstream = torch.zeros_like(logits)
        upstream[photographs] = direction[chosen]
        more = number + 1 < len(rounds)
        found = torch.autograd.grad(logits, inputs, upstream, retain_graph=more, allow_unused=True)
        yield chosen, photographs, [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


def of_photographs(values: Tensor, photographs: Sequence[int]) -> Tensor:
    """Those rows of a batch; the batch itself, not a copy, if they are all in their order."""
    return values if list(photographs) == list(range(len(values))) else values[list(photographs)]


def _rounds(pairs: Sequence[Target]) -> list[list[int]]:
    """Positions of the targets, grouped so that no group has two of one photograph."""
    rounds: list[list[int]] = []
    seen: dict[int, int] = {}
    for position, (photograph, _) in enumerate(pairs):
        turn = seen.get(photograph, 0)
        seen[photograph] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(position)
    return rounds
