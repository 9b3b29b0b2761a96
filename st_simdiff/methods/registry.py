"""The one list of methods: the names that the API, model_args, the command line and the documentation share.

Beside the methods of this package there are those that other packages declare (docs/adding_a_method.md). They are
loaded when they are asked for; one that cannot be loaded affects no other.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint
from typing import Any, cast

from st_simdiff.errors import InputError, unknown
from st_simdiff.methods.base import Method
from st_simdiff.methods.divprune import DivPrune
from st_simdiff.methods.dycoke import DyCoke
from st_simdiff.methods.evs import EVS
from st_simdiff.methods.fastervlm import FasterVLM
from st_simdiff.methods.fastv import FastV
from st_simdiff.methods.fastvid import FastVID
from st_simdiff.methods.flashvid import FlashVID
from st_simdiff.methods.framefusion import FrameFusion
from st_simdiff.methods.full import Full
from st_simdiff.methods.holitom import HoliTom
from st_simdiff.methods.importance import Importance
from st_simdiff.methods.llava_scissor import LLaVAScissor
from st_simdiff.methods.prumerge import PruMerge
from st_simdiff.methods.prumerge_plus import PruMergePlus
from st_simdiff.methods.random import Random
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.methods.st_simdiff_adaptive import STSimDiffAdaptive, STSimDiffTwoSteps
from st_simdiff.methods.st_simdiff_input import STSimDiffInput
from st_simdiff.methods.st_simdiff_release import STSimDiffRelease, STSimDiffReleaseRandom, STSimDiffReleaseRanked
from st_simdiff.methods.sttm import STTM
from st_simdiff.methods.unicomp import UniComp
from st_simdiff.methods.uniform_frames import UniformFrames
from st_simdiff.methods.v_cast import VCast
from st_simdiff.methods.vidcom2 import VidCom2
from st_simdiff.methods.vidcom2_vllm import VidCom2VLLM
from st_simdiff.methods.visionzip import VisionZip
from st_simdiff.methods.vispruner import VisPruner
from st_simdiff.plugins import METHODS_GROUP, declared, load_class, package_of
from st_simdiff.vocabulary import current_name

logger = logging.getLogger(__name__)


class MethodRegistry(Mapping[str, type[Method]]):
    """Method classes by name: those of this package, then those of other installed packages.

    Iterating loads the other packages; a method that cannot be loaded is left out, with one warning. A former name of
    a method is understood, and not listed.
    own: those of this package alone.
    """

    def __init__(self, own: Iterable[type[Method]]) -> None:
        self.own: Mapping[str, type[Method]] = {method.name: method for method in own}
        self._loaded: dict[str, type[Method] | InputError] = {}

    @cached_property
    def _declared(self) -> dict[str, EntryPoint]:
        return declared(METHODS_GROUP)

    def find(self, name: str) -> type[Method]:
        """The method called `name`. Raises `InputError` if there is none, or its package cannot be used."""
        name = current_name(name)
        if name in self.own:
            return self.own[name]
        if name not in self._declared:
            raise unknown("method", name, self)
        found = self._load(name)
        if isinstance(found, InputError):
            raise found
        return found

    def package(self, name: str) -> str | None:
        """The other package that method `name` comes from, with its version; None for one of this package."""
        name = current_name(name)
        return None if name in self.own or name not in self._declared else package_of(self._declared[name])

    def problems(self) -> list[str]:
        """A sentence for every method of another package that cannot be used."""
        return [str(found) for name in self._declared if isinstance(found := self._load(name), InputError)]

    def __getitem__(self, name: str) -> type[Method]:
        name = current_name(name)
        found = self.own.get(name) or (self._load(name) if name in self._declared else None)
        if found is None or isinstance(found, InputError):
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        for name in self._declared:
            if not isinstance(self._load(name), InputError):
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _load(self, name: str) -> type[Method] | InputError:
        """The method of another package, or why it cannot be used."""
        if name not in self._loaded:
            try:
                self._loaded[name] = self._checked(name)
            except InputError as error:
                self._loaded[name] = error
                logger.warning(str(error))
        return self._loaded[name]

    def _checked(self, name: str) -> type[Method]:
        entry = self._declared[name]
        who = f"The method {name!r} of the package {package_of(entry)}"
        if name in self.own:
            raise InputError(
                f"{who} has the name of a method of st-simdiff, which stays as it is; choose another name."
            )
        method = cast(type[Method], load_class(entry, "method", Method))
        called = getattr(method, "name", None)
        if called != name or not name.isidentifier():
            raise InputError(
                f"{who} is declared as {name!r}, and its class has the name {called!r}; both must be the same word of "
                "letters, digits and underscores."
            )
        return method


METHODS = MethodRegistry(
    (
        Full,
        STSimDiff,
        STSimDiffAdaptive,
        STSimDiffTwoSteps,
        STSimDiffInput,
        STSimDiffRelease,
        STSimDiffReleaseRanked,
        STSimDiffReleaseRandom,
        Random,
        UniformFrames,
        EVS,
        Importance,
        FastV,
        PruMerge,
        PruMergePlus,
        FasterVLM,
        VisionZip,
        VisPruner,
        FrameFusion,
        STTM,
        VidCom2,
        VidCom2VLLM,
        FastVID,
        HoliTom,
        LLaVAScissor,
        DyCoke,
        DivPrune,
        FlashVID,
        UniComp,
        VCast,
    )
)


def method_settings(name: str) -> frozenset[str]:
    """The names of all settings of method `name`, `retention` included. Raises `InputError` for an unknown method."""
    return frozenset(field.name for field in dataclasses.fields(METHODS.find(name)) if field.init)


def make_method(name: str, **settings: Any) -> Method:
    """The method called `name` with `settings`. Raises `InputError` for an unknown name, setting or value."""
    method, valid = METHODS.find(name), method_settings(name)
    for setting in settings:
        if setting not in valid:
            raise unknown(f"setting of method {name}", setting, valid)
    return method(**settings)


def check_method(method: Any) -> Any:
    """`method`, or what stands in for one. Raises `InputError`, saying how to make one, for anything else."""
    if isinstance(method, str):
        if method not in METHODS:
            raise unknown("method", method, METHODS)
        raise InputError(f"A method comes with its settings: make_method({method!r}, retention=0.3), got {method!r}.")
    if isinstance(method, type) and issubclass(method, Method):
        raise InputError(f"A method comes with its settings: {method.__name__}(retention=0.3), got the class.")
    if isinstance(method, type) or not hasattr(method, "reduce_input"):
        is_short = method is None or isinstance(method, type | int | float)  # a model's text fills pages
        given = repr(method) if is_short else f"an object of {type(method).__name__}"
        raise InputError(
            "A method is an object such as STSimDiff(retention=0.3) or make_method('fastv', retention=0.3), "
            f"got {given}."
        )
    return method
