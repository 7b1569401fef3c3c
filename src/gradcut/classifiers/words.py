"""Classifiers whose classes are words: an image tower, and a linear layer whose rows a text tower made of the words.

CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023, Tschannen et al. 2025) put photographs and sentences into one
space. The classes' sentences are the same for every photograph, so the text tower runs once, and what is left of it is
a row a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gradcut.classifiers.arguments import as_labels
from gradcut.classifiers.sizes import Patches
from gradcut.errors import ClassifierError
from gradcut.names import folded

#: Kinds of models, as config.json has them in ``model_type``: whether they were trained with a sigmoid.
FAMILIES: Mapping[str, bool] = {"clip": False, "metaclip_2": False, "siglip": True, "siglip2": True}

#: The sentence about a word, in whose place ``{}`` stands.
TEMPLATES = ("a photo of a {}.",)

#: What a photograph shows round its objects and is seldom asked for: rivals of the words under CLIP's softmax.
BACKGROUND = (
    "sky", "cloud", "sea", "river", "beach", "sand", "snow", "meadow", "grass", "forest", "tree", "mountain", "rock",
    "soil", "road", "pavement", "railway track", "bridge", "building", "wall", "fence", "floor", "carpet", "ceiling",
    "window", "curtain", "shadow", "darkness",
)  # fmt: skip

#: The least probability of a detection. Without a sigmoid: a word is more probable than all its rivals together. With
#: one: its odds are those of a photograph's own caption among the tens of thousands of a training batch, so that words
#: which are true of a photograph have little, too.
THRESHOLDS: Mapping[bool, float] = {False: 0.5, True: 0.1}


@dataclass(frozen=True)
class Words:
    """What a classifier of words is asked for.

    Args:
        labels: the words, one a class.
        templates: sentences with ``{}`` in the word's place; the embeddings of a word's sentences are averaged.
        background: words that contend with every class, as `Contending` has them; none leaves a sigmoid as it is.

    Raises:
        ClassifierError: no words, an empty one, one twice, or a template without ``{}``.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...] = TEMPLATES
    background: tuple[str, ...] = BACKGROUND

    def __post_init__(self) -> None:
        _check_words("labels", self.labels)
        _check_words("background", self.background)
        for template in self.templates:
            if not isinstance(template, str) or template.count("{}") != 1:
                raise ClassifierError(
                    f"templates: expected sentences with {{}} once in the word's place, such as {TEMPLATES[0]!r}, got "
                    f"{template!r}"
                )
        if not self.templates:
            raise ClassifierError(f"templates: expected at least one, such as {TEMPLATES[0]!r}, got none")

    @property
    def own(self) -> Bool[Tensor, "labels background"]:
        """Which background words are a class themselves: no class is a rival of itself."""
        rows = [[folded(rival) == folded(label) for rival in self.background] for label in self.labels]
        return torch.tensor(rows, dtype=torch.bool).reshape(len(self.labels), len(self.background))

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: list(value) for name, value in vars(self).items()}


def as_words(name: str, sigmoid: bool, labels: Any, templates: Any = None, background: Any = None) -> Words:
    """The words for a model, with what it has by default in the place of None.

    Args:
        name: what errors call the classifier.
        sigmoid: whether it was trained with one; it has no background words by default, for it needs none.

    Raises:
        ClassifierError: as for `Words`; or no background words for a model without a sigmoid.
    """
    if labels is None:
        raise ClassifierError(
            f'labels: {name} takes words for classes and was given none; labels=["cat", "dog"] in Python, --label cat '
            "--label dog with 'gradcut segment', 'compare', 'classify' and 'serve', or --labels FILE with all but the "
            "last"
        )
    default = () if sigmoid else BACKGROUND
    words = Words(
        _listed("labels", labels),
        TEMPLATES if templates is None else _listed("templates", templates),
        default if background is None else _listed("background", background),
    )
    if not sigmoid:
        for label, own in zip(words.labels, words.own.tolist(), strict=True):
            if all(own):
                raise ClassifierError(
                    f"background: expected at least one word beside {label!r}, for {name} was trained with a softmax: "
                    f"a score is a share among words; got {list(words.background)}"
                )
    return words


def refuse_words(name: str, asked: Mapping[str, Any]) -> None:
    """Raise ClassifierError if any argument was given, by its name, for a classifier that has classes of its own."""
    for argument, value in asked.items():
        if value is not None:
            raise ClassifierError(
                f"{argument}: {name} has classes of its own; only a classifier of words takes {argument}, such as "
                "hf/openai/clip-vit-base-patch16"
            )


def _listed(argument: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Sequence):
        raise ClassifierError(f"{argument}: expected a list of strings, got {values!r}")
    return tuple(values)


def _check_words(argument: str, words: tuple[str, ...]) -> None:
    if not words and argument == "background":
        return
    try:
        as_labels(words)
        as_labels([folded(" ".join(word.split())) for word in words])  # few text towers are told of the case
    except ClassifierError as error:
        raise ClassifierError(f"{argument}:{str(error).partition(':')[2]}") from None


#: Parts of transformers' models that are done with once the rows are there.
_TEXT = ("text_model", "text_projection", "logit_scale", "logit_bias")


