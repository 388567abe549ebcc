#include "runtime/module.h"

#include <system_error>

#include <dlfcn.h>

namespace bert {
namespace fs = std::filesystem;

namespace {

// The folder of the shared library that this is part of, if it is part of one.
fs::path library_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&library_folder), &info) == 0) return {};
  const fs::path file(info.dli_fname != nullptr ? info.dli_fname : "");
  return file.is_absolute() ? file.parent_path() : fs::path();
}

}  // namespace

fs::path find_module(const std::string& file) {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& place : {library_folder(), folder, folder.parent_path() / "bin"}) {
    if (!place.empty() && fs::exists(place / file, error)) return place / file;
  }
  return {};
}

void* open_library(const std::string& path, int flags, std::string& why_not) {
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | flags);
  if (library == nullptr) {
    const char* const text = ::dlerror();
    why_not = text != nullptr ? text : "unknown error";
  }
  return library;
}

void* module_symbol(void* library, const char* name) { return ::dlsym(library, name); }

}  // namespace bert
