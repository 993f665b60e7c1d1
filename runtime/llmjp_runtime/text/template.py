"""A checkpoint's chat template, rendered so that messages stay distinguishable from the template.

The prompt of a chat is text in which control tokens (`<s>`, `</s>`, ...) count where the template
wrote them and are plain text where a message did. Jinja gives one string, so each content is
wrapped in two private-use characters that occur nowhere else, and the rendering is cut at them.

What holds for templates that do more than print contents (`| trim`, `| length`, `in`, comparisons):
the conversation is rendered a second time without marks, and that rendering, which is what
transformers gives, decides. Where both agree but for the marks, the cuts are exact. Where they
differ (contents trimmed, say), only the control tokens in contents are wrapped, and the
conversation is refused if that differs too, or holds other control tokens than those that the
template wrote: it is never rendered differently in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import jinja2

from llmjp_runtime.text.errors import InvalidMessages, UnusableTokenizer
from llmjp_runtime.text.messages import Message
from llmjp_runtime.text.template_environment import RefusedByTemplate, build_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PRIVATE_USE = range(0xF0000, 0xFFFFE)
"""Supplementary private use area A: never assigned, far from what fonts use."""


@dataclass(frozen=True, slots=True)
class PromptPart:
    """A run of the rendered prompt."""

    text: str
    literal: bool
    """Control tokens in it are plain text (it came from a message)."""


class ChatTemplate:
    """One compiled template. Thread-safe."""

    def __init__(
        self,
        source: str,
        named_tokens: Mapping[str, str],
        find_control: Callable[[str], Sequence[tuple[int, int, int]]],
    ) -> None:
        """Compile; `find_control` returns (id, begin, end) of the control tokens of a text.

        Raises:
            UnusableTokenizer: the template is not valid Jinja.
        """
        self._source = source
        self._named_tokens = dict(named_tokens)
        self._find_control = find_control
        try:
            self._template = build_environment().from_string(source)
        except (jinja2.TemplateError, SyntaxError, ValueError, RecursionError) as exc:
            # Python's own are of the code that a template becomes: `break` inside of a macro.
            raise UnusableTokenizer(f"chat template: not valid Jinja ({exc})") from exc
        self.drops_system_content, self.has_fixed_system_turn = self._try_system_contents()
        """Whether what a system message says changes nothing; and whether one brings a fixed
        sentence all the same, as with llm-jp-3."""

    def render_parts(self, messages: Sequence[Message]) -> tuple[PromptPart, ...]:
        """Return the prompt up to where the reply begins.

        Where the template's system turn is a fixed sentence and `messages` has none, it is put
        first: the model never saw a conversation without it.

        Raises:
            InvalidMessages: the template refuses the messages, or rewrites contents that hold
                control tokens.
        """
        if self.has_fixed_system_turn and messages[0].role != "system":
            messages = (Message("system", ""), *messages)
        marks = self._choose_marks(messages)
        now = _read_clock()
        plain = self._render(messages, now)
        whole = _replace_contents(messages, lambda content: content.join(marks))
        parts = _split_marked(self._render(whole, now), *marks)
        if _join(parts) == plain:
            return parts
        tokens = _replace_contents(messages, lambda content: self._wrap_control(content, marks))
        narrow = _split_marked(self._render(tokens, now), *marks)
        if _join(narrow) == plain and self._list_own(narrow) == self._list_own(parts):
            return narrow
        raise InvalidMessages(
            "messages: the checkpoint's chat template rewrites these contents, so control tokens "
            "such as <s> in them could not be kept as text: remove them"
        )

    def _wrap_control(self, content: str, marks: tuple[str, str]) -> str:
        """Return the content with every control token in it between the marks."""
        wrapped, done = "", 0
        for _, begin, end in self._find_control(content):
            wrapped += content[done:begin] + content[begin:end].join(marks)
            done = end
        return wrapped + content[done:]

    def _list_own(self, parts: Sequence[PromptPart]) -> list[int]:
        """Return the control tokens outside the literal parts."""
        texts = (part.text for part in parts if not part.literal)
        return [token_id for text in texts for token_id, _, _ in self._find_control(text)]

    def _render(self, messages: Sequence[Message], now: datetime) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(
                self._named_tokens,
                messages=turns,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                strftime_now=now.strftime,
            )
        except RefusedByTemplate as exc:
            raise InvalidMessages(
                f"messages: refused by the checkpoint's chat template{self._quote(exc, messages)}"
            ) from exc
        except (
            jinja2.TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as exc:
            raise InvalidMessages(
                "messages: the checkpoint's chat template cannot render these roles and contents "
                f"({type(exc).__name__})"
            ) from exc

    def _quote(self, refusal: RefusedByTemplate, messages: Sequence[Message]) -> str:
        """Return the template's own words; others where they may quote a content."""
        words = str(refusal)
        if words in self._source and not any(words in message.content for message in messages):
            return f": {words}"
        return " (roles may have to alternate, or a system message may not be allowed)"

    def _choose_marks(self, messages: Sequence[Message]) -> tuple[str, str]:
        """Choose two private-use characters that neither the template nor a message has."""
        used = set(self._source).union(*(message.content for message in messages))
        free = (chr(code) for code in _PRIVATE_USE if chr(code) not in used)
        first, second = next(free, ""), next(free, "")
        if not second:
            raise InvalidMessages("messages: contents use up all private-use characters")
        return first, second

    def _try_system_contents(self) -> tuple[bool, bool]:
        """Return (`drops_system_content`, `has_fixed_system_turn`)."""
        user, now = Message("user", "x"), _read_clock()
        try:
            one, other = (self._render((Message("system", c), user), now) for c in ("a 1", "bcd23"))
            return one == other, one == other != self._render((user,), now)
        except InvalidMessages:
            return False, False


def _read_clock() -> datetime:
    return datetime.now()  # noqa: DTZ005  local time, as in transformers


def _replace_contents(
    messages: Sequence[Message], wrap: Callable[[str], str]
) -> tuple[Message, ...]:
    """Wrap contents; an empty one stays empty, since templates ask whether there is any."""
    return tuple(Message(m.role, wrap(m.content) if m.content else "") for m in messages)


def _join(parts: Sequence[PromptPart]) -> str:
    return "".join(part.text for part in parts)


def _split_marked(marked: str, opening: str, closing: str) -> tuple[PromptPart, ...]:
    """Split at marks; unpaired ones stay in the text, so that it differs from the plain one."""
    runs = re.split(f"{opening}([^{opening}{closing}]*){closing}", marked)
    return tuple(PromptPart(run, literal=index % 2 == 1) for index, run in enumerate(runs) if run)
