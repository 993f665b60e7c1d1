"""Runs NVIDIA's modelopt; a program of its own, since modelopt does not fit into our environment.

    PYTHONPATH=<folder of scripts/install-modelopt.sh> python modelopt_export.py < REQUEST

The request is a JSON list of models, each with `source` (a Hugging Face folder), `dtype`,
`calibration` (lists of token ids, one per text), `kv_cache` (whether it is quantised), `amax` (the
JSON file to write) and `exports`: for each a folder `out`, and either `tp` and `pp`, or neither for
a unified checkpoint.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import modelopt.torch.quantization as mtq  # type: ignore[import-not-found] # noqa: E402
import torch  # noqa: E402
from modelopt.torch.export import (  # type: ignore[import-not-found] # noqa: E402
    export_hf_checkpoint,
    export_tensorrt_llm_checkpoint,
)
from transformers import AutoModelForCausalLM  # noqa: E402


def quantised(request: dict[str, Any]) -> Any:
    dtype = getattr(torch, request["dtype"])
    model = AutoModelForCausalLM.from_pretrained(request["source"], dtype=dtype).eval()
    config = copy.deepcopy(mtq.FP8_DEFAULT_CFG)
    if request["kv_cache"]:
        config["quant_cfg"].update(mtq.FP8_KV_CFG["quant_cfg"])

    def forward(module: Any) -> None:
        for ids in request["calibration"]:
            module(torch.tensor([ids]))

    return mtq.quantize(model, config, forward_loop=forward)


def amax(model: Any) -> dict[str, Any]:
    modules = dict(model.named_modules())
    found: dict[str, Any] = {"activation_amax": {}, "kv_amax": {}}
    for name, module in modules.items():
        quantizer = getattr(module, "input_quantizer", None)
        if quantizer is not None and quantizer.is_enabled and quantizer.amax is not None:
            found["activation_amax"][name] = quantizer.amax.item()
        keys = getattr(module, "k_bmm_quantizer", None)
        if keys is not None and keys.is_enabled:
            values = module.v_bmm_quantizer
            found["kv_amax"][name] = {"k": keys.amax.item(), "v": values.amax.item()}
    return found


def export(model: Any, dtype: torch.dtype, wanted: dict[str, Any]) -> None:
    # An export changes the model.
    model = copy.deepcopy(model)
    if "tp" in wanted:
        export_tensorrt_llm_checkpoint(
            model, "llama", dtype, wanted["out"], wanted["tp"], wanted["pp"]
        )
    else:
        export_hf_checkpoint(model, dtype, wanted["out"])


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    for request in json.load(sys.stdin):
        model = quantised(request)
        Path(request["amax"]).write_text(json.dumps(amax(model)), encoding="utf-8")
        for wanted in request["exports"]:
            export(model, getattr(torch, request["dtype"]), wanted)


if __name__ == "__main__":
    main()
