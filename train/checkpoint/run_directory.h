// What can be known of a run directory before anything is written to it, and whose it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "runtime/descriptor.h"

namespace bert {

// Keeps other runs off `run_dir`, which is there, as long as the result lives. InputError where
// another one is in it, and has not left it within a few seconds. Null on a file system that has no
// such locks.
std::unique_ptr<Descriptor> lock_run_directory(const std::filesystem::path& run_dir);

bool holds_something(const std::filesystem::path& run_dir);
// InputError where it does, which only a run that is resumed may find.
void refuse_used_directory(const std::filesystem::path& run_dir);

// InputError naming the folder and the cause where files cannot be written to `run_dir`, to a
// folder of a run in it, or, where it does not exist, to the folder in which it would be made. A
// file without a name is written and is gone again.
void check_writable(const std::filesystem::path& run_dir);

// Whether the disk of `run_dir` has room for `checkpoints` of `bytes` each, less those in it
// already, as far as this user may write. InputError with both numbers when it has not; a warning
// when they would take more than nine tenths of it.
std::optional<std::string> check_disk_space(const std::filesystem::path& run_dir,
                                            std::int64_t checkpoints, std::size_t bytes);

}  // namespace bert
