"""A sequence: the prompt and reply of one request, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmjp_runtime.executor.protocol import GenerationRequest, TokenEvent


@dataclass(slots=True, eq=False)
class TokenSequence:
    """A request's tokens, and how far it is. Owned by the scheduler's thread."""

    request: GenerationRequest
    on_event: Callable[[TokenEvent], None]
    rng: Random = field(init=False)
    """Owned by this sequence, so that its draws do not depend on what else runs."""
    ids: list[int] = field(init=False)
    """Prompt and reply."""
    bad_words: dict[int, dict[tuple[int, ...], list[int]]] = field(init=False)
    """Number of ids before the last one of a bad word, to those ids, to the last ones: a step looks
    up each length once, however many words there are."""
    num_prefilled: int = 0
    """Prompt ids that went through the model."""
    cancelled: bool = False

    def __post_init__(self) -> None:
        """Copy what grows."""
        self.rng = Random(self.request.sampling.seed)
        self.ids = list(self.request.prompt_ids)
        self.bad_words = {}
        for word in self.request.sampling.bad_words:
            endings = self.bad_words.setdefault(len(word) - 1, {})
            endings.setdefault(word[:-1], []).append(word[-1])

    @property
    def num_prompt(self) -> int:
        """Ids of the prompt."""
        return len(self.request.prompt_ids)

    @property
    def num_generated(self) -> int:
        """New ids, an end id included."""
        return len(self.ids) - self.num_prompt

    @property
    def in_prefill(self) -> bool:
        """Return whether some of the prompt has yet to go through the model."""
        return self.num_prefilled < self.num_prompt

    @property
    def num_cached(self) -> int:
        """Cells in use: the newest id's key and value come with the next step."""
        return self.num_prefilled if self.in_prefill else len(self.ids) - 1

    @property
    def finish_reason(self) -> FinishReason | None:
        """The reason to finish, if the newest id gives one."""
        sampling = self.request.sampling
        if self.ids[-1] in sampling.end_ids:
            return FinishReason.STOP
        if self.num_generated >= sampling.max_tokens:
            return FinishReason.LENGTH
        return None

    @property
    def forbidden_ids(self) -> Iterator[int]:
        """Ids that must not come next: early end ids, and the last ids of begun bad words."""
        sampling = self.request.sampling
        if self.num_generated < sampling.min_tokens:
            yield from sampling.end_ids
        for num_begun, endings in self.bad_words.items():
            begun = tuple(self.ids[len(self.ids) - num_begun :]) if num_begun else ()
            yield from endings.get(begun, ())
