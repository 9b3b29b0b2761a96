"""Stage 2: the language model learns to answer, the vision frozen. Many questions share the visual tokens of one clip.

A packed sequence is prefix (chat header, visual tokens, perhaps the time text), question 1, question 2, ... Each
question sees the prefix and itself, and its positions follow the prefix's, so that packing changes no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedTokenizerFast

from st_simdiff.synth.questions import FAMILIES, Question, ask
from st_simdiff.synth.vocabulary import END
from st_simdiff.synth.world import ClipSpec
from studies.synthevents.model import TinyLlavaVideo

HEADER = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
FOOTER = "<|im_end|>\n<|im_start|>assistant\n"
_HIDDEN = -1e4


@dataclass(frozen=True)
class WatchedClip:
    """A clip and its pooled visual tokens, (frames, grid, grid, hidden) bfloat16."""

    spec: ClipSpec
    pooled: Tensor


def time_text(frames: int) -> str:
    """The sentence on sampling times that LLaVA-Video reads before the question, for one frame a second."""
    times = ",".join(f"{t:.2f}s" for t in range(frames))
    return (
        f"The video lasts for {frames:.2f} seconds, and {frames} frames are uniformly sampled from it. "
        f"These frames are located at {times}.Please answer the following questions related to this video."
    )


def draw_questions(spec: ClipSpec, count: int, random: np.random.Generator) -> list[Question]:
    """`count` questions about a clip, families in turn in a random order."""
    names = list(FAMILIES)
    questions: list[Question] = []
    while len(questions) < count:
        drawn = [ask(names[i], spec, random) for i in random.permutation(len(names))]
        questions += [question for question in drawn if question is not None]
    return questions[:count]


@dataclass(frozen=True)
class Packed:
    """A batch of packed clips of `length` positions. text: (b, length) ids, 0 where a visual token stands. visual_at:
    where the visual tokens start and end. targets: (b, length), the next token where an answer is due, else -100.
    prefix: positions that all questions share. mask: (b, 1, length - prefix, length) bfloat16, added to the attention
    scores of the questions; the prefix sees what is before it. positions: (b, length)."""

    text: Tensor
    visual_at: tuple[int, int]
    targets: Tensor
    prefix: int
    mask: Tensor
    positions: Tensor


class Packer:
    """Turns questions into `Packed` batches; tokenises every word once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._ids: dict[str, list[int]] = {}

    def _tokens(self, text: str) -> list[int]:
        if text not in self._ids:
            self._ids[text] = self._tokenizer(text, add_special_tokens=False).input_ids
        return self._ids[text]

    def token(self, word: str) -> int:
        """The id of one word."""
        return self._tokens(word)[0]

    def _question(self, question: Question) -> list[int]:
        options = [token for option in question.options for token in (*self._tokens(option), *self._tokens(","))][:-1]
        return [*self._tokens(f"{question.text} Options:"), *options, *self._tokens("."), *self._tokens(FOOTER)]

    def pack(self, asked: Sequence[Sequence[Question]], frames: int, visual: int, with_time: bool) -> Packed:
        """asked: the questions of each clip. visual: visual tokens a clip. with_time: put `time_text` in."""
        header = self._tokens(HEADER)
        prefix = [*header, *([0] * visual), *(self._tokens(time_text(frames)) if with_time else ())]
        end = self._tokens(END)
        rows = []
        for questions in asked:
            ids, segments = list(prefix), [0] * len(prefix)
            positions, targets = list(range(len(prefix))), [-100] * len(prefix)
            for number, question in enumerate(questions, start=1):
                body, answer = self._question(question), [*self._tokens(question.answer), *end]
                ids += [*body, answer[0]]
                segments += [number] * (len(body) + 1)
                positions += range(len(prefix), len(prefix) + len(body) + 1)
                targets += [-100] * (len(body) - 1) + answer
            rows.append((ids, segments, positions, targets))
        length = max(len(ids) for ids, *_ in rows)
        padded = [
            torch.tensor([[*row[part], *([fill] * (length - len(row[part])))] for row in rows])
            for part, fill in enumerate((0, -1, 0, -100))
        ]
        text, segments, positions, targets = padded
        same = segments[:, len(prefix) :, None] == segments[:, None, :]
        earlier = torch.ones(length, length, dtype=torch.bool).tril()[len(prefix) :]
        hidden = ~((same | (segments[:, None, :] == 0)) & earlier)[:, None]
        mask = torch.zeros(hidden.shape, dtype=torch.bfloat16).masked_fill_(hidden, _HIDDEN)
        return Packed(text, (len(header), len(header) + visual), targets, len(prefix), mask, positions)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    prefix: int,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention in transformers' interface: causal inside the prefix, by the fused kernel; of the questions behind it
    by plain matrix products, whose backward on a CPU, in bfloat16, with a mask, is about twice as fast as the fused
    kernel's. query: (b, heads, length, d). Returns (b, length, heads, d)."""
    groups = module.num_key_value_groups
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    shared = (part[:, :, :prefix] for part in (query, key, value))
    first = functional.scaled_dot_product_attention(*shared, is_causal=True, scale=scaling)
    scores = (query[:, :, prefix:] * scaling) @ key.transpose(-1, -2) + attention_mask
    return torch.cat((first, scores.softmax(-1) @ value), dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register("packed", packed_attention)


def answer_logits(model: TinyLlavaVideo, pooled: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
    """Float32 logits (n, vocabulary) where an answer is due, and the n targets. pooled:
    (b, frames, grid, grid, hidden)."""
    embeds = model.language.model.embed_tokens(packed.text)
    start, end = packed.visual_at
    visual = model.video_tokens(pooled).to(embeds.dtype)
    embeds = torch.cat((embeds[:, :start], visual, embeds[:, end:]), dim=1)
    hidden = model.language.model(
        inputs_embeds=embeds,
        attention_mask=packed.mask,
        position_ids=packed.positions,
        use_cache=False,
        prefix=packed.prefix,
    ).last_hidden_state
    due = packed.targets != -100
    return model.language.lm_head(hidden[due]).float(), packed.targets[due]


def answer_loss(model: TinyLlavaVideo, pooled: Tensor, packed: Packed) -> Tensor:
    """Mean cross entropy of the answer words and of the end of turn after each."""
    return functional.cross_entropy(*answer_logits(model, pooled, packed))


def start_words(model: TinyLlavaVideo, tokenizer: PreTrainedTokenizerFast, directions: dict[str, Tensor]) -> None:
    """Start the embeddings and the LM head's rows of the words that name what is seen from their class directions,
    scaled like the other words'; without this the tiny model does not find them in reasonable time."""
    embeddings, head = model.language.model.embed_tokens.weight, model.language.lm_head.weight
    with torch.no_grad():
        embeddings.normal_(0, 1.0)
        head.normal_(0, embeddings.shape[1] ** -0.5)
        model.newline.normal_(0, 1.0)
        for word, direction in directions.items():
            row = tokenizer.convert_tokens_to_ids(word)
            embeddings[row] = direction * embeddings.shape[1] ** 0.5
            head[row] = direction


def scale_tokens(model: TinyLlavaVideo, pooled: Tensor) -> None:
    """Rescale the projector's last layer so that visual tokens have a root mean square of 1, like the words."""
    scale = pooled.float().square().mean().rsqrt().item()
    last = model.vision.projector[2]
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.mul_(scale)
