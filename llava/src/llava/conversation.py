"""Conversation templates under the names that LLaVA wrappers use. This package knows one: `qwen_1_5`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from st_simdiff.checkpoints.llava_video.prompt import ASSISTANT, END_OF_TURN, SYSTEM, USER


class SeparatorStyle(Enum):
    """How turns are separated. Wrappers compare with TWO, which takes `sep2` for the assistant; Qwen's is CHATML."""

    TWO = auto()
    CHATML = auto()


@dataclass
class Conversation:
    """Turns of a conversation. A message of None is the turn that the model is to write."""

    system: str
    roles: tuple[str, str]
    sep: str
    sep2: str | None = None
    sep_style: SeparatorStyle = SeparatorStyle.CHATML
    messages: list[tuple[str, str | None]] = field(default_factory=list)

    def append_message(self, role: str, message: str | None) -> None:
        """Add a turn."""
        self.messages.append((role, message))

    def get_prompt(self) -> str:
        """The whole conversation as text."""
        turns = (
            f"{role}\n" if message is None else f"{role}\n{message}{self.sep}\n" for role, message in self.messages
        )
        return f"{self.system}{self.sep}\n" + "".join(turns)

    def copy(self) -> Conversation:
        """An independent copy: turns added to it do not reach the template."""
        return replace(self, messages=list(self.messages))


class _Templates(dict[str, Conversation]):
    def __missing__(self, name: str) -> Conversation:
        raise KeyError(f"Unknown conversation template {name!r}; LLaVA-Video checkpoints use: {', '.join(self)}.")


conv_templates = _Templates(qwen_1_5=Conversation(system=SYSTEM, roles=(USER, ASSISTANT), sep=END_OF_TURN))
