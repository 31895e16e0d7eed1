"""Words for the published MaskedMimic v1, which was trained with the text encoder of X-CLIP.

    from tt_gym.text import xclip
    gymnasium.make("TTStrike-v0", bfm="last.ckpt", prompt=Text(xclip.embed("a person is kicking")))

Needs ``transformers``, and on first use a network: the weights come from the Hugging Face Hub.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

MODEL = "microsoft/xclip-base-patch32"
"""The encoder of the published model (spec/maskedmimic.md, text)."""


def embed(wording: str, model: str = MODEL) -> Tensor:
    """The encoder's pooled output, neither projected nor normalised, (512,).

    Args:
        wording: any sentence.
        model: name on the Hub, or a folder.

    Raises:
        ImportError: ``transformers`` is not installed.
        OSError: the weights are not to be had.
    """
    tokenizer, encoder = _load(model)
    with torch.no_grad():
        pooled = encoder(**tokenizer([wording], return_tensors="pt")).pooler_output
    return pooled[0].float()


@functools.cache
def _load(model: str) -> tuple[Any, Any]:
    try:
        from transformers import CLIPTokenizer, XCLIPTextModel
    except ImportError as error:
        raise ImportError("words for a published model need: pip install transformers") from error
    return CLIPTokenizer.from_pretrained(model), XCLIPTextModel.from_pretrained(model).eval()
