"""A command line whose mistakes are told in one sentence."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from st_simdiff.errors import InputError, unknown


class Parser(argparse.ArgumentParser):
    """Takes options by their full names alone. Raises `InputError` for whatever it does not understand.

    passed_on: options of another program, which come behind a lone --.
    """

    passed_on: Collection[str] = ()

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        told = message.removeprefix("argument ")
        raise InputError(f"{self.prog}: {told[:1]}{told[1:]}.")

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As the base class, but that nothing may be left over."""
        for argument in args or ():
            name, _, value = argument.partition("=")
            if name.startswith("-") and value == "--":  # argparse would make it a list
                raise InputError(f"{self.prog}: {name} needs a value, got '--'.")
        found, left = super().parse_known_args(args, namespace)
        if left:
            raise self._not_understood(left[0])
        return found, left

    def _not_understood(self, argument: str) -> InputError:
        name = argument.partition("=")[0]
        if name in self.passed_on:
            return InputError(f"{name} is passed on: it comes behind a lone --, as in `{self.prog} ... -- {argument}`.")
        if name.startswith("-"):
            options = [option for option in self._option_string_actions if option.startswith("--")]
            return unknown(f"option of {self.prog}", name, options)
        return InputError(f"{self.prog} does not understand {argument!r}: it takes no such argument.")


def whole(text: str) -> int:
    """A type of options."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number is needed, got {text!r}") from None


def number(text: str) -> float:
    """A type of options."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number is needed, got {text!r}{decimal_comma(text)}") from None


def decimal_comma(text: str) -> str:
    """A hint at the end of a sentence for shares written with a comma, such as `0,3`; empty for any other text."""
    return ": a decimal has a point, 0.3 and not 0,3" if re.fullmatch(r"\s*0,\d+(,0,\d+)*\s*", text) else ""
