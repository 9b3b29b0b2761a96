"""The supported model families. Adding one: a file with a `Family` class, and a line here."""

from __future__ import annotations

from torch import nn

from st_simdiff.errors import InputError
from st_simdiff.models.families.base import Family
from st_simdiff.models.families.llava_video import LlavaVideoFamily

FAMILIES: tuple[Family, ...] = (LlavaVideoFamily(),)


def family_of(model: nn.Module) -> Family:
    """The family of `model`. Raises `InputError`, naming the supported ones, if there is none."""
    for family in FAMILIES:
        if family.matches(model):
            return family
    supported = ", ".join(family.name for family in FAMILIES)
    raise InputError(f"{type(model).__name__} is not supported. Supported model families: {supported}.")
