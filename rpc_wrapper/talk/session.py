"""A conversation: what was said, what a typed line means, how long answers took."""

from dataclasses import dataclass, field
from enum import StrEnum

from rpc_wrapper.talk.answer import Times

LEAVE = ("quit", "exit", "退出", "/quit", "/exit")
PRESETS = (
    "What can you tell me about the sea?",
    "How do I bake a cake?",
    "Tell me a short story about a dog.",
    "Why do kites fly?",
    "What is the meaning of life?",
)


class Do(StrEnum):
    """What a typed line asks for."""

    LEAVE = "leave"
    HELP = "help"
    STATS = "stats"
    RESET = "reset"
    ALL = "all"
    ASK = "ask"
    NOTHING = "nothing"
    UNKNOWN = "unknown"


COMMANDS = {"/help": Do.HELP, "/stats": Do.STATS, "/reset": Do.RESET, "/all": Do.ALL}


def understand(line: str, presets: tuple[str, ...]) -> tuple[Do, str]:
    """Return what a line means and, for a question, its text; a number is a preset question."""
    text = line.strip()
    if not text:
        return Do.NOTHING, ""
    if text.lower() in LEAVE:
        return Do.LEAVE, ""
    if text in COMMANDS:
        return COMMANDS[text], ""
    if text.startswith("/"):
        return Do.UNKNOWN, text
    if text.isdecimal() and 1 <= int(text) <= len(presets):
        return Do.ASK, presets[int(text) - 1]
    return Do.ASK, text


@dataclass(slots=True)
class Session:
    """The messages so far, under an optional system prompt, and the times of the answers."""

    system: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)
    times: list[Times] = field(default_factory=list)

    def asking(self, text: str) -> list[dict[str, str]]:
        """Return all messages that go with a question."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        return [*first, *self.messages, {"role": "user", "content": text}]

    def answered(self, question: str, answer: str, times: Times) -> None:
        """Remember a question and its answer."""
        self.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        self.times.append(times)

    def reset(self) -> None:
        """Forget what was said; the times stay."""
        self.messages.clear()
