"""The classes that lmms-eval asks for: `NAME_simple` and `NAME_chat` are its own of the wrapper NAME, compressed.

Each is made when it is first asked for, as its wrapper brings packages that take seconds to import. Asking for one ends
the process, in one sentence, where such a package is missing.
"""

from __future__ import annotations

from functools import cache

from lmms_eval.models import get_model

from st_simdiff.errors import InputError
from st_simdiff.lmms.refusal import one_sentence
from st_simdiff.lmms.wrappers.base import CompressedWrapper
from st_simdiff.stock_wrappers import SIMPLE, STOCK_WRAPPERS
from st_simdiff.vocabulary import WRAPPER


def __getattr__(name: str) -> type[CompressedWrapper]:
    stock, _, kind = name.rpartition("_")
    if stock not in STOCK_WRAPPERS or kind not in STOCK_WRAPPERS[stock].kinds:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with one_sentence(WRAPPER + stock, InputError):
        STOCK_WRAPPERS[stock].check_modules("It")
    return _compressed(stock, kind)


@cache
def _compressed(stock: str, kind: str) -> type[CompressedWrapper]:
    wrapper = get_model(stock, force_simple=kind == SIMPLE)
    names = {"stock": stock, "__module__": __name__, "__doc__": f"lmms-eval's {kind} wrapper {stock}, compressed."}
    return type(f"{stock}_{kind}", (CompressedWrapper, wrapper), names)
