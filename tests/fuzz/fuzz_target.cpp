#include "tests/fuzz/fuzz_target.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include <unistd.h>

namespace bert::fuzz {
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMarker = "====";

// Removed when the process ends as it should; after a crash the content may help.
struct Scratch {
  fs::path path;
  pid_t owner = ::getpid();
  Scratch() {
    const fs::path memory = "/dev/shm";
    const fs::path base = ::access(memory.c_str(), W_OK) == 0 ? memory : fs::temp_directory_path();
    path = base / fmt::format("bert_fuzz_{}", owner);
    fs::create_directories(path);
  }
  ~Scratch() {
    std::error_code ignored;
    if (::getpid() == owner) fs::remove_all(path, ignored);
  }
};

}  // namespace

void require(bool kept, std::string_view promise) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", std::string(promise).c_str());
  std::abort();
}

const fs::path& scratch_folder() {
  static const Scratch scratch;
  return scratch.path;
}

fs::path put_file(const fs::path& name, std::string_view content) {
  const fs::path path = scratch_folder() / name;
  fs::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  require(file.good(), "the scratch folder can be written");
  return path;
}

std::map<std::string, std::string> split_files(std::string_view input,
                                               std::initializer_list<std::string_view> names) {
  std::map<std::string, std::string> files;
  std::string name(*names.begin());
  std::size_t begin = 0;
  const auto close = [&](std::size_t end) {
    if (end > begin || !files.empty()) files[name] = input.substr(begin, end - begin);
  };
  for (std::size_t line = 0; line < input.size();) {
    const std::size_t newline = std::min(input.find('\n', line), input.size());
    const std::string_view text = input.substr(line, newline - line);
    if (text.starts_with(kMarker)) {
      const std::string_view found = text.substr(kMarker.size());
      if (std::find(names.begin(), names.end(), found) != names.end()) {
        // The line end before the marker belongs to the marker.
        close(line > begin ? line - 1 : line);
        name = found;
        begin = std::min(newline + 1, input.size());
        files[name];
      }
    }
    line = newline + 1;
  }
  close(input.size());
  return files;
}

std::string join_files(const std::map<std::string, std::string>& files) {
  std::string input;
  for (const auto& [name, content] : files) {
    if (!input.empty()) input += '\n';
    input += std::string(kMarker) + name + '\n' + content;
  }
  return input;
}

}  // namespace bert::fuzz
