#!/usr/bin/env bash
# Make a virtual environment with tt_gym in it, as `make` does:  tools/install.sh .venv
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1

TORCH=torch==2.13.0
CPU_WHEELS=https://download.pytorch.org/whl/cpu

find_python() {
    local python
    for python in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "tt_gym needs Python 3.11 or newer (MuJoCo 4 does), found $(python3 --version 2>&1)." >&2
    echo "Install one and say which: make PYTHON=/path/to/python3.11 ..." >&2
    return 1
}

# On Linux the default wheel of PyTorch brings gigabytes of CUDA, of no use without a GPU.
install_cpu_torch() {
    # a wheel at hand in pip's own configuration (find-links) comes first and needs no network
    "$venv/bin/pip" install --quiet --no-index --no-deps "$TORCH" 2>/dev/null ||
        "$venv/bin/pip" install --quiet --extra-index-url "$CPU_WHEELS" "$TORCH"
}

can_render() {
    "$venv/bin/python" - 2>/dev/null <<'PYTHON'
import tt_gym  # chooses the OpenGL backend
import mujoco

mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8)
PYTHON
}

install_opengl() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    echo "Installing Mesa for rendering without a display"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update >/dev/null &&
        apt-get -qq install --yes libegl1 libgl1-mesa-dri >/dev/null
}

python=$(find_python)
echo "Setting up $venv with $("$python" --version); this takes some minutes, once"
"$python" -m venv "$venv"
if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then
    install_cpu_torch
fi
"$venv/bin/pip" install --quiet --editable '.[dev]'
if ! can_render && ! { install_opengl && can_render; }; then
    echo "No OpenGL found: all works but videos and pictures of humanoids. To have them, install EGL"
    echo "(Debian, Ubuntu: apt-get install libegl1 libgl1-mesa-dri) or set MUJOCO_GL."
fi
