"""The order in which one of lmms-eval's wrappers answers the requests it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lmms_eval.api.instance import Instance


class _Arguments(tuple):
    """A request's arguments that say when they are unpacked."""

    unpacked: Callable[[], None]

    def __iter__(self) -> Iterator[Any]:
        self.unpacked()
        return super().__iter__()


def note_order(requests: Sequence[Instance]) -> tuple[list[Instance], list[int]]:
    """Copies of the requests, and the list of the indices of those that have been answered so far, in that order.

    A wrapper sorts its requests, cuts them into batches and returns the answers in the requests' order; which rows a
    batch has, it does not say. But each of them unpacks a batch by `zip(*batch)`, once, before it is generated, and
    reads single arguments by index everywhere else.
    """
    order: list[int] = []
    copies = []
    for index, request in enumerate(requests):
        arguments = _Arguments(request.args)
        arguments.unpacked = lambda index=index: order.append(index)
        copies.append(dataclasses.replace(request, arguments=arguments))
    return copies, order
