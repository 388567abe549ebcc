// What the modules bert_cpu_LEVEL.so export to kernels/cpu_module.cpp. All are built together.
#pragma once

#include <memory>
#include <string>

#include "kernels/cpu_module.h"

namespace bert {

// RuntimeError where `version`, version_string() of the program, is not the module's.
using MakeCpuOps = void(const CpuOptions& options, const std::string& version,
                        std::unique_ptr<Ops>& ops);
inline constexpr const char* kMakeCpuOps = "bert_make_cpu_ops";

}  // namespace bert
