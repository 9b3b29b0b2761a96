"""The loss of a prompt with labels whose visual tokens are taken out on their way through the decoder."""

from __future__ import annotations

from typing import Any

import torch

from st_simdiff.errors import InputError
from st_simdiff.models.transformers_api import TransformersModule

IGNORED = -100
"""The label of a position without a loss, as everywhere in transformers."""


class Labels:
    """labels: int64 (B, L), those of the whole prompt. items: the number that the sum of the losses is divided by."""

    def __init__(self, labels: torch.Tensor, items: Any = None) -> None:
        self.labels = labels
        self.items = items

    def answer_length(self, mask: torch.Tensor | None = None) -> int:
        """Positions from the first label on: the one before it is the prompt's last. 0 without labels.

        mask: (B, L), 0 for positions that do not count; None if all do. Raises `InputError` where the rows differ.
        Reads the device.
        """
        behind = (self.labels != IGNORED).cummax(1).values
        if mask is not None:
            behind = behind & mask.to(behind.device).bool()
        lengths = [length for length in behind.sum(1).unique().tolist() if length] or [0]
        if len(lengths) > 1:
            raise InputError(
                f"The answers begin {', '.join(map(str, lengths))} positions before the end: a method that ranks by "
                "the prompt's last query takes rows with answers of one length, or one row at a time."
            )
        return lengths[0]

    def follow(self, kept: torch.Tensor | None, valid: torch.Tensor | None) -> None:
        """Takes the labels to the positions that are left: kept, int64 (B, L'), or all of them.

        valid: bool (B, L'), False where a row is padded; None if none is.
        """
        if kept is None:
            return
        self.labels = self.labels.gather(1, kept.to(self.labels.device).expand(len(self.labels), -1))
        if valid is not None:
            self.labels = self.labels.masked_fill(~valid.to(self.labels.device), IGNORED)

    def with_loss(self, head: TransformersModule, output: Any) -> Any:
        """The output of the model's head with the loss that it would have had by its own function.

        Raises `InputError` if it has not the logits of every position.
        """
        logits = output[0]
        if logits.shape[1] != self.labels.shape[1]:
            raise InputError("A loss needs the logits of every position: leave out logits_to_keep.")
        options = {} if self.items is None else {"num_items_in_batch": self.items}
        size = head.config.get_text_config().vocab_size
        loss = head.loss_function(logits=logits, labels=self.labels, vocab_size=size, **options)
        return (loss, *output) if isinstance(output, tuple) else type(output)(**{"loss": loss} | dict(output.items()))
