"""Every word the tiny model knows, and a word-level tokenizer of them in the layout that `AutoTokenizer` loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from st_simdiff.synth.glyphs import BACKGROUNDS, COLORS, DIGITS, SHAPES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

QUARTERS = ("first", "second", "third", "fourth")
COUNTS = ("once", "twice", "thrice", "fourfold")
MOTIONS = ("left", "right", "up", "down")
ANSWERS = (*DIGITS, *SHAPES, *COLORS, *BACKGROUNDS, *MOTIONS, *COUNTS, *QUARTERS)

PAD, START, END, UNKNOWN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"
_CHAT = "system user assistant You are a helpful assistant ."
_QUESTIONS = (
    "What color is the ? Which digit is on the sign ? What is the background at the start end ? "
    "Which way does the move ? "
    "Which digit flashed first last ? How many times did a digit flash ? In which quarter did the start to flash ? "
    "Which shape appeared ? What color did the turn to ? Options : , . Answer with one word option letter"
)
_TIME = (
    "The video lasts for seconds , and frames are uniformly sampled from it . These frames are located at . "
    "Please answer the following questions related to this video ."
)
# One token a word, one a punctuation mark, and one for a whole run of numbers such as "0.00s,1.00s,2.00s.".
_PIECES = r"[A-Za-z]+|[0-9][0-9.,s]*|[^A-Za-z0-9\s]"


def words() -> tuple[str, ...]:
    """The vocabulary in the order of its ids."""
    ordinary = " ".join((_CHAT, _QUESTIONS, _TIME)).split()
    return tuple(dict.fromkeys((PAD, START, END, UNKNOWN, *ANSWERS, *ordinary)))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The word-level tokenizer. A word that is not in the vocabulary becomes `<unk>`."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(words())}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=32768,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def write_tokenizer(folder: Path) -> None:
    """Write tokenizer.json and its configuration into `folder`."""
    build_tokenizer().save_pretrained(str(folder))
