"""Prompts for both models: Japanese texts written for this project, or a file's lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_runtime.text.messages import Message
from llmjp_runtime.verify.errors import PromptsInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llmjp_runtime.executor.torch.config import CheckpointConfig
    from llmjp_runtime.text.tokenizer import TextTokenizer

BUILT_IN = (
    "日本で一番長い川はどこを流れていますか。",
    "七月の電気料金が先月より高くなった理由を、考えられる順に三つ挙げてください。",
    "「猫の手も借りたい」とはどういう意味ですか。例文も一つ書いてください。",
    "駅から歩いて十二分の部屋と、バスで八分の部屋では、どちらが便利でしょうか。",
    "18個のりんごを5人で分けると、一人何個になり、何個余りますか。",
    "次の文を丁寧な言い方に直してください。「明日は行けない。また連絡する。」",
    "Pythonで、リストの中の偶数だけを足し合わせる関数を書いてください。",
    "雨上がりの朝、祖母は縁側に腰を下ろし、湯気の立つ茶碗を両手で包んだまま、庭の柿の木をじっと見ていた。",
    "海の水が塩辛いのは、岩石から溶け出した成分が川によって運ばれ、長い年月をかけて海にたまったためである。",
    "会議の議事録：出席者は六名。来期の予算案について意見を交わし、広告費を一割減らすことで合意した。",
    "Please translate into Japanese: The library closes at half past six on Sundays.",
    "材料（2人分）：卵3個、牛乳大さじ2、塩少々。作り方：1. 卵を溶く。2. 牛乳と塩を加えて混ぜる。",
    "東京都の面積は約2,194平方キロメートルで、人口は1,400万人を超える。一人あたりの面積を求めよう。",
    "🍙と🍵の絵文字を使って、友だちを昼ごはんに誘う短い文を書いてください。",
    "昔々、山の奥の小さな村に、歌の上手な鍛冶屋が住んでいた。ある晩、戸をたたく音がして、",
    "申し上げにくいのですが、先日お送りいただいた請求書の金額に誤りがあるようです。",
)
"""Questions and passages, everyday and formal, with numbers, English, code and emoji."""


def read_prompts(path: Path) -> tuple[str, ...]:
    """Return the lines of a file that are not blank.

    Raises:
        PromptsInvalid: it cannot be read, is not UTF-8, or has none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise PromptsInvalid(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise PromptsInvalid(f"{path}: not UTF-8 at byte {exc.start}") from exc
    lines = tuple(line.strip() for line in text.splitlines())
    if not any(lines):
        raise PromptsInvalid(f"{path}: holds no prompts; one line is one prompt")
    return tuple(line for line in lines if line)


def encode_prompts(prompts: Sequence[str], tokenizer: TextTokenizer) -> list[tuple[int, ...]]:
    """Return ids: of a user's turn where there is a chat template, else of the text as it is."""
    if tokenizer.chat_template is None:
        return [tuple(tokenizer.encode_prompt(prompt)) for prompt in prompts]
    return [tuple(tokenizer.encode_chat([Message("user", prompt)])) for prompt in prompts]


def check_prompts(
    prompts: Sequence[Sequence[int]], config: CheckpointConfig, max_tokens: int
) -> None:
    """Refuse what the model cannot read.

    Raises:
        PromptsInvalid: none, an empty one, one that is too long, or an id that is no token.
    """
    if not prompts:
        raise PromptsInvalid("no prompts")
    for number, ids in enumerate(prompts, start=1):
        if not ids or not 0 <= min(ids) <= max(ids) < config.vocab_size:
            raise PromptsInvalid(
                f"prompt {number}: empty, or with an id beyond the model's {config.vocab_size}"
            )
        if len(ids) + max_tokens > config.max_position_embeddings:
            raise PromptsInvalid(
                f"prompt {number}: {len(ids)} tokens and a reply of {max_tokens} exceed the"
                f" context of {config.max_position_embeddings}"
            )
