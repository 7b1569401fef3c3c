"""A forward pass of which something is made otherwise, without touching the model.

What `gradcut.network.passes` watches is what a network says of photographs; this is what it would say if a tensor
inside were another, or the attention of a layer. The calls at which that happens were found by a watched pass
(`gradcut.network.blocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradcut.classifiers.classifier import Classifier, evaluating, memory_errors, out_of_memory
from gradcut.errors import ClassifierError, SaliencyError, one_line
from gradcut.network.attention import multi_head, repeated, softmax_of_products
from gradcut.network.cuts import OtherPathError, check_call
from gradcut.network.faster import Faster
from gradcut.network.frozen import Frozen
from gradcut.network.layouts import QUESTIONS, SUMS, Layout, MapCall
from gradcut.network.passes import as_written

#: In which way the last attention is replaced, by the names of the papers' methods (see `Replaced`).
Replacement = Literal["maskclip", "sclip", "clearclip", "naclip"]

#: Those that leave out what the last block adds its attention's output to, and its perceptron.
_ALONE = ("clearclip", "naclip")


class Changed(TorchFunctionMode):
    """While this context is open, the results of the given calls are changed.

    It is to be the innermost of the contexts, so that it numbers calls as `gradcut.network.forward.ForwardPass` does.

    Args:
        changes: for calls that make a map, what is to become of the result.

    Attributes:
        calls: how many functions were called.

    Raises:
        OtherPathError: within, where another function is called, or its result has another shape.
    """

    def __init__(self, changes: Mapping[MapCall, Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.calls = 0
        self._changes = {place.call: (place, change) for place, change in changes.items()}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in QUESTIONS:
            return result
        self.calls += 1
        if self.calls not in self._changes:
            return result
        place, change = self._changes.pop(self.calls)
        check_call(place, func, result)
        return change(result)

    def check(self) -> None:
        """Raise OtherPathError unless every change was made."""
        if self._changes:
            raise OtherPathError(f"it called {self.calls} functions, expected {max(self._changes)} at least")


class Replaced(TorchFunctionMode):
    """While this context is open, one attention of a network is computed from other likenesses than query and key.

    With queries q, keys k, values v, and s the scale of the layer's softmax:

    - ``"maskclip"`` (Zhou et al. 2022): a token's own value, v.
    - ``"sclip"`` (Wang et al. 2023): ``(softmax(s q q^T) + softmax(s k k^T)) v``.
    - ``"clearclip"`` (Lan et al. 2024): ``softmax(s q q^T) v``, and the block is left without its residual connections
      and its perceptron.
    - ``"naclip"`` (Hajimiri et al. 2024): ``softmax(s k k^T + w) v``, w a Gaussian of the distance between two places,
      1 at most and 0 beside tokens that are no places; the block as ClearCLIP leaves it.

    Args:
        how: one of these.
        call: of the attention, by its number.
        layout: how the places lie in its tokens.
        deviation: of NACLIP's Gaussian, in places.
        calls: asked how many functions the model has called before.

    Raises:
        SaliencyError: within, if the attention is computed in a way in which its queries cannot be seen.
    """

    def __init__(self, how: Replacement, call: int, layout: Layout, deviation: float, calls: Callable[[], int]) -> None:
        super().__init__()
        self._how = how
        self._call = call
        self._layout = layout
        self._deviation = deviation
        self._calls = calls
        self._since: list[Tensor] | None = None  # what was made since the attention, until the block's last sum
        self._stream: Tensor | None = None  # the first sum's
        self._left = 2 if how in _ALONE else 0  # sums to leave out

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in QUESTIONS and self._calls() + 1 == self._call:
            result = self._attention(func, args, kwargs)
            self._since = []
        elif self._since is not None and func in SUMS and (branch := self._branch(args)) is not None:
            return branch
        else:
            result = func(*args, **kwargs)
        if self._since is not None and self._left:
            self._since += [part for part in (result if isinstance(result, tuple) else (result,)) if part is not None]
        return result

    def check(self) -> None:
        """Raise SaliencyError unless everything that was to be left out was."""
        if self._left:
            raise SaliencyError(
                f"attention: expected 'maskclip', 'sclip' or None for this network, from whose last block the residual "
                f"connections and the perceptron cannot be left out, got {self._how!r}"
            )

    def _attention(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is F.multi_head_attention_forward:
            return multi_head(args, kwargs, lambda q, k, v, mask, _: self._weights(q, k, v, mask))
        if func is not F.scaled_dot_product_attention:
            raise SaliencyError(
                "attention: expected None for this network, which computes its attention in its own code and not by "
                f"torch's scaled_dot_product_attention or MultiheadAttention, got {self._how!r}"
            )
        weights = self._weights(*args, **kwargs)
        value = args[2] if len(args) > 2 else kwargs["value"]
        return weights @ repeated(value, weights.shape[-3])

    def _weights(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Float[Tensor, "b heads t t"]:
        key, value = (repeated(values, query.shape[-3]) for values in (key, value))

        def alike(tokens: Tensor, more: Tensor | None = None) -> Tensor:
            mask = attn_mask
            if more is not None and mask is not None:
                mask = more.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask + more
            elif more is not None:
                mask = more
            return softmax_of_products(tokens, tokens, value, mask, *args, **kwargs)

        if self._how == "maskclip":
            own = torch.eye(query.shape[-2], dtype=query.dtype, device=query.device)
            return own.expand(*query.shape[:2], -1, -1)
        if self._how == "sclip":
            return alike(query) + alike(key)
        if self._how == "clearclip":
            return alike(query)
        return alike(key, self._near(query))

    def _near(self, like: Tensor) -> Float[Tensor, "t t"]:
        """The Gaussian of the distances between places, zeros for the other tokens."""
        _, h, w, prefix = self._layout
        places = torch.cartesian_prod(torch.arange(h), torch.arange(w)).to(like.device, torch.float32)
        squared = (places[:, None] - places).square().sum(2)
        return F.pad(torch.exp(-squared / (2 * self._deviation**2)).to(like), (prefix, 0, prefix, 0))

    def _branch(self, args: tuple[Any, ...]) -> Tensor | None:
        """In the place of a sum what it adds to the residual connection; the first sum's in the second's."""
        if len(args) < 2 or not all(isinstance(part, Tensor) for part in args[:2]) or not self._left:
            return None
        first, second = args[:2]
        if first.shape != second.shape:
            return None
        if self._left == 2:
            new = [part for part in (first, second) if any(part is made for made in self._since or ())]
            if len(new) != 1:
                return None
            self._stream = new[0]
        elif first is not self._stream and second is not self._stream:
            return None
        self._left -= 1
        if not self._left:
            self._since = None
        return self._stream


class Averaged(TorchFunctionMode):
    """While this context is open, embeddings of many are averaged before they are brought to length 1.

    Args:
        photographs: so many are left.
        places: of each, one after the other.

    Attributes:
        done: whether there were such embeddings.
    """

    def __init__(self, photographs: int, places: int) -> None:
        super().__init__()
        self.done = False
        self._shape = photographs, places

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        photographs, places = self._shape
        if func is F.normalize and not self.done and args[0].ndim == 2 and len(args[0]) == photographs * places:
            self.done = True
            args = (args[0].reshape(photographs, places, -1).mean(1), *args[1:])
        return func(*args, **(kwargs or {}))


def replayed(
    classifier: Classifier, x: Float[Tensor, "b 3 h w"], modes: Sequence[TorchFunctionMode]
) -> Float[Tensor, "m n"]:
    """What the network answers if the contexts, the outermost first, stand round its forward pass.

    Raises:
        ClassifierError: the network fails so, or answers with something else than a finite row for each of any number.
        NoMemoryError: memory does not hold the pass.
        SaliencyError, OtherPathError: as the contexts say.
    """
    x = x.detach().clone()  # before the calls are counted
    faster = [Faster()] if x.device.type == "cpu" else []
    frozen = [Frozen()] if torch.is_grad_enabled() else []
    with memory_errors(len(x), tuple(x.shape[2:])), ExitStack() as stack:
        stack.enter_context(as_written(classifier.model))
        stack.enter_context(evaluating(classifier.model))
        for mode in [*faster, *frozen, *modes]:
            stack.enter_context(mode)
        try:
            logits = classifier.model(x)
        except SaliencyError:  # of a context
            raise
        except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError, LookupError) as error:
            if out_of_memory(error):
                raise
            raise ClassifierError(f"{classifier.name} fails: {one_line(error)}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] != len(classifier.labels):
        raise ClassifierError(f"{classifier.name} answers with {getattr(logits, 'shape', type(logits).__name__)}")
    if not logits.isfinite().all():
        raise ClassifierError(f"{classifier.name} answers with NaN or infinite logits")
    return logits
