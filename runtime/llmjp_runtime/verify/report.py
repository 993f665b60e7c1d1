"""Measurements of a whole comparison, and the verdict on them. Pure."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmjp_runtime.verify.agreement import find_worst_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmjp_runtime.verify.agreement import PartAgreement, TextAgreement
    from llmjp_runtime.verify.limits import Limits, Precision
    from llmjp_runtime.verify.ranges import FilledRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Result of `measure`."""

    precision: Precision
    parts: tuple[PartAgreement, ...]
    """In the order of the model."""
    ranges: tuple[FilledRange, ...]
    """One for every FP8 scale of inputs, in the order of the model."""
    texts: tuple[TextAgreement, ...]
    """In the order of the prompts."""

    @property
    def num_tokens(self) -> int:
        """Positions that were compared."""
        return sum(text.num_tokens for text in self.texts)

    @property
    def max_error(self) -> float:
        """Largest absolute error of a logit."""
        return _largest([text.max_error for text in self.texts])

    @property
    def mean_error(self) -> float:
        """Mean absolute error of all logits."""
        return self._mean(lambda text: text.mean_error)

    @property
    def spread(self) -> float:
        """Standard deviation of the reference's logits."""
        return math.sqrt(self._mean(lambda text: text.spread**2))

    @property
    def max_kl(self) -> float:
        """Largest KL of a position."""
        return _largest([text.max_kl for text in self.texts])

    @property
    def mean_kl(self) -> float:
        """Mean KL over all positions."""
        return self._mean(lambda text: text.mean_kl)

    @property
    def reference_perplexity(self) -> float:
        """Perplexity of prompts and replies, each text's first id left out."""
        return self._perplexity(lambda text: text.reference_loss)

    @property
    def checkpoint_perplexity(self) -> float:
        """Likewise."""
        return self._perplexity(lambda text: text.checkpoint_loss)

    @property
    def top1_agreement(self) -> float:
        """Share of positions at which both prefer the same id."""
        return sum(text.agreeing for text in self.texts) / self.num_tokens

    @property
    def first_difference(self) -> int | None:
        """Index of the first prompt whose greedy reply differs."""
        return next((i for i, text in enumerate(self.texts) if text.difference), None)

    @property
    def worst_text(self) -> int:
        """Index of the prompt with the largest mean KL; a NaN is larger than all."""
        keys = [(math.isnan(text.mean_kl), text.mean_kl) for text in self.texts]
        return keys.index(max(keys))

    @property
    def worst_part(self) -> PartAgreement:
        """The part with the largest error."""
        return find_worst_part(self.parts)

    def failures(self, limits: Limits) -> Iterator[str]:
        """Yield each limit that is broken, in words, the first part first; NaN breaks any."""
        bad = [part for part in self.parts if not is_good_part(part, limits)]
        if bad:
            more = f" ({len(bad)} of {len(self.parts)} parts are off)" if len(bad) > 1 else ""
            yield (
                f"{bad[0].name}: error {bad[0].error:.3g} (limit {limits.part_error:g}), gain"
                f" {bad[0].gain:.4g} (limit 1 +- {limits.part_gain:g}){more}"
            )
        if unfit := [found for found in self.ranges if not found.is_good(limits)]:
            yield (
                f"{unfit[0].name}: the largest input fills {unfit[0].filled:.3g} of what scale"
                f" {unfit[0].scale:.3g} can hold (limits {limits.range_low:g} to"
                f" {limits.range_high:g}; {len(unfit)} of {len(self.ranges)} are off)"
            )
        log_ratio = math.log(self.checkpoint_perplexity) - math.log(self.reference_perplexity)
        checks = (
            ("mean KL", self.mean_kl, limits.mean_kl),
            ("mean logit error / spread", self.mean_error / self.spread, limits.logit_error),
            ("|ln(perplexity ratio)|", abs(log_ratio), limits.perplexity),
        )
        for name, value, limit in checks:
            if not value <= limit:
                yield f"{name} {value:.3g} is over {limit:g}"

    def _mean(self, of: Callable[[TextAgreement], float]) -> float:
        return sum(of(text) * text.num_tokens for text in self.texts) / self.num_tokens

    def _perplexity(self, loss: Callable[[TextAgreement], float]) -> float:
        predicted = sum(text.num_tokens - 1 for text in self.texts)
        total = sum(loss(text) * (text.num_tokens - 1) for text in self.texts)
        return math.exp(min(total / predicted, 700.0)) if predicted else 1.0


def is_good_part(part: PartAgreement, limits: Limits) -> bool:
    """Return whether neither of its numbers is over the limit; NaN is."""
    return part.error <= limits.part_error and abs(part.gain - 1) <= limits.part_gain


def _largest(values: list[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else max(values)


def to_json(measurement: Measurement, limits: Limits, failures: list[str]) -> dict[str, Any]:
    """Return the document that `llmjp verify --json` prints."""
    m = measurement
    document = {
        "verdict": "fail" if failures else "pass",
        "failures": failures,
        "precision": m.precision.value,
        "num_prompts": len(m.texts),
        "num_tokens": m.num_tokens,
        "logit_error": {"max": m.max_error, "mean": m.mean_error, "spread": m.spread},
        "kl": {"mean": m.mean_kl, "max": m.max_kl},
        "perplexity": {
            "reference": m.reference_perplexity,
            "checkpoint": m.checkpoint_perplexity,
            "ratio": m.checkpoint_perplexity / m.reference_perplexity,
        },
        "greedy": {
            "top1_agreement": m.top1_agreement,
            "num_equal_replies": sum(text.difference is None for text in m.texts),
            "first_difference": _first_difference(m),
        },
        "limits": asdict(limits),
        "parts": [asdict(part) for part in m.parts],
        "ranges": [asdict(found) for found in m.ranges],
        "prompts": [asdict(text) for text in m.texts],
    }
    return {key: _replace_non_finite(value) for key, value in document.items()}


def _replace_non_finite(value: Any) -> Any:
    """Return the value with null for NaN and infinity, which JSON does not have."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _replace_non_finite(part) for key, part in value.items()}
        case list():
            return [_replace_non_finite(part) for part in value]
        case _:
            return value


def _first_difference(m: Measurement) -> dict[str, Any] | None:
    index = m.first_difference
    if index is None or (difference := m.texts[index].difference) is None:
        return None
    return {"prompt": index, **asdict(difference)}
