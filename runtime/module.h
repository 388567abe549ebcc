// Shared libraries that are opened at run time, so that a program starts where what they need is
// missing: modules of this build, and a GPU's driver. Never closed: threads and exit handlers live
// in them.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/error.h"

namespace bert {

// Where a module lies: beside the library that this is part of, beside the program, or in ../bin.
// Empty where it does not.
std::filesystem::path find_module(const std::string& file);

// dlopen, or null and the reason. `flags` besides RTLD_NOW.
void* open_library(const std::string& path, int flags, std::string& why_not);

// A function that the module exports as `name`, null without.
void* module_symbol(void* library, const char* name);

// The same, of its type. RuntimeError without.
template <typename Function>
Function* module_function(void* library, const std::string& file, const char* name) {
  auto* const function = reinterpret_cast<Function*>(module_symbol(library, name));
  if (function == nullptr) throw_runtime_error("{} has no {}: it is of another build", file, name);
  return function;
}

}  // namespace bert
