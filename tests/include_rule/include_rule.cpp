#include "tests/include_rule/include_rule.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include <fmt/format.h>

namespace bert {
namespace {

// A layer and the layers that its files may include, as may they what those may. A folder's files
// are of the layer with the longest name that matches, so kernels stands for the contracts.
struct Layer {
  std::string_view name;
  std::vector<std::string_view> sees;
};

const std::vector<Layer>& layers() {
  static const std::vector<Layer> all = {
      {"runtime", {}},
      {"kernels", {"runtime"}},
      {"kernels/reference", {"kernels"}},
      {"kernels/cpu", {"kernels"}},
      {"kernels/cuda", {"kernels"}},
      {"model/weights", {"runtime"}},
      {"model", {"kernels", "model/weights"}},
      {"data/text", {"runtime"}},
      {"data/task_files", {"data/text"}},
      {"data/tokenization", {"data/text"}},
      {"data/shards", {"data/tokenization"}},
      {"data/samples", {"data/shards"}},
      {"train/tasks", {"model", "data/samples", "data/task_files"}},
      {"train/logging", {"model", "data/text"}},
      {"train/profile", {"model"}},
      {"train/checkpoint", {"model", "data/tokenization", "train/logging"}},
      {"train/config", {"train/tasks"}},
      // kernels/cpu is compiled for each level of instructions, in a module: its inline functions
      // must not get into a program that is to start on every processor.
      {"train/step", {"kernels/reference", "train/checkpoint", "train/config", "train/profile"}},
      {"train/inference", {"train/step"}},
      {"train", {"train/inference"}},
      {"tools", {"train"}},
      {"api", {"train"}},
      {"bench", {"train", "tools"}},
      {"tests", {"train", "tools", "kernels/cpu", "kernels/cuda"}},
  };
  return all;
}

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// The layer a path lies in, null outside of all: the longest folder that matches.
const Layer* layer_of(std::string_view path) {
  const Layer* best = nullptr;
  for (const Layer& layer : layers()) {
    const bool inside = starts_with(path, layer.name) && path.size() > layer.name.size() &&
                        path[layer.name.size()] == '/';
    if (inside && (best == nullptr || layer.name.size() > best->name.size())) best = &layer;
  }
  return best;
}

bool is_cuda_header(std::string_view path) {
  for (const std::string_view prefix :
       {"cuda", "cublas", "nccl", "nvtx", "nvToolsExt", "nvml", "nvrtc", "mma.h"}) {
    if (starts_with(path, prefix)) return true;
  }
  return false;
}

bool is_mpi_header(std::string_view path) {
  return path == "mpi.h" || starts_with(path, "openmpi/") || starts_with(path, "mpi/");
}

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// Headers of the CUDA toolkit belong to its backend, to the device's files in runtime, and above
// the model; those of MPI to its communicator.
bool may_include_cuda(std::string_view path) {
  if (starts_with(path, "runtime/")) {
    return file_name(path).find("cuda") != std::string_view::npos ||
           file_name(path).find("nccl") != std::string_view::npos;
  }
  return starts_with(path, "kernels/cuda/") || starts_with(path, "tests/") ||
         starts_with(path, "bench/");
}

bool may_include_mpi(std::string_view path) { return starts_with(path, "runtime/mpi_"); }

// Written by the build.
bool is_generated(std::string_view path) { return path == "runtime/version.h"; }

bool allowed(std::string_view from, std::string_view to) {
  if (from == to) return true;
  const auto layer = std::find_if(layers().begin(), layers().end(),
                                  [&](const Layer& one) { return one.name == from; });
  if (layer == layers().end()) throw std::logic_error(fmt::format("no layer is called {}", from));
  return std::any_of(layer->sees.begin(), layer->sees.end(),
                     [&](std::string_view seen) { return allowed(seen, to); });
}

// The project's headers reached from `path`, itself included.
void reach(const SourceTree& tree, const std::string& path, std::set<std::string>& reached) {
  const auto file = tree.find(path);
  if (file == tree.end() || !reached.insert(path).second) return;
  for (const Include& include : find_includes(file->second)) reach(tree, include.path, reached);
}

// A header may hide a CUDA or MPI header from those who include it, so model is checked through
// everything it reaches.
void check_model_reach(const SourceTree& tree, const std::string& path,
                       std::vector<std::string>& broken) {
  std::set<std::string> reached;
  reach(tree, path, reached);
  for (const std::string& header : reached) {
    for (const Include& include : find_includes(tree.at(header))) {
      if (is_cuda_header(include.path) || is_mpi_header(include.path)) {
        broken.push_back(fmt::format("{}: sees {} through {}:{}; model knows no CUDA and no MPI",
                                     path, include.path, header, include.line));
      }
    }
  }
}

void check_include(const SourceTree& tree, const std::string& path, const Layer& layer,
                   const Include& include, std::vector<std::string>& broken) {
  const std::string where = fmt::format("{}:{}: ", path, include.line);
  if (is_cuda_header(include.path) && !may_include_cuda(path)) {
    broken.push_back(where + include.path + " is a CUDA header, which does not belong here");
    return;
  }
  if (is_mpi_header(include.path) && !may_include_mpi(path)) {
    broken.push_back(where + include.path + " is an MPI header, which does not belong here");
    return;
  }
  if (starts_with(include.path, "CLI/") && path != "runtime/command_line.cpp") {
    broken.push_back(where + include.path + " is behind runtime/command_line.h");
    return;
  }
  const Layer* target = layer_of(include.path);
  if (target == nullptr) {
    if (include.quoted && !is_cuda_header(include.path) && !is_mpi_header(include.path)) {
      broken.push_back(where + include.path + " is not written from the project's root");
    }
    return;
  }
  if (tree.find(include.path) == tree.end() && !is_generated(include.path)) {
    broken.push_back(where + include.path + " does not exist");
  } else if (!allowed(layer.name, target->name)) {
    broken.push_back(
        fmt::format("{}{} may not include {} ({})", where, layer.name, target->name, include.path));
  }
}

}  // namespace

std::vector<Include> find_includes(std::string_view text) {
  std::vector<Include> found;
  bool in_comment = false;
  int number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    ++number;
    if (in_comment) {
      const std::size_t close = line.find("*/");
      if (close == std::string_view::npos) continue;
      in_comment = false;
      line = line.substr(close + 2);
    }
    const std::size_t open = line.find("/*");
    if (open != std::string_view::npos && line.find("*/", open) == std::string_view::npos &&
        line.substr(0, open).find("//") == std::string_view::npos &&
        line.substr(0, open).find('"') == std::string_view::npos) {
      in_comment = true;
      line = line.substr(0, open);
    }
    // "#", blanks, "include", blanks, then the name in quotes or angle brackets.
    const auto skip_blanks = [&line] {
      const std::size_t first = line.find_first_not_of(" \t");
      line = first == std::string_view::npos ? std::string_view{} : line.substr(first);
    };
    skip_blanks();
    if (!starts_with(line, "#")) continue;
    line = line.substr(1);
    skip_blanks();
    if (!starts_with(line, "include")) continue;
    line = line.substr(7);
    skip_blanks();
    if (line.empty() || (line[0] != '"' && line[0] != '<')) continue;
    const std::size_t close = line.find(line[0] == '"' ? '"' : '>', 1);
    if (close == std::string_view::npos) continue;
    found.push_back({number, std::string(line.substr(1, close - 1)), line[0] == '"'});
  }
  return found;
}

std::vector<std::string> check_include_rule(const SourceTree& tree) {
  std::vector<std::string> broken;
  for (const auto& [path, text] : tree) {
    const Layer* layer = layer_of(path);
    if (layer == nullptr) {
      broken.push_back(path + ": lies in no layer");
      continue;
    }
    for (const Include& include : find_includes(text)) {
      check_include(tree, path, *layer, include, broken);
    }
    if (starts_with(layer->name, "model")) check_model_reach(tree, path, broken);
  }
  return broken;
}

}  // namespace bert
