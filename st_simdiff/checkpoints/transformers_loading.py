"""Checkpoints that transformers' own classes load: nothing that they would overlook in silence passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st_simdiff.checkpoints.entries import check_entries
from st_simdiff.checkpoints.files import INDEX_FILE, SINGLE_FILE, read_json
from st_simdiff.checkpoints.finite import check_finite
from st_simdiff.checkpoints.tensors import check_dtype, stored_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_folder(folder: Path) -> dict[str, Any]:
    """The entries of config.json in `folder`, checked as data, and the headers of its safetensors files.

    Raises ValueError or FileNotFoundError, in one sentence, for what cannot be a checkpoint of floating-point weights;
    those that config.json calls quantised may have other types.
    """
    file = folder / "config.json"
    entries = read_json(file, "a checkpoint")
    check_entries(entries, file)
    for name in ("tokenizer_config.json", "preprocessor_config.json", "video_preprocessor_config.json"):
        if (folder / name).is_file():
            check_entries(read_json(folder / name, "a checkpoint"), folder / name)
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} holds an adapter (adapter_config.json): merge it into the weights of its base.")
    has_safetensors = (folder / INDEX_FILE).is_file() or (folder / SINGLE_FILE).is_file()
    if has_safetensors or not any(folder.glob("pytorch_model*.bin")):
        for name, stored in stored_tensors(folder).items():
            if not entries.get("quantization_config"):
                check_dtype(name, stored)
    return entries


@contextmanager
def checked_loading(folder: Path) -> Iterator[None]:
    """Inside the block, transformers' models refuse weights that are missing, of another shape or no finite numbers.

    By themselves they put random numbers in the place of what is missing, and a warning into the log. Any failure is
    raised as a ValueError in one sentence that names `folder`.
    """
    from transformers import PreTrainedModel  # takes seconds, and folders are checked without it

    attributes = vars(PreTrainedModel)
    original = attributes["from_pretrained"]

    def from_pretrained(cls: type[PreTrainedModel], *args: Any, **kwargs: Any) -> Any:
        wanted = kwargs.pop("output_loading_info", False)
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, report = original.__func__(cls, *args, **kwargs)
        kinds = {"missing": report["missing_keys"], "of another shape": report["mismatched_keys"]}
        faults = [f"{kind}: {', '.join(sorted(map(str, names))[:3])}" for kind, names in kinds.items() if names]
        if faults:
            raise ValueError(f"The weights in {folder} do not fit the model ({'; '.join(faults)}).")
        check_finite(folder, model.named_parameters())
        return (model, report) if wanted else model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # transformers, tokenizers and safetensors raise whatever a wrong file leads them to
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{folder} cannot be loaded ({type(error).__name__}: {reason}).") from error
    finally:
        PreTrainedModel.from_pretrained = original
