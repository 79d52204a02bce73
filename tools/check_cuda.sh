#!/usr/bin/env bash
# One call on a machine with an NVIDIA GPU: builds for that GPU, runs every test that needs one, looks for bad accesses and
# races with compute-sanitizer where it is installed, and measures. Needs nvcc, cmake, ninja and a C++20 compiler; for the engine's
# tests and the figures also a Python with pybind11, numpy, tokenizers, jinja2, pytest and torch. No network.
#
#   bash tools/check_cuda.sh [FOLDER]      logs and figures go to FOLDER (default: build/cuda-check)
#
# Ends with one line for each part. Exit code 0: all that could be run was well.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/cuda-check}
mkdir -p "$out"
python=${PYTHON:-python3}
failed=0
summary=()

part() { # name, command...
  local name=$1 started=$SECONDS
  shift
  if "$@" >"$out/$name.log" 2>&1; then
    summary+=("ok    $name ($((SECONDS - started)) s)")
  else
    summary+=("FAIL  $name ($((SECONDS - started)) s): $out/$name.log")
    tail -n 25 "$out/$name.log"
    failed=1
  fi
}

target=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
[ "$target" = 90 ] && target=90a
common=(-G Ninja -DCMAKE_BUILD_TYPE=Release -DPYGPT_CUDA=ON "-DPYGPT_CUDA_ARCHITECTURES=$target")

nvidia-smi >"$out/nvidia-smi.txt"
if pybind11=$("$python" -m pybind11 --cmakedir 2>/dev/null); then
  common+=("-DPython_EXECUTABLE=$(command -v "$python")" "-Dpybind11_DIR=$pybind11" "-DCMAKE_INSTALL_PREFIX=$PWD/pygpt"
    -DPYGPT_VERSION=0.1.0)
else
  common+=(-DPYGPT_PYTHON=OFF)
  summary+=("--    $python has no pybind11: the engine's tests and the figures are left out")
fi
part configure cmake -S . -B build/cuda "${common[@]}" -DPYGPT_TESTS=ON
part build cmake --build build/cuda
part kernels ctest --test-dir build/cuda --output-on-failure -R '\.gpu$'
if [ -n "$pybind11" ]; then
  part install cmake --install build/cuda
  part engine env PYTHONPATH="$PWD" "$python" -m pytest tests/engine/test_cuda.py tests/bench/test_gpu.py -q -rs
fi

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck synccheck initcheck; do
    for test in kernels.cuda.matmul kernels.cuda.attend kernels.cuda.choose backend.cuda_backend; do
      [ "$tool" = racecheck ] && [ "$test" = backend.cuda_backend ] && continue # takes long, and has the same kernels
      part "$tool.$test" compute-sanitizer --tool "$tool" --error-exitcode 9 "build/cuda/tests/csrc/$test.gpu"
    done
  done
else
  summary+=("--    compute-sanitizer is not installed")
fi

if [ -n "$pybind11" ]; then
  part bench env PYTHONPATH="$PWD" "$python" -m pygpt bench --device cuda --batch 64
  part peers env PYTHONPATH="$PWD" "$python" tools/bench_cuda_peers.py --models 124M 355M --json "$out/peers.json"
  cat "$out/bench.log" "$out/peers.log"
fi
printf '%s\n' "${summary[@]}"
exit $failed
