// Folders that a program makes: where they may be, and that a failure leaves no empty ones behind.
#pragma once

#include <algorithm>
#include <filesystem>
#include <vector>

#include "runtime/error.h"
#include "runtime/file.h"

namespace bert {
namespace detail {

inline std::filesystem::path absolute_folder(const std::filesystem::path& folder) {
  if (folder.empty()) throw_input_error("--output: the name of the folder is empty");
  return std::filesystem::absolute(folder);
}

// Of a path where nothing exists.
inline void refuse_dangling_link(const std::filesystem::path& path) {
  if (!std::filesystem::is_symlink(path)) return;
  throw_input_error("{} is a symbolic link to nothing: remove it, or name another folder",
                    path.string());
}

}  // namespace detail

// The absolute path, without symbolic links, of a folder that is written under another name and
// renamed to its own when it is whole. InputError where the program runs in it or below it, as
// whoever stands there would be left in a folder that is no more; and for a link that leads
// nowhere.
inline std::filesystem::path renamed_folder(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  fs::path path = fs::weakly_canonical(detail::absolute_folder(folder));
  if (!path.has_filename()) path = path.parent_path();
  if (!fs::exists(path)) detail::refuse_dangling_link(path);
  const fs::path here = fs::current_path();
  if (std::mismatch(path.begin(), path.end(), here.begin(), here.end()).first == path.end()) {
    throw_input_error(
        "{} is or holds the folder that the program runs in, and would be replaced: name another "
        "folder, such as one in it",
        path.string());
  }
  return path;
}

// mkdir -p. At the end those that it made are gone again, if nothing was put into them.
class NewFolder {
 public:
  explicit NewFolder(const std::filesystem::path& folder) : NewFolder() {  // ~NewFolder on failure
    std::filesystem::path missing = detail::absolute_folder(folder).lexically_normal();
    std::error_code unreadable;
    for (; !std::filesystem::exists(missing, unreadable); missing = missing.parent_path()) {
      detail::refuse_dangling_link(missing);
      made_.push_back(missing);
    }
    make_directories(folder);
  }
  ~NewFolder() {
    std::error_code ignored;
    for (const std::filesystem::path& folder : made_) std::filesystem::remove(folder, ignored);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

 private:
  NewFolder() = default;

  std::vector<std::filesystem::path> made_;  // the deepest first
};

}  // namespace bert
