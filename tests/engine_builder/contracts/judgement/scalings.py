"""Scaled rotary embeddings, of every kind that transformers has."""

from __future__ import annotations

from typing import Any

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}

SERVED: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 2.7},
    "linear, as it was spelled": {"type": "linear", "factor": 2},
    "llama3": LLAMA3,
    "llama3 of odd factors": {
        **LLAMA3,
        "factor": 32.3,
        "low_freq_factor": 1.1,
        "high_freq_factor": 4.7,
        "original_max_position_embeddings": 48,
    },
    "yarn": YARN,
    "yarn with a ramp of its own": {**YARN, "beta_fast": 20, "beta_slow": 2, "truncate": False},
    "yarn with two scales": {**YARN, "factor": 40.0, "mscale": 0.7, "mscale_all_dim": 1.3},
    "yarn with one scale": {**YARN, "mscale": 0.7},
    "yarn with an attention factor": {**YARN, "attention_factor": 1.5},
    "yarn of all positions": {"rope_type": "yarn", "factor": 4.0},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dynamic": ({"rope_type": "dynamic", "factor": 2.0}, "rope_type is 'dynamic'"),
    "dynamic, as it was spelled": ({"type": "dynamic", "factor": 2.0}, "rope_type is 'dynamic'"),
    "longrope": (
        {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
        "rope_type is 'longrope'",
    ),
    "su": ({"type": "su"}, "rope_type is 'su'"),
    "proportional": ({"rope_type": "proportional"}, "rope_type is 'proportional'"),
    "two kinds": ({"rope_type": "linear", "type": "yarn", "factor": 2.0}, "expected one kind"),
    "a kind that is none": ({"rope_type": 3}, "expected one kind"),
    "no factor": ({"rope_type": "linear"}, "factor must be a positive number, found None"),
    "a factor of zero": ({"rope_type": "yarn", "factor": 0}, "factor must be a positive number"),
    "an infinite factor": (
        {"rope_type": "linear", "factor": float("inf")},
        "factor must be a positive number, found inf",
    ),
    "half of llama3": ({**LLAMA3, "low_freq_factor": None}, "low_freq_factor must be"),
    "llama3 upside down": ({**LLAMA3, "low_freq_factor": 5}, "must be more than"),
    "broken positions": (
        {**YARN, "original_max_position_embeddings": 1.5},
        "original_max_position_embeddings must be",
    ),
    "yarn upside down": ({**YARN, "beta_slow": 64}, "must not be less than"),
    "an attention factor of zero": ({**YARN, "attention_factor": 0}, "attention_factor must be"),
    "a part of each head": (
        {"rope_type": "default", "partial_rotary_factor": 0.5},
        "partial_rotary_factor is 0.5",
    ),
    "a kind for each layer": (
        {"full_attention": {"rope_type": "linear", "factor": 2.0}},
        "for each kind of layer",
    ),
}
