#!/bin/sh
# Puts the stand-ins where the real ones would be found.
set -eu
here=/opt/stand-in/image
bin=/opt/stand-in/bin
site=$(/opt/llmjp/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$bin"
install -m 755 "$here/trtllm-build" "$here/nvidia-smi" "$bin/"
install -m 755 /opt/stand-in/tests/support/mpirun_stand_in/mpirun "$bin/mpirun"

# A server's models get no PYTHONPATH.
echo /opt/stand-in > "$site/stand-in.pth"

# Versions, as pip would have recorded them.
for one in tensorrt_llm-1.2.1 tensorrt-10.14.1.48; do
    mkdir -p "$site/$one.dist-info"
    name=$(printf %s "${one%-*}" | tr _ -)
    printf 'Metadata-Version: 2.1\nName: %s\nVersion: %s\n' "$name" "${one##*-}" \
        > "$site/$one.dist-info/METADATA"
done

# A tritonserver laid out as in NVIDIA's image, with the stand-in in the C++ backend's place.
LLMJP_TRITON_HOME='' /opt/llmjp/bin/python - <<'PY'
import shutil
from pathlib import Path

from llmjp_runtime.executor.tensorrt.model_config import ENGINE_BACKEND
from llmjp_runtime.server.installation import find_triton, prepare_backends

installation = find_triton({})
home, scratch = Path("/opt/stand-in/triton/tritonserver"), Path("/opt/stand-in/scratch")
scratch.mkdir(parents=True)
# Copies: Triton wants the library of a backend in Python within the folder of backends.
shutil.copytree(prepare_backends(installation, scratch), home / "backends")
(home / "backends" / ENGINE_BACKEND).mkdir()
shutil.copy("/opt/stand-in/image/backend.py", home / "backends" / ENGINE_BACKEND / "model.py")
(home / "bin").mkdir()
(home / "bin" / "tritonserver").symlink_to(installation.binary)
PY
rm -rf /opt/stand-in/scratch
chmod -R a+rX /opt/stand-in
