"""The table of licences, and the refusal before the first byte."""

from __future__ import annotations

import pytest

from llmjp_builder.contracts.errors import LicenceNotAccepted
from llmjp_builder.sources.licence import find_licence, require_accepted


@pytest.mark.parametrize(
    ("repository", "identifier"),
    [
        ("llm-jp/llm-jp-3-1.8b", "Apache-2.0"),
        ("llm-jp/llm-jp-3-13b-instruct3", "Apache-2.0"),
        ("llm-jp/llm-jp-3-8x13b", "Apache-2.0"),
        ("llm-jp/llm-jp-3.1-13b-instruct4", "Apache-2.0"),
        ("llm-jp/llm-jp-3-172b-alpha1", "Apache-2.0"),
        ("llm-jp/llm-jp-3-172b-alpha2-instruct", "Apache-2.0"),
        ("llm-jp/llm-jp-3-172b-beta1", "llm-jp-3-172b-beta1-tou"),
        ("llm-jp/llm-jp-3-172b-beta1-instruct", "llm-jp-3-172b-beta1-tou"),
        ("llm-jp/llm-jp-3-172b-beta2-instruct2", "llm-jp-3-172b-beta2-tou"),
        ("llm-jp/llm-jp-3-172b", "llm-jp-3-172b-tou"),
        ("llm-jp/llm-jp-3-172b-instruct2", "llm-jp-3-172b-instruct2-tou"),
        ("llm-jp/llm-jp-3-172b-instruct3", "llm-jp-3-172b-instruct3-tou"),
        ("LLM-jp/LLM-jp-3-172B-Instruct3", "llm-jp-3-172b-instruct3-tou"),
        ("somebody/llm-jp-3-172b-instruct3-fp8", "llm-jp-3-172b-instruct3-tou"),
        ("somebody/llm-jp-3-13b-tuned", "unknown"),
        ("other/model", "unknown"),
    ],
)
def test_licence(repository: str, identifier: str) -> None:
    assert find_licence(repository).id == identifier


def test_own_terms_alone_need_acceptance() -> None:
    names = ("1.8b", "172b-alpha1", "172b-beta1", "172b-beta2", "172b", "172b-instruct3")
    asked = [find_licence(f"llm-jp/llm-jp-3-{name}").needs_acceptance for name in names]
    assert asked == [False, False, True, True, True, True]


def test_every_licence_that_needs_acceptance_can_be_read_somewhere() -> None:
    for name in ("172b-beta1", "172b-beta2", "172b", "172b-instruct2", "172b-instruct3"):
        assert find_licence(f"llm-jp/llm-jp-3-{name}").url.startswith(
            "https://huggingface.co/llm-jp/"
        )


@pytest.mark.parametrize("accepted", [None, "", "Apache-2.0", "llm-jp-3-172b-tou"])
def test_refused_unless_exactly_this_one_is_accepted(accepted: str | None) -> None:
    with pytest.raises(LicenceNotAccepted) as caught:
        require_accepted("llm-jp/llm-jp-3-172b-instruct3", accepted)
    message = str(caught.value)
    assert caught.value.exit_code == 5
    assert "llm-jp-3-172b-instruct3 License Agreement" in message
    assert "https://huggingface.co/llm-jp/llm-jp-3-172b-instruct3/blob/main/LICENSE" in message
    assert "--accept-licence llm-jp-3-172b-instruct3-tou" in message


def test_accepted() -> None:
    identifier = "llm-jp-3-172b-instruct3-tou"
    assert require_accepted("llm-jp/llm-jp-3-172b-instruct3", identifier).id == identifier
    assert require_accepted("llm-jp/llm-jp-3-13b", None).id == "Apache-2.0"
