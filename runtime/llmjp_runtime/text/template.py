"""A checkpoint's chat template, rendered so that messages stay distinguishable from the template.

The prompt of a chat is text in which control tokens (`<s>`, `</s>`, ...) count where the template
wrote them and are plain text where a message did. Jinja gives one string, so each content is
wrapped in two private-use characters that occur nowhere else, and the rendering is cut at them.

What holds for templates that do more than print contents (`| trim`, `| length`, `in`, comparisons):
the conversation is rendered a second time without marks, and that rendering, which is what
transformers gives, decides. Where both agree but for the marks, the cuts are exact. Where they
differ (contents trimmed, say), the unmarked rendering is used if no content holds a control token
and the rendering holds just those that the template wrote; otherwise the conversation is refused,
never rendered differently in silence.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmjp_runtime.text.errors import InvalidMessages, UnusableTokenizer
from llmjp_runtime.text.messages import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        self, source: str, named_tokens: Mapping[str, str], control: re.Pattern[str]
    ) -> None:
        """Compile; `control` finds control tokens.

        Raises:
            UnusableTokenizer: the template is not valid Jinja.
        """
        self._source = source
        self._named_tokens = dict(named_tokens)
        self._control = control
        try:
            self._template = _build_environment().from_string(source)
        except jinja2.TemplateError as exc:
            raise UnusableTokenizer(f"chat template: not valid Jinja ({exc})") from exc
        self.ignores_system_content = self._ignores_system_content()
        """The system turn is a fixed sentence, whatever its content says (true for llm-jp-3)."""

    def render_parts(self, messages: Sequence[Message]) -> tuple[PromptPart, ...]:
        """Return the prompt up to where the reply begins.

        Where the template's system turn is a fixed sentence and `messages` has none, it is put
        first: the model never saw a conversation without it.

        Raises:
            InvalidMessages: the template refuses the messages, or rewrites contents that hold
                control tokens.
        """
        if self.ignores_system_content and messages[0].role != "system":
            messages = (Message("system", ""), *messages)
        opening, closing = self._choose_marks(messages)
        plain = self._render(messages)
        parts = _split_marked(self._render(messages, opening, closing), opening, closing)
        if "".join(part.text for part in parts) == plain:
            return parts
        if not any(self._control.search(message.content) for message in messages):
            template_text = (part.text for part in parts if not part.literal)
            own = [token for text in template_text for token in self._control.findall(text)]
            if own == self._control.findall(plain):
                return (PromptPart(plain, literal=False),)
        raise InvalidMessages(
            "messages: the checkpoint's chat template rewrites these contents, so control tokens "
            "such as <s> in them could not be kept as text: remove them"
        )

    def _render(self, messages: Sequence[Message], opening: str = "", closing: str = "") -> str:
        """Render; an empty content stays empty, since templates ask whether there is any."""
        turns = [
            {"role": m.role, "content": f"{opening}{m.content}{closing}" if m.content else ""}
            for m in messages
        ]
        try:
            return self._template.render(
                self._named_tokens,
                messages=turns,
                tools=None,
                documents=None,
                add_generation_prompt=True,
            )
        except (
            jinja2.TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as exc:
            # A template's own words may quote a content, so they are not passed on.
            raise InvalidMessages(
                "messages: refused by the checkpoint's chat template "
                "(roles may have to alternate, or a system message may not be allowed)"
            ) from exc

    def _choose_marks(self, messages: Sequence[Message]) -> tuple[str, str]:
        """Choose two private-use characters that neither the template nor a message has."""
        used = set(self._source).union(*(message.content for message in messages))
        free = (chr(code) for code in _PRIVATE_USE if chr(code) not in used)
        first, second = next(free, ""), next(free, "")
        if not second:
            raise InvalidMessages("messages: contents use up all private-use characters")
        return first, second

    def _ignores_system_content(self) -> bool:
        user = Message("user", "x")
        try:
            one, other = (self._render((Message("system", c), user)) for c in ("a 1", "bcd23"))
            return one == other != self._render((user,))
        except InvalidMessages:
            return False


def _split_marked(marked: str, opening: str, closing: str) -> tuple[PromptPart, ...]:
    """Split at marks; unpaired ones stay in the text, so that it differs from the plain one."""
    runs = re.split(f"{opening}([^{opening}{closing}]*){closing}", marked)
    return tuple(PromptPart(run, literal=index % 2 == 1) for index, run in enumerate(runs) if run)


def _build_environment() -> ImmutableSandboxedEnvironment:
    """Build what templates rely on, as in transformers (utils/chat_template_utils.py)."""

    def raise_exception(message: str) -> Never:
        raise jinja2.TemplateError(message)

    def tojson(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = raise_exception
    environment.filters["tojson"] = tojson
    return environment
