#include "data/text/input_files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/text/byte_source.h"
#include "runtime/error.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

bool named_like_text(const std::string& file) {
  const std::string name = without_compression(file);
  for (const std::string_view text : {".txt", ".text", ".json", ".jsonl", ".ndjson"}) {
    if (name.ends_with(text)) return true;
  }
  constexpr std::string_view kWiki = "wiki_";
  return name.size() > kWiki.size() && name.starts_with(kWiki) &&
         std::all_of(name.begin() + kWiki.size(), name.end(),
                     [](char c) { return c >= '0' && c <= '9'; });
}

struct Expansion {
  Inputs inputs;
  std::size_t source = 0;
  bool sized = true, saw_standard_input = false;

  void add_file(const std::string& path, bool named) {
    InputFile file{path, source, named};
    struct stat info {};
    if (path == "-") {
      if (saw_standard_input) throw_input_error("standard input is given twice");
      saw_standard_input = true;
    } else {
      if (::stat(path.c_str(), &info) != 0 || ::access(path.c_str(), R_OK) != 0) {
        throw_input_error("cannot read {}: {}", path, std::strerror(errno));
      }
      file.regular = S_ISREG(info.st_mode);
    }
    if (file.regular) {
      file.size = static_cast<std::uint64_t>(info.st_size);
      file.modified =
          static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec;
      if (file.size == 0 && named) throw_input_error("{} is empty: expected UTF-8 text", path);
      if (file.size == 0) return leave_out(path);
    }
    sized = sized && file.regular;
    inputs.bytes += file.size;
    inputs.files.push_back(std::move(file));
  }

  void leave_out(const std::string& path) {
    if (inputs.left_out++ == 0) inputs.first_left_out = path;
  }

  void add_folder(const fs::path& folder) {
    std::vector<std::string> found;
    try {
      for (auto entry = fs::recursive_directory_iterator(folder);
           entry != fs::recursive_directory_iterator(); ++entry) {
        if (entry->path().filename().string().starts_with(".")) {
          entry.disable_recursion_pending();
        } else if (entry->is_regular_file()) {
          found.push_back(entry->path().string());
        }
      }
    } catch (const fs::filesystem_error& error) {
      throw_input_error("cannot read the folder {}: {}", folder.string(), error.code().message());
    }
    std::sort(found.begin(), found.end());
    bool some = false;
    for (const std::string& path : found) {
      if (named_like_text(fs::path(path).filename().string())) {
        add_file(path, false);
        some = true;
      } else {
        leave_out(path);
      }
    }
    if (!some) {
      throw_input_error(
          "{} is a folder without text files; expected .txt, .json, .jsonl or wiki_00, also with "
          ".gz, .bz2, .xz or .zst (other names can be given one by one or as a pattern)",
          folder.string());
    }
  }

  // The paths that `pattern` matches; none if it is not one.
  static std::vector<std::string> matches(const std::string& pattern) {
    if (pattern.find_first_of("*?[") == std::string::npos) return {};
    glob_t result{};
    const int status = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &result);
    std::vector<std::string> paths(result.gl_pathv, result.gl_pathv + result.gl_pathc);
    ::globfree(&result);
    if (status == GLOB_NOMATCH) throw_input_error("no file matches {}", pattern);
    if (status != 0) throw_input_error("cannot look for files that match {}", pattern);
    std::sort(paths.begin(), paths.end());
    return paths;
  }

  void add(const std::string& argument) {
    if (argument == "-") return add_file(argument, true);
    std::error_code ignored;
    if (fs::is_directory(argument, ignored)) return add_folder(argument);
    if (!fs::exists(argument, ignored)) {
      const std::vector<std::string> paths = matches(argument);
      for (const std::string& path : paths) {
        fs::is_directory(path, ignored) ? add_folder(path) : add_file(path, false);
      }
      if (!paths.empty()) return;
    }
    add_file(argument, true);
  }
};

}  // namespace

Inputs expand_inputs(const std::vector<std::string>& arguments) {
  if (arguments.empty()) throw_input_error("no input file is given");
  Expansion expansion;
  for (const std::string& argument : arguments) {
    const std::size_t before = expansion.inputs.files.size();
    expansion.add(argument);
    if (expansion.inputs.files.size() == before) {
      throw_input_error("{}: every text file there is empty", argument);
    }
    ++expansion.source;
  }
  if (!expansion.sized) expansion.inputs.bytes = 0;
  return std::move(expansion.inputs);
}

}  // namespace bert
