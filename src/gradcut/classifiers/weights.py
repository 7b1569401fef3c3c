"""A model's weights: what they are known by, and batch norms folded into them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over a model's weights and their names, in hexadecimal digits; before `fold_batch_norms`, if it did that.

    So a head knows its backbone, folded or not. Folded weights that were changed since have a digest of their own.
    """
    digest = state_sha256(model)
    before_folding: Mapping[str, str] = getattr(model, _FOLDED_FROM, {})
    return before_folding.get(digest, digest)


#: By model: the marks of its tensors when its digest was made, and the digest.
_DIGESTS: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()

#: Whole numbers of as many bytes as a value has.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def state_sha256(model: nn.Module) -> str:
    """SHA-256 over a model's weights as they are and their names, in hexadecimal digits.

    It is remembered as long as no tensor changes.
    """
    state = {key: value for key, value in sorted(model.state_dict().items()) if isinstance(value, Tensor)}
    # PyTorch counts no writes to tensors that were made in inference mode.
    countable = not any(value.is_inference() or value.element_size() not in _BITS for value in state.values())
    marks = (list(state), _marks(state.values())) if countable else None
    if countable and model in _DIGESTS and _DIGESTS[model][0] == marks:
        return _DIGESTS[model][1]
    digest = hashlib.sha256()
    for key, value in state.items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    if countable:
        _DIGESTS[model] = marks, digest.hexdigest()
    return digest.hexdigest()


def _marks(tensors: Collection[Tensor]) -> list[tuple[int, int, int]]:
    """Where each tensor is, how often it was written to, and the sum of its bits.

    The sum is for writes through ``.data`` or NumPy, which PyTorch does not count. It takes a fifth of the time
    of the digest.
    """
    sums = [tensor.detach().view(_BITS[tensor.element_size()]).sum(dtype=torch.int64) for tensor in tensors]
    together = torch.stack([total.to(sums[0].device) for total in sums]).tolist() if sums else []
    return [(t.data_ptr(), t._version, total) for t, total in zip(tensors, together, strict=True)]


_FOLDED_FROM = "gradcut_folded_from"


def fold_batch_norms(model: nn.Module) -> None:
    """Put every batch norm of a network with fixed weights into the convolution before it, in place.

    With fixed statistics it is a multiplication and a sum a channel, which the convolution's weights and bias can do:
    the same function, but for rounding, without a seventh of the forward and a fifth of the backward pass. What is left
    in the norm's place, under its name, is its activation, the norm's ``act``.

    For networks that call convolutions and norms in the order in which they list them, as EfficientNet does, and in
    evaluation mode: there is nothing left to train the statistics of.
    """
    before = weights_sha256(model)
    model.double()  # so that the product is rounded once
    for parent in list(model.modules()):
        for (name, convolution), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, norm_name, norm.act)
    model.float()
    setattr(model, _FOLDED_FROM, {state_sha256(model): before})
