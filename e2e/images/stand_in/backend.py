"""A stand-in for NVIDIA's C++ backend: that of the tests, over the checkpoint inside an engine."""

import json
import tarfile
import tempfile
from pathlib import Path

from tests.support.tensorrt_llm_stand_in import model

NAME = "gpt_model_path"


class TritonPythonModel(model.TritonPythonModel):
    """Triton's entry points."""

    def initialize(self, args: dict[str, str]) -> None:
        """Unpack the checkpoint, and run from there."""
        config = json.loads(args["model_config"])
        engine = Path(config["parameters"][NAME]["string_value"])
        folder = Path(tempfile.mkdtemp(prefix="stand-in-"))
        with tarfile.open(engine / "rank0.engine") as tar:
            tar.extractall(folder / "checkpoint", filter="data")
        (folder / "config.json").write_bytes((engine / "config.json").read_bytes())
        order = {"checkpoint": str(folder / "checkpoint"), "broken": False}
        (folder / "rank0.engine").write_text(json.dumps(order))
        config["parameters"][NAME]["string_value"] = str(folder)
        super().initialize({**args, "model_config": json.dumps(config)})
