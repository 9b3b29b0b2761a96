"""The harness models: their names in lmms-eval and what `st-simdiff eval` has to know about each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from st_simdiff.answering.arguments import AnsweringArguments, LlavaVideoArguments, NvilaArguments, parse, take_method
from st_simdiff.checkpoints.code import ALLOW
from st_simdiff.errors import unknown
from st_simdiff.lmms.wrappers import wrapper_arguments
from st_simdiff.methods.base import Method
from st_simdiff.plugins import declared

DEFAULT_MODEL = "llava_video"
LMMS_EVAL_GROUP = "lmms_eval.models"
"""The entry points through which lmms-eval finds models of other packages."""


@dataclass(frozen=True)
class HarnessModel:
    """arguments: of a model that this project runs itself; None for a compressed twin of one of lmms-eval's wrappers,
    whose own arguments are the wrapper's. stock: the name of that wrapper. defaults: `--model_args` where none are
    given.
    """

    arguments: type[AnsweringArguments] | None = None
    stock: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def parse(self, settings: Mapping[str, Any]) -> AnsweringArguments | None:
        """`settings` with their types; None for a twin. Raises `InputError` for settings that cannot be used."""
        return None if self.arguments is None else parse(settings, self.arguments)

    def split(self, settings: Mapping[str, Any]) -> tuple[Method, dict[str, Any]]:
        """The method that `settings` describe, and the settings of the model.

        Raises `InputError` for settings that cannot be used; the values of a wrapper's own are left to the wrapper.
        """
        if self.arguments is None:
            known = None if self.stock is None else wrapper_arguments(self.stock)
            return take_method(settings, known and known | {ALLOW})
        own = {one.name for one in dataclasses.fields(self.arguments)} - {"method"}
        return take_method(settings, own)


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
    "st_simdiff_qwen2_5_vl": HarnessModel(stock="qwen2_5_vl"),
    "st_simdiff_qwen3_vl": HarnessModel(stock="qwen3_vl"),
    "st_simdiff_llava_hf": HarnessModel(stock="llava_hf"),
}
"""By name. The defaults of llava_video are the published command line's."""


def find_model(name: str) -> HarnessModel:
    """The harness model called `name`: one of `MODELS`, or one that another package declares to lmms-eval.

    Of the latter only the method's settings are known here; its own are checked when it is loaded. Raises `InputError`
    for any other name.
    """
    if name in MODELS:
        return MODELS[name]
    others = declared(LMMS_EVAL_GROUP)
    if name in others:
        return HarnessModel()
    raise unknown("model", name, {*MODELS, *others})
