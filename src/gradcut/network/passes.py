"""One forward pass of a classifier, watched: the contexts put together, and checked against the bare model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.overrides import TorchFunctionMode

from gradcut.classifiers.classifier import Classifier, NoMemoryError
from gradcut.errors import ClassifierError, SaliencyError
from gradcut.known import Known
from gradcut.network.activations import Backward, Rule
from gradcut.network.attention import Attended, WrittenOut
from gradcut.network.biases import Bias, Biases
from gradcut.network.cuts import Cuts
from gradcut.network.faster import Faster
from gradcut.network.forward import ForwardPass, OnMap
from gradcut.network.frozen import Frozen
from gradcut.network.layouts import MapCall
from gradcut.network.proof import Answers, Proven, changed_pairs
from gradcut.network.relevance import NoRuleError, Relevance
from gradcut.network.rules import Composite


@dataclass(frozen=True)
class Wanted:
    """What a forward pass is watched for.

    Args:
        levels, on_map: as for `ForwardPass`; what is not proven to be a map is none.
        gradients: of the photographs are wanted: they begin the graph.
        attention: is to be written out and kept.
        written_out: attention is to be, so that it can be differentiated twice and follows rules, but not kept.
        from_attention: as ``attention``, and the graph begins there if it has not begun before.
        cuts: calls at which the graph begins if it has not begun before.
        rule: for the backward pass of the activations.
        biases: are to be noted, with what leads back to them.
        relevance: is to go back by these rules, in the place of the gradient; attention is written out for it.
    """

    levels: int = 0
    on_map: OnMap | None = None
    gradients: bool = False
    attention: bool = False
    written_out: bool = False
    from_attention: bool = False
    cuts: tuple[MapCall, ...] = ()
    rule: Rule | None = None
    biases: bool = False
    relevance: Composite | None = None

    @property
    def places(self) -> bool:
        """Whether anything is wanted whose places have to be the photograph's."""
        return bool(self.levels or self.on_map or self.attention or self.from_attention)


class Pass(NamedTuple):
    """A forward pass that has been made.

    Attributes:
        x: the photographs as they went in; a leaf of the graph if gradients were asked for.
        attention: of every layer, if it was asked for.
        cut: for each of the cuts the tensor as the model has it, fit to take gradients of.
        followed: how many activations followed the backward rule.
        biases: of the convolutions and batch norms, if they were asked for.
        relevance: the context by whose rules the graph was made, if there was one.
    """

    x: Float[Tensor, "b 3 h w"]
    logits: Float[Tensor, "b classes"]
    seen: ForwardPass
    attention: tuple[Attended, ...]
    cut: tuple[Tensor, ...]
    followed: int
    biases: tuple[Bias, ...] = ()
    relevance: Relevance | None = None


#: Kinds of passes that were found to give the bare model's logits.
_CHECKED: Known[bool] = Known()

#: By the size of the photographs and whether gradients are computed, what answers where the photograph is changed.
_PROVEN: Known[Proven] = Known()

#: Models that count on the order in which a photograph's values lie in memory.
_IN_ORDER: Known[bool] = Known()


def watched(classifier: Classifier, x: Float[Tensor, "b 3 h w"], wanted: Wanted | None = None) -> Pass:
    """One forward pass of copies of the photographs, watched.

    Compiled code runs as it was before compilation: the compiled one shows none of its functions. On the CPU the
    channels of a pixel lie side by side, which makes convolutions faster; a model that fails on such photographs, or
    answers otherwise, gets them as they are. The first pass of its kind by a model and a number type, and by a size of
    photograph where anything may depend on it, is compared with the bare model's logits. Where the shape of a tensor
    does not say that it is a map, a few more passes of pairs of photographs find out, once for a model and a size.

    Raises:
        ClassifierError: as `Classifier.logits`.
        SaliencyError: watched, the network gives other logits than bare, or it gives others at every call; or it takes
            another path at every call.
        OtherPathError: a cut is not where it was.
    """
    wanted = wanted or Wanted()
    made = _compared(classifier, x, wanted)
    proven = _PROVEN.get(classifier.model, _kind(x))
    if not _in_doubt(made, wanted) or (proven is not None and proven.calls == made.seen.calls):
        return made
    # Only now is it known that a proof is needed; the pass is made again with it, without what is refused.
    contiguous = made.x.is_contiguous()
    del made
    proven = _prove(classifier, x, contiguous)
    _PROVEN.put(classifier.model, _kind(x), proven)
    made = _compared(classifier, x, wanted)
    if proven.calls == made.seen.calls:
        return made
    raise SaliencyError(
        f"{classifier.name}: its forward pass differs from one call to the next, so that no map in it can be found "
        "again; Gradient() works with any classifier"
    )


