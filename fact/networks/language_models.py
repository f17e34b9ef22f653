"""Causal language models of ``transformers``: what they make of the next token.

A neuron is an output, the probability of one token, given all tokens up to a position; or a channel
of a layer, at a position. Source:
Oikarinen et al., "Evaluating Neuron Explanations", ICML 2025, arXiv 2506.05774, settings 7 and 8.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.data.token_sequences import Ids
from fact.networks.layers import LayerError, find_layer
from registry.suggest import RefusalError

BROKEN = "\ufffd"
"""What stands for bytes that are no whole character."""


class LanguageModelError(RefusalError, RuntimeError):
    """A model that cannot be loaded, or that does not know a token."""


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model and its tokenizer.

    Attributes
    ----------
    module : Module
        Of token ids (sequence, position) gives an object with ``logits`` (sequence, position,
        token), of which those at a position depend on none behind it.
    tokenizer : tokenizer of ``transformers`` or None
        None where there is none: then texts cannot be read, and tokens are called by their ids.
    name : str
        What it is called.
    """

    module: nn.Module
    tokenizer: Any
    name: str

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.module.parameters()).device

    def to(self, device: torch.device | str) -> LanguageModel:
        """Move the module to a device, and return this model."""
        self.module.to(device)
        return self

    @property
    def n_tokens(self) -> int:
        """Number of tokens that the model knows."""
        return int(self._text_config.vocab_size)

    @property
    def context(self) -> int | None:
        """Positions that it can read at most; None where its configuration does not say."""
        found = getattr(self._text_config, "max_position_embeddings", None)
        return int(found) if found else None

    @property
    def _text_config(self) -> Any:
        config: Any = self.module.config
        return config.get_text_config() if hasattr(config, "get_text_config") else config

    def encode(self, text: str) -> Ids:
        """Return the ids (position,) of a text, no special tokens added.

        Raises
        ------
        LanguageModelError
            If there is no tokenizer.
        """
        if self.tokenizer is None:
            raise LanguageModelError(
                f"{self.name} has no tokenizer, which texts need: name one by `tokenizer`, or give "
                "token ids"
            )
        return np.asarray(self.tokenizer.encode(text, add_special_tokens=False), dtype=np.int64)

    @property
    def separator(self) -> int:
        """Id of the token that begins a sequence, or, where there is none, ends a text.

        Raises
        ------
        LanguageModelError
            If the tokenizer has neither.
        """
        for name in ("bos_token_id", "eos_token_id"):
            if (found := getattr(self.tokenizer, name, None)) is not None:
                return int(found)
        raise LanguageModelError(f"the tokenizer of {self.name} has no token that ends a text")

    def texts(self, ids: Sequence[int] | Ids) -> list[str]:
        """Return the text of each token by itself.

        A token that is part of a character reads as U+FFFD.
        """
        if self.tokenizer is None:
            return [f"[{token}]" for token in np.asarray(ids).tolist()]
        return [str(self.tokenizer.decode([token])) for token in np.asarray(ids).tolist()]

    def names(self, ids: Sequence[int] | Ids) -> list[str]:
        """Return names of tokens, all different: texts in quotation marks, as ``" the"``.

        A token whose text is no whole character, or that of another one too, is called as in the
        vocabulary, or by its id.
        """
        texts = self.texts(ids)
        times = Counter(texts)
        names = []
        for token, text in zip(np.asarray(ids).tolist(), texts, strict=True):
            if BROKEN in text or times[text] > 1 or self.tokenizer is None:
                names.append(self._entry(token))
            else:
                names.append(json.dumps(text, ensure_ascii=False))
        return names

    def _entry(self, token: int) -> str:
        entry = self.tokenizer.convert_ids_to_tokens(token) if self.tokenizer else None
        return f"{entry} ({token})" if entry else f"token {token}"

    def find(self, tokens: Sequence[int | str]) -> Ids:
        """Return the ids of tokens, given by their ids or texts.

        Parameters
        ----------
        tokens : sequence of int or str
            A text is one that the tokenizer makes a single token of, as ``" the"``, or an entry of
            its vocabulary, as ``"Ġthe"``.

        Raises
        ------
        LanguageModelError
            If one is no single token, is unknown, or stands there twice.
        """
        ids = [self._known(one) if isinstance(one, int) else self._of(one) for one in tokens]
        times = Counter(ids)
        if twice := [token for token, own in zip(tokens, ids, strict=True) if times[own] > 1]:
            raise LanguageModelError(f"tokens {twice[:4]} are the same one; expected each once")
        return np.array(ids, dtype=np.int64)

    def _known(self, token: int) -> int:
        if not 0 <= token < self.n_tokens:
            raise LanguageModelError(f"token {token}; {self.name} knows 0 to {self.n_tokens - 1}")
        return token

    def _of(self, text: str) -> int:
        ids = self.encode(text)
        if len(ids) == 1:
            return self._known(int(ids[0]))
        vocabulary = self.tokenizer.get_vocab()
        if text in vocabulary:
            return self._known(int(vocabulary[text]))
        pieces = " ".join(map(repr, self.texts(ids)))
        raise LanguageModelError(f"{text!r} is no single token of {self.name}, but {pieces}")

    def probabilities(self, ids: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the model gives to some next tokens, and to those that do come next.

        Parameters
        ----------
        ids : Tensor of int
            (sequence, position).
        tokens : Tensor of int
            (token,) the ids that are looked at.

        Returns
        -------
        shares : Tensor
            (sequence, position, token) float32, without the last position: softmax over all
            tokens of the model.
        loss : Tensor
            (sequence, position) -log of the share of the next token, in nats.
        """
        ids, tokens = ids.to(self.device), tokens.to(self.device)
        with torch.no_grad():
            logits = self.module(input_ids=ids, use_cache=False).logits
        return _shares_and_losses(logits, ids, tokens)

    def channels(self, ids: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        """Return what a layer puts out at positions, and the loss there.

        Parameters
        ----------
        ids : Tensor of int
            (sequence, position).
        layer : str
            Name of a layer of the module, as ``transformer.h.3.mlp.act``. Of one that puts out
            several tensors, as a block, the first is taken; of one that is called several times
            in a pass, what it put out last.

        Returns
        -------
        activations : Tensor
            (sequence, position, channel) float32, without the last position.
        loss : Tensor
            As of :meth:`probabilities`.

        Raises
        ------
        fact.networks.layers.LayerError
            If there is no such layer, with the nearest name, or its output has no positions.
        """
        ids = ids.to(self.device)
        kept: list[Any] = []
        hook = find_layer(self.module, layer).register_forward_hook(
            lambda _module, _given, output: kept.append(output)
        )
        with hook, torch.no_grad():
            logits = self.module(input_ids=ids, use_cache=False).logits
        output = kept[-1] if kept else None
        first = output[0] if isinstance(output, tuple | list) and output else output
        if not isinstance(first, Tensor) or first.ndim != 3 or first.shape[:2] != ids.shape:
            found = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
            raise LayerError(
                f"layer {layer!r} puts out {found}; expected (sequence, position, channel)"
            )
        none = ids.new_empty(0)
        return first[:, :-1].float(), _shares_and_losses(logits, ids, none)[1]


def _shares_and_losses(logits: Tensor, ids: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return shares of some tokens, and the loss of those that come next, by position."""
    shares, losses = [], []
    for own, following in zip(logits[:, :-1], ids[:, 1:], strict=True):  # one at a time is held
        total = own.float().logsumexp(dim=-1, keepdim=True)
        shares.append((own[:, tokens].float() - total).exp())
        losses.append((total - own.gather(1, following[:, None]).float())[:, 0])
    return torch.stack(shares), torch.stack(losses)


def language_model(
    model: str,
    *,
    revision: str | None = None,
    tokenizer: str | None = None,
    dtype: str = "float32",
    trusted: bool = False,
) -> LanguageModel:
    """Return a causal language model of ``transformers``, in evaluation mode.

    Parameters
    ----------
    model : str
        Name of a repository of the hub, as ``gpt2``, or a local folder.
    revision : str, optional
        Of the repository.
    tokenizer : str, optional
        Name or folder of its tokenizer; that of the model by default, none where it has none.
    dtype : str
        Of the weights: ``float32``, ``bfloat16``, ``float16``.
    trusted : bool
        Whether code that comes with the model may run.

    Raises
    ------
    LanguageModelError
        If ``transformers`` is not installed, or the model cannot be loaded.
    """
    try:
        import transformers
    except ImportError as error:
        raise LanguageModelError(
            "language models need transformers: pip install 'factbook[language]'",
            command="pip install 'factbook[language]'",
        ) from error
    given: dict[str, Any] = {"revision": revision, "trust_remote_code": trusted}
    try:
        module = transformers.AutoModelForCausalLM.from_pretrained(model, **given)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        told = f"language model {model!r} cannot be loaded: {error}"
        if "trust_remote_code" in str(error):
            told += TRUST
        raise LanguageModelError(told) from error
    own = {"trust_remote_code": trusted} if tokenizer else given
    reader: Any = None
    if tokenizer or not Path(model).is_dir() or any(_tokenizer_files(Path(model))):
        try:
            reader = transformers.AutoTokenizer.from_pretrained(tokenizer or model, **own)
        except (OSError, RuntimeError, ValueError, ImportError, KeyError) as error:
            raise LanguageModelError(
                f"the tokenizer {tokenizer or model!r} cannot be loaded: {error}"
            ) from error
    module = module.to(getattr(torch, dtype)).eval().requires_grad_(False)
    return LanguageModel(module, reader, Path(model).name)


TRUST = "\nRead that code; if you trust it, say `trusted = true` in the table of the model"


def _tokenizer_files(folder: Path) -> Iterator[Path]:
    names = ("tokenizer*.json", "vocab.*", "*.model", "spiece*", "tokenizer*.py")
    return (path for pattern in names for path in folder.glob(pattern))


# --- sequences ------------------------------------------------------------------------------


def sequences_of(
    model: LanguageModel,
    source: Any,
    *,
    length: int | None = None,
    most: int | None = None,
    join: bool = False,
) -> list[NDArray[np.int32]]:
    """Return sequences of token ids of two positions and more, in order.

    Parameters
    ----------
    model : LanguageModel
        Its tokenizer reads texts.
    source : iterable
        Texts, or ids (position,).
    length : int, optional
        Positions of a sequence at most: longer ones are cut into several, of which the last may be
        shorter. By default 1,024, or what the model can read where that is less.
    most : int, optional
        Sequences at most; all by default.
    join : bool
        Make one stream of all texts, the separator between, and cut it into sequences of exactly
        `length` that begin with the separator; what is left over at the end is dropped.

    Raises
    ------
    LanguageModelError
        If the model cannot read as much, does not know an id, or there is no sequence.
    """
    size = _length(model, length)
    found: list[NDArray[np.int32]] = []
    pieces = _joined(model, source, size) if join else _cut(model, source, size)
    for piece in pieces:
        if len(found) == most:
            break
        if len(piece) > 1:
            if piece.max() >= model.n_tokens:
                raise LanguageModelError(
                    f"sequence {len(found)} has the token id {piece.max()}; {model.name} knows "
                    f"{model.n_tokens} tokens: it was made by another tokenizer"
                )
            found.append(piece.astype(np.int32))
    if not found:
        raise LanguageModelError("there is no sequence of at least two tokens")
    return found


def _length(model: LanguageModel, length: int | None) -> int:
    if length is None:
        return min(USUAL_LENGTH, model.context or USUAL_LENGTH)
    if model.context and length > model.context:
        raise LanguageModelError(
            f"length {length}; {model.name} reads {model.context} positions at most"
        )
    return length


USUAL_LENGTH = 1024
"""Positions of the sequences of ``openwebtext-tokenized-9b``."""


def _encoded(model: LanguageModel, source: Any) -> Iterator[Ids]:
    return (model.encode(one) if isinstance(one, str) else one for one in source)


def _cut(model: LanguageModel, source: Any, size: int) -> Iterator[Ids]:
    for ids in _encoded(model, source):
        yield from (ids[start : start + size] for start in range(0, len(ids), size))


def _joined(model: LanguageModel, source: Any, size: int) -> Iterator[Ids]:
    separator = np.array([model.separator], dtype=np.int64)
    held: list[Ids] = []
    for ids in _encoded(model, source):
        stream = np.concatenate([*held, ids, separator])
        n_whole = len(stream) // (size - 1)
        for start in range(0, n_whole * (size - 1), size - 1):
            yield np.concatenate([separator, stream[start : start + size - 1]])
        held = [stream[n_whole * (size - 1) :]]


def commonest(sequences: Sequence[NDArray[np.int32]], count: int) -> Ids:
    """Return the commonest tokens, of equally common ones the first to come, (token,).

    Counted at all positions of all sequences, the last ones included; fewer where there are no
    more.

    Parameters
    ----------
    sequences : sequence of ndarray of int
        Each (position,).
    count : int
        How many.
    """
    tokens, first, counts = np.unique(
        np.concatenate(sequences), return_index=True, return_counts=True
    )
    order = np.lexsort((first, -counts))
    return tokens[order[:count]].astype(np.int64)
