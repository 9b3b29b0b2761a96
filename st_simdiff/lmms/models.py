"""The harness models: their names in lmms-eval and what `st-simdiff eval` has to know about each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from st_simdiff.answering.arguments import AnsweringArguments, LlavaVideoArguments, NvilaArguments, keys, read_arguments
from st_simdiff.checkpoints.code import ALLOW
from st_simdiff.errors import InputError, unknown
from st_simdiff.lmms.wrappers.stock import wrapper_arguments
from st_simdiff.methods.base import Method
from st_simdiff.plugins import declared
from st_simdiff.stock_wrappers import STOCK_WRAPPERS, refused_wrapper
from st_simdiff.vocabulary import WRAPPER

LMMS_EVAL_GROUP = "lmms_eval.models"
"""The entry points through which lmms-eval finds models of other packages."""


@dataclass(frozen=True)
class HarnessModel:
    """arguments: of a model that this project runs itself; None for one of lmms-eval's own wrappers, compressed, whose
    arguments are the wrapper's. stock: the name of that wrapper. defaults: `--model_args` where none are given.
    """

    arguments: type[AnsweringArguments] | None = None
    stock: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> frozenset[str] | None:
        """The settings of the model itself; None where a wrapper's are not known."""
        if self.arguments is not None:
            return keys(self.arguments)
        known = None if self.stock is None else wrapper_arguments(self.stock)
        return known and known | {ALLOW}

    def refuse_loading(self, name: str, settings: Iterable[str]) -> None:
        """Raises `InputError` for settings of how weights are loaded that a wrapper, called `name`, lacks."""
        for key in settings:
            if self.stock is not None and key in LOADING and key not in (self.keys or ()):
                raise InputError(
                    f"{key} is a setting of {' and '.join(_own())}, and {name} is lmms-eval's own wrapper, which loads "
                    "whole checkpoints as they are stored."
                )

    def read(self, settings: Mapping[str, Any], method: Method) -> AnsweringArguments | None:
        """`settings` of the model with their types; None for a wrapper of lmms-eval's, which reads its own.

        Raises `InputError` for settings that cannot be used.
        """
        return None if self.arguments is None else read_arguments(settings, method, self.arguments)


LOADING = frozenset({"model_base", "load_4bit", "load_8bit"})
"""Settings for adapters and quantised loading."""


def _wrapper(stock: str) -> tuple[str, HarnessModel]:
    return WRAPPER + stock, HarnessModel(stock=stock)


MODELS: dict[str, HarnessModel] = {
    "llava_video": HarnessModel(
        LlavaVideoArguments,
        defaults={
            "conv_template": "qwen_1_5",
            "model_name": "llava_qwen",
            "max_frames_num": 64,
            "mm_spatial_pool_mode": "bilinear",
        },
    ),
    "nvila": HarnessModel(NvilaArguments),
    **dict(map(_wrapper, STOCK_WRAPPERS)),
}
"""By name. The defaults of llava_video are the published command line's."""


def _own() -> list[str]:
    """The models that this project loads itself."""
    return [name for name, model in MODELS.items() if model.arguments is not None]


def find_model(name: str) -> HarnessModel:
    """The harness model called `name`: one of `MODELS`, or one that another package declares to lmms-eval.

    Of the latter only the method's settings are known here; its own are checked when it is loaded. Raises `InputError`
    for any other name, for a wrapper whose packages are missing, and for a model of which lmms-eval does not know.
    """
    if name in MODELS:
        model = MODELS[name]
        if name not in declared(LMMS_EVAL_GROUP):
            raise InputError(
                f"lmms-eval does not know {name}: st-simdiff was installed when it did not have this model yet. "
                "Install it again: pip install -e . in its checkout, or pip install -U st-simdiff."
            )
        if model.stock is not None:
            STOCK_WRAPPERS[model.stock].check_modules(name)
        return model
    refused = refused_wrapper(name)
    if refused is not None:
        raise refused
    others = declared(LMMS_EVAL_GROUP)
    if name in others:
        return HarnessModel()
    raise unknown("model", name, {*MODELS, *others})