def gradients(
    classifier: Classifier,
    logits: Tensor,
    inputs: Sequence[Tensor | GradientEdge],
    upstream: Tensor,
    again: bool = False,
    twice: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of ``(logits * upstream).sum()`` with respect to the inputs; None where it depends on one not.

    Args:
        again: keep the graph for another backward pass.
        twice: the gradients can be differentiated themselves.

    Raises:
        SaliencyError: the logits depend on none of the inputs, or the model hides how they do.
    """
    found: tuple[Tensor | None, ...] = ()
    if logits.requires_grad:
        # Tensors and edges may be mixed, whatever the annotation says.
        found = torch.autograd.grad(
            logits, cast(Sequence[Tensor], inputs), upstream, retain_graph=again, create_graph=twice, allow_unused=True
        )
    if all(gradient is None for gradient in found):
        raise SaliencyError(
            f"{classifier.name}: no gradient leads from its logits back into the network: its forward pass switches "
            "gradients off (torch.no_grad, torch.inference_mode, detach), or its logits are constant. CAM() and "
            "PlaceProbability() need no gradient"
        )
    return found


def _in_doubt(made: Pass, wanted: Wanted) -> bool:
    return wanted.places and (made.seen.doubtful or bool(made.attention))


def _kind(x: Tensor) -> tuple[tuple[int, ...], bool]:
    return tuple(x.shape[1:]), torch.is_grad_enabled()


def _prove(classifier: Classifier, x: Float[Tensor, "b 3 h w"], contiguous: bool) -> Proven:
    """Where in a forward pass maps are made, by changes of photographs of the size of ``x``."""
    answers, calls = Answers((x.shape[2], x.shape[3])), 0
    order = torch.contiguous_format if contiguous else torch.channels_last
    for pair in changed_pairs(x):
        seen = ForwardPass(pair, 0, prefix_of(classifier.model), answers.note)
        _run(classifier, pair.contiguous(memory_format=order), _modes(x, seen))
        calls = seen.calls
    return answers.proven(calls)


def _compared(classifier: Classifier, x: Float[Tensor, "b 3 h w"], wanted: Wanted) -> Pass:
    """A pass that was compared with the bare model's, itself or one of its kind."""
    model = classifier.model
    # TorchScript is given what it was made for.
    reordered = x.device.type == "cpu" and not scripted(model) and not _IN_ORDER.get(model, None)
    if reordered:
        try:
            made = _made(classifier, x.detach().clone(memory_format=torch.channels_last), wanted)
            if _difference(classifier, x, made, wanted) is None:
                return made
        except NoMemoryError:
            raise  # the same again would need as much
        except ClassifierError:
            pass  # if it is not the order in memory that it fails for, it fails again
    made = _made(classifier, x.detach().clone(memory_format=torch.contiguous_format), wanted)
    difference = _difference(classifier, x, made, wanted)
    if difference is not None:
        raise SaliencyError(difference)
    if reordered:
        _IN_ORDER.put(model, None, True)
    return made


def _made(classifier: Classifier, x: Float[Tensor, "b 3 h w"], wanted: Wanted) -> Pass:
    rule = None if wanted.rule is None else Backward(wanted.rule)
    cuts = Cuts(wanted.cuts) if wanted.cuts else None
    proven = _PROVEN.get(classifier.model, _kind(x)) if wanted.places else None
    maps = None if proven is None else proven.maps
    seen = ForwardPass(x, wanted.levels, prefix_of(classifier.model), wanted.on_map, maps)
    attention = None
    kept = wanted.attention or wanted.from_attention
    if kept or wanted.written_out or wanted.relevance is not None:
        attention = WrittenOut(wanted.from_attention, seen.queries, lambda: seen.calls)
    biases = Biases() if wanted.biases else None
    relevance = None if wanted.relevance is None else Relevance(wanted.relevance, classifier.model, x.shape)
    x.requires_grad_(wanted.gradients)
    try:
        logits = _run(classifier, x, _modes(x, seen, rule, attention, cuts, biases, relevance))
    except NoRuleError as error:
        raise SaliencyError(f"{classifier.name}: {error}") from None
    return Pass(
        x, logits, seen, tuple(attention.layers if attention and kept else ()), tuple(cuts.tensors if cuts else ()),
        rule.followed if rule else 0, tuple(biases.found if biases else ()), relevance,
    )  # fmt: skip


def _modes(
    x: Tensor,
    seen: ForwardPass,
    rule: Backward | None = None,
    attention: WrittenOut | None = None,
    cuts: Cuts | None = None,
    biases: Biases | None = None,
    relevance: Relevance | None = None,
) -> list[TorchFunctionMode]:
    """Outermost first: the watch sees the calls that the model itself makes, the others what is left of them."""
    # Functions of its own would hide the network's from the rules.
    faster = Faster() if x.device.type == "cpu" and relevance is None else None
    frozen = Frozen() if torch.is_grad_enabled() else None
    return [mode for mode in (rule, relevance, faster, frozen, biases, attention, cuts, seen) if mode is not None]


def _run(classifier: Classifier, x: Float[Tensor, "b 3 h w"], modes: Sequence[TorchFunctionMode]) -> Tensor:
    with ExitStack() as stack:
        stack.enter_context(as_written(classifier.model))
        for mode in modes:
            stack.enter_context(mode)
        return classifier.logits(x)


def prefix_of(model: nn.Module) -> int | None:
    """The tokens before the grid, where the model says so, as timm's do."""
    for module in model.modules():
        known = getattr(module, "num_prefix_tokens", None)
        if isinstance(known, int):
            return known
    return None


def _difference(classifier: Classifier, x: Float[Tensor, "b 3 h w"], made: Pass, wanted: Wanted) -> str | None:
    """What is wrong with the logits of a pass, beside those of the bare model; None if nothing is, or was before.

    Other kernels add in another order. In a deep network that costs the last digits, up to half of those of
    the number type, of the largest logit; a pass that computes another function differs by more.
    """
    model, logits = classifier.model, made.logits.detach().float()
    # Convolutions do at every size the same; what attention and moved places do may depend on it.
    depends = made.seen.doubtful or bool(made.attention)
    kind = (
        tuple(x.shape[1:]) if depends else None, x.dtype, x.device.type, _autocast(x), made.x.is_contiguous(),
        torch.get_num_threads() == 1, made.seen.calls, tuple(place.call for place in wanted.cuts), wanted.rule,
        wanted.relevance, wanted.attention or wanted.from_attention or wanted.written_out,
    )  # fmt: skip
    if _CHECKED.get(model, kind):
        return None
    tolerance = _precision(x, made.logits) ** 0.5

    def bare() -> Float[Tensor, "b n"]:
        with torch.no_grad(), as_written(model):
            return classifier.logits(x.detach().clone(memory_format=torch.contiguous_format)).float()

    expected = bare()
    largest = float(expected.abs().max())
    difference = float((logits - expected).abs().max())
    if difference <= tolerance * largest:
        _CHECKED.put(model, kind, True)
        return None
    if float((bare() - expected).abs().max()) > tolerance * largest:
        return (
            f"{classifier.name}: its logits for the same photographs differ from one call to the next, in evaluation "
            "mode too, so that nothing can be said about why; turn off what is random in it"
        )
    return (
        f"{classifier.name}: gradcut cannot follow this network: watched, its logits differ from its own by "
        f"{difference:.2g}, where the largest is {largest:.2g}"
    )


def _precision(x: Tensor, logits: Tensor) -> float:
    """Of the coarsest number type at work, the distance from 1 to the next number."""
    types = {x.dtype, logits.dtype, _autocast(x) or x.dtype}
    if x.device.type == "cuda":
        types.add(torch.float16)  # TensorFloat-32 has as many digits
    return max(torch.finfo(each).eps for each in types)


def _autocast(x: Tensor) -> torch.dtype | None:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Run what has been compiled as it was before."""
    if "torch._dynamo" in sys.modules and any(
        isinstance(module, torch._dynamo.OptimizedModule) or module._compiled_call_impl is not None
        for module in model.modules()
    ):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


def scripted(model: nn.Module) -> bool:
    """Whether any part of a model is TorchScript, whose functions cannot be seen."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