class Worded(nn.Module):
    """From pixels ``(b, 3, h, w)`` to logits ``(b, labels)``: image tower, embedding of length 1, `head`, `Contending`.

    Args:
        model: of transformers, of one of the `FAMILIES`; its text tower is taken away.
        options: of that, such as that positions are to be interpolated.
        patches: for a model that takes patches instead of photographs.
        head: one row for each word, background words last: its sentences' embedding times the checkpoint's scale, and
            the checkpoint's bias.
    """

    def __init__(
        self,
        model: Any,
        options: Mapping[str, Any],
        patches: Patches | None,
        head: nn.Linear,
        words: Words,
    ) -> None:
        super().__init__()
        self.sigmoid = FAMILIES[model.config.model_type]
        for part in _TEXT:
            if hasattr(model, part):
                delattr(model, part)
        self.model = model
        self.options = dict(options)
        self.patches = patches
        self.head = head
        self.contending = Contending(words.own, self.sigmoid) if words.background else nn.Identity()
        self.words = words

    def forward(self, x: Tensor) -> Tensor:
        inputs = {"pixel_values": x} if self.patches is None else self.patches(x)
        embedding = embedded(self.model.get_image_features(**inputs, **self.options))
        logits: Tensor = self.contending(self.head(F.normalize(embedding, dim=-1)))
        return logits


class Contending(nn.Module):
    """The log-odds of each class against the background words, ``z_c - log(1_s + sum_b exp z_b)``.

    Their sigmoid is the softmax ``exp z_c / (exp z_c + 1_s + sum_b exp z_b)`` of a class and its rivals alone, so that
    a score does not depend on what else is asked for, and several classes can be had in one photograph. A background
    word that is the class itself is left out of its sum. ``1_s`` is 1 for a model that was trained with a sigmoid,
    which is a softmax against a logit of 0, else 0.
    """

    own: Tensor

    def __init__(self, own: Bool[Tensor, "labels background"], sigmoid: bool) -> None:
        super().__init__()
        self.register_buffer("own", own)
        self.sigmoid = sigmoid

    def forward(self, logits: Float[Tensor, "b words"]) -> Float[Tensor, "b labels"]:
        classes = len(self.own)
        rivals = logits[:, None, classes:].masked_fill(self.own, -torch.inf)
        if self.sigmoid:
            rivals = F.pad(rivals, (0, 1))
        return logits[:, :classes] - rivals.logsumexp(-1)


def words_of(model: nn.Module) -> Words | None:
    """What a classifier of words was asked for; None for any other model."""
    return model.words if isinstance(model, Worded) else None


def embedded(features: Any) -> Float[Tensor, "b d"]:
    """The embeddings in what transformers returns: itself, or an output that has them among more."""
    return features if isinstance(features, Tensor) else features.pooler_output


#: Sentences that go through the text tower at once.
_SENTENCES = 128


def head_of(model: Any, tokenizer: Any, words: Words, name: str) -> nn.Linear:
    """The linear layer that the text tower makes of the words, background words last.

    A word's row is the mean of its sentences' embeddings, each of length 1, brought to length 1 again (Radford et al.
    2021) and multiplied by the checkpoint's scale. The tower runs in float64, so that the rows, rounded to
    float32, are the same on every machine and for any number of threads, and so is the classifier's fingerprint.

    Raises:
        ClassifierError: a word that is too long for the tower, or that its tokenizer does not know; or a tokenizer that
            is not the tower's.
    """
    every = [*words.labels, *words.background]
    sentences = [template.replace("{}", word) for word in every for template in words.templates]
    sigmoid = FAMILIES[model.config.model_type]
    if sigmoid:  # trained on small letters, which not every file of a tokenizer says
        sentences = [sentence.lower() for sentence in sentences]
    ids = tokenizer(sentences)["input_ids"]
    text = model.config.text_config
    if len(tokenizer) <= text.vocab_size / 2 or max(token for tokens in ids for token in tokens) >= text.vocab_size:
        # Of a folder without a tokenizer's files, transformers makes one that knows nothing.
        raise ClassifierError(
            f"classifier: {name}: its tokenizer has {len(tokenizer)} tokens, where its text tower takes "
            f"{text.vocab_size}; expected the tokenizer's own files beside config.json"
        )
    limit = text.max_position_embeddings
    for sentence, tokens in zip(sentences, ids, strict=True):
        if len(tokens) > limit:
            raise ClassifierError(
                f"labels: {name} takes at most {limit} tokens, got {len(tokens)} in {sentence[:60]!r}; say it shorter"
            )
        if tokenizer.unk_token_id != tokenizer.eos_token_id and tokenizer.unk_token_id in tokens:  # CLIP's is the end
            raise ClassifierError(f"labels: {name} does not know what {sentence[:60]!r} is written in")
    # SigLIP's text tower was trained without a mask, on sentences filled up to their full length.
    filled = {"padding": "max_length", "max_length": limit} if sigmoid else {"padding": True}
    inputs = tokenizer(sentences, return_tensors="pt", **filled)
    for part in _TEXT:
        if isinstance(getattr(model, part, None), nn.Module):
            getattr(model, part).double()
    features = []
    with torch.no_grad():
        for start in range(0, len(sentences), _SENTENCES):
            some = {key: value[start : start + _SENTENCES] for key, value in inputs.items()}
            features.append(F.normalize(embedded(model.get_text_features(**some)), dim=-1))
    means = torch.cat(features).reshape(len(every), len(words.templates), -1).mean(1)
    rows = F.normalize(means, dim=-1) * model.logit_scale.detach().double().exp()
    bias = getattr(model, "logit_bias", None)
    head = nn.Linear(rows.shape[1], rows.shape[0], bias=bias is not None)
    with torch.no_grad():
        head.weight.copy_(rows)
        if bias is not None:
            head.bias.fill_(bias.item())
    return head
