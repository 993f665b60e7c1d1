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
        (folder / "checkpoint").mkdir()
        with tarfile.open(engine / "rank0.engine") as tar:
            # Debian's Python 3.11.2 has no filters for extractall().
            for member in filter(tarfile.TarInfo.isfile, tar):
                content = tar.extractfile(member)
                assert content is not None
                (folder / "checkpoint" / Path(member.name).name).write_bytes(content.read())
        (folder / "config.json").write_bytes((engine / "config.json").read_bytes())
        order = {"checkpoint": str(folder / "checkpoint"), "broken": False}
        (folder / "rank0.engine").write_text(json.dumps(order))
        config["parameters"][NAME]["string_value"] = str(folder)
        super().initialize({**args, "model_config": json.dumps(config)})
