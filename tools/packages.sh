#!/usr/bin/env bash
# The distribution's packages that this project is built from, each with its reason, and
# install_packages, which installs what is missing (Debian 12, Ubuntu 22.04 and later).
# Run alone it installs; tools/quickstart.sh and tools/test.sh source it.
set -euo pipefail

PACKAGES=(
  # The build
  build-essential        # g++, make, the C library's headers
  cmake                  # the build description
  ninja-build            # runs the build
  pkg-config             # finds the libraries that bring no CMake files
  git                    # names the commit that `--version` prints
  # Everywhere
  libfmt-dev             # formatting of messages
  nlohmann-json3-dev     # JSON: Hugging Face configurations, metrics, --json answers
  libcli11-dev           # command lines
  libyaml-cpp-dev        # training configurations
  # Data
  libarchive-dev         # reads .gz .bz2 .xz .zst text
  libutf8proc-dev        # Unicode categories and normalisation for the tokenizer
  libsentencepiece-dev   # SentencePiece tokenizers
  libxxhash-dev          # checksums of shards and checkpoints
  # Training
  libopenmpi-dev         # several processes and machines
  openmpi-bin            # mpirun
  # Tests and benchmarks
  libgtest-dev           # the tests
  libbenchmark-dev       # the benchmarks
  libboost-context-dev   # fibers of the harness that runs CUDA kernels on a CPU
  iproute2               # network namespaces, in which a test trains on two machines
  # The quickstart's text
  bible-kjv              # the King James text
)

# missing_packages NAME ...: those that `dpkg` does not know as installed.
missing_packages() {
  local package
  for package in "$@"; do
    if [[ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" != "install ok installed" ]]; then
      echo "$package"
    fi
  done
}

# install_missing NAME ...
install_missing() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  if ((${#missing[@]} == 0)); then
    return 0
  fi
  local as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "error: packages are missing, and installing them needs root or sudo. As root, run:" >&2
      echo "  apt-get install ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "Installing ${#missing[@]} packages: ${missing[*]}"
  local log
  log="$(mktemp)"
  if ! { "${as_root[@]}" apt-get -q update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
      -o Dpkg::Options::=--force-confold --no-install-recommends \
      install "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    echo "error: the packages could not be installed; the whole log is $log" >&2
    return 1
  fi
  rm -f "$log"
}

# Installs PACKAGES, and chooses the compiler for configure_build unless CXX is set.
install_packages() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "error: this script installs packages with apt-get, which is not here." >&2
    echo "Install the equivalents of these, then build with CMake: ${PACKAGES[*]}" >&2
    return 1
  fi
  install_missing "${PACKAGES[@]}"
  # Ubuntu 22.04's own g++ is 11; the vector code wants 12.
  local version
  version="$(g++ -dumpversion)"
  if [[ -z "${CXX:-}" ]] && ((${version%%.*} < 12)); then
    install_missing g++-12
    export CC=gcc-12 CXX=g++-12
  fi
}

# How many compilers at once: one per processor, but at least 1.5 GiB of memory for each.
build_jobs() {
  local processors memory_kib jobs
  processors="$(nproc)"
  memory_kib="$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)"
  jobs=$((memory_kib / 1572864))
  ((jobs < processors)) || jobs="$processors"
  ((jobs > 0)) || jobs=1
  echo "$jobs"
}

# configure_build FOLDER [cmake option ...], in the project's root.
configure_build() {
  local folder="$1"
  shift
  local generator=()
  # A folder that was configured by hand keeps its generator.
  if [[ ! -e "$folder/CMakeCache.txt" ]]; then
    generator=(-G Ninja -DCMAKE_BUILD_TYPE=Release)
  fi
  cmake -S . -B "$folder" "${generator[@]}" "$@"
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  case "${1:-}" in
    "") ;;
    -h | --help) sed -n '2,4s/^# //p' "$0" && exit 0 ;;
    *) echo "error: unknown option $1 (see tools/packages.sh --help)" >&2 && exit 2 ;;
  esac
  install_packages
  echo "All packages are installed."
fi
