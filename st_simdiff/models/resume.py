"""Another question about a video whose prefill is there up to the first choice that asks the question.

The new text goes through the layers up to that choice alone; there it is joined to the hidden states that the earlier
prompt left, the method chooses anew, and the layers behind see the whole prompt.
"""

from __future__ import annotations

from typing import Any

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.models.cache import PrunedLayer
from st_simdiff.models.deepstack import Deepstack
from st_simdiff.models.forward import ForwardPass
from st_simdiff.models.sequence import View
from st_simdiff.models.shared_prefill import SharedPrefill, own_videos
from st_simdiff.models.transformers_api import Cache, DynamicLayer


def shared_prefill(cache: Cache | None) -> SharedPrefill | None:
    """What a cache brings for further questions, or None."""
    first = cache.layers[0] if isinstance(cache, Cache) and cache.layers else None
    return first.shared if isinstance(first, PrunedLayer) else None


def chooses_anew(cache: Cache | None, method: Method) -> bool:
    """Whether new text behind `cache` is another question: if the cache no longer holds the query that chose.

    Raises `InputError` if another method chose: what it left is not where `method` would go on from.
    """
    shared = shared_prefill(cache)
    if cache is None or shared is None or cache.get_seq_length() >= shared.valid_from:
        return False
    if shared.method != method:
        first = _named(shared.method, method)
        raise InputError(
            f"The cache was cut back to a video that {first} compressed: ask {method.name} with the whole prompt and "
            "without that cache."
        )
    return True


def _named(first: Method, second: Method) -> str:
    return f"{first.name} with other settings" if first.name == second.name else first.name


def check_first(held: int) -> None:
    """Raises `InputError` for a prompt with a video behind the `held` positions of a cache, unless that is empty."""
    if held:
        raise InputError(
            "share_prefix=True needs all that comes before the question in the first prompt; "
            f"the cache held {held} positions before the video. Another question about a video that the cache holds "
            "comes without its pixels."
        )


def _check_one_row(rows: int, padded: bool = False) -> None:
    if rows > 1 or padded:
        given = f"{rows} rows" if rows > 1 else "padding"
        raise InputError(f"share_prefix=True takes one prompt at a time, without padding or beams; got {given}.")


# --- a prompt that others may go on from ---


def note(forward: ForwardPass, index: int, hidden: torch.Tensor) -> SharedPrefill | None:
    """The prefill as it leaves decoder layer `index`, hidden (B, P, D), if it may be the last the questions share.

    Nothing is copied. None where nothing is to be shared, or the question was asked already.
    """
    rotary = forward.rotaries.get(forward.rotary_kind(index))
    if not forward.sharing or forward.asked or rotary is None:
        return None
    deepstack = forward.deepstack
    return SharedPrefill(
        method=forward.method,
        layer=index,
        hidden=hidden,
        position_ids=forward.position_ids,
        rotary=rotary,
        videos=own_videos(forward.videos),
        deepstack=None if deepstack is None else Deepstack(deepstack.features, deepstack.source),
        tail=forward.tail,
        valid_from=forward.past_length + forward.input_length - forward.query + 1,
    )


def keep(forward: ForwardPass, before: SharedPrefill | None) -> None:
    """Has the cache keep `before` if the method has asked the question since.

    Raises `InputError` for several rows and for padding.
    """
    if before is None or not forward.asked:
        return
    _check_one_row(forward.batch, padded=forward.account.seen[before.layer][1].valid is not None)
    forward.shared = before


# --- a prompt that goes on from another ---


def begin(forward: ForwardPass, logits_to_keep: int) -> bool:
    """Whether `forward`, of new text alone, is another question (`chooses_anew`). All its text is the question.

    logits_to_keep: as for `ForwardPass.add_videos`. Raises `InputError` for several rows, padding and another method,
    before anything changes.
    """
    cache, shared = forward.cache, shared_prefill(forward.cache)
    if cache is None or shared is None or not chooses_anew(cache, forward.method):
        return False
    _check_one_row(forward.batch, padded=forward.view.valid is not None)
    layer: Any = cache.layers[shared.layer]
    forward.resumed = shared.until(layer.held)
    forward.query = logits_to_keep if logits_to_keep <= forward.input_length else 1
    forward.account.restarts_after = shared.layer
    for index in range(shared.layer + 1, len(cache.layers)):
        cache.layers[index] = DynamicLayer()
    return True


def join(forward: ForwardPass, hidden: torch.Tensor) -> torch.Tensor:
    """The hidden states of the whole prompt, (1, P + L, D), where the shared ones end. hidden: (1, L, D), new ones."""
    shared = forward.resumed
    assert shared is not None
    kind = forward.rotary_kind(shared.layer)
    past, new_ids, new_rotary = forward.account.seen[shared.layer][0], forward.position_ids, forward.rotaries[kind]
    if past.shift is not None:
        new_ids = new_ids - past.shift
        new_rotary = forward.text_model.rotary_emb(hidden, new_ids)
    cosines, sines = (torch.cat([old, new], -2) for old, new in zip(shared.rotary, new_rotary, strict=True))
    joined = torch.cat([shared.hidden, hidden], dim=1)
    forward.position_ids = _joined_positions(shared.position_ids, new_ids)
    forward.rotaries[kind] = cosines, sines
    if shared.deepstack is not None:
        source = shared.deepstack.source
        nothing = source.new_full((1, hidden.shape[1]), -1)
        forward.deepstack = Deepstack(shared.deepstack.features, torch.cat([source, nothing], dim=1))
    forward.videos = list(shared.videos)
    forward.tail = shared.tail + hidden.shape[1]
    forward.row_lengths = [joined.shape[1]]
    forward.view = View(joined.shape[1], None, past.shift)
    forward.packed = True
    return joined


def _joined_positions(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Position ids of (axes, 1, P) or (1, P) and of new text behind them, which may have one axis for all.

    `generate` of models with three axes passes places in the text as a first, fourth one, which a call does not.
    """
    if old.dim() == new.dim() == 3 and min(len(old), len(new)) > 1:
        axes = min(len(old), len(new))
        old, new = old[-axes:], new[-axes:]
    return torch.cat([old, new.expand(*old.shape[:-1], -1)], dim=-1)


def new_positions(output: Any, count: int) -> Any:
    """The decoder's output with the hidden states of its last `count` positions alone: those that were passed in."""
    hidden = output[0][:, -count:]
    if isinstance(output, tuple):
        return (hidden, *output[1:])
    output.last_hidden_state = hidden
    return output
