#include "tests/support/backends.h"

#include <algorithm>
#include <utility>

#include <dlfcn.h>

#include "kernels/cpu_module.h"
#include "kernels/cpu_module_entry.h"
#include "kernels/cuda_module.h"
#include "kernels/reference/reference_ops.h"
#include "runtime/module.h"
#include "runtime/program.h"

namespace bert::test {

Backend reference_backend() { return {make_cpu_device(), make_reference_ops(DType::f64)}; }

namespace {

// Why there is no GPU to test on; empty where there is one.
const std::string& why_no_cuda() {
  static const std::string reason = [] {
    std::string why_not;
    try {
      return open_cuda_backend({}, why_not) ? std::string() : why_not;
    } catch (const Error& error) {  // a GPU that cannot be used
      return std::string(error.what());
    }
  }();
  return reason;
}

BackendEntry cpu_entry(const std::string& name, const CpuOptions& options) {
  return {name, [=] { return Backend{make_cpu_device(), make_cpu_ops(options)}; }};
}

// The CPU's highest level with its instructions emulated by those of AVX2
// (tests/cpu/CMakeLists.txt).
constexpr const char* kEmulated[] = {"emulated_pairs", "emulated_tiles"};

std::string module_file(const std::string& level) { return fmt::format("bert_cpu_{}.so", level); }

// Why it cannot be; empty where it can.
std::string why_no_emulation() {
  const auto& levels = cpu_levels();
  if (std::find(levels.begin(), levels.end(), "avx2") == levels.end()) return "no AVX2";
  for (const char* const level : kEmulated) {
    if (find_module(module_file(level)).empty()) return module_file(level) + " is not here";
  }
  return {};
}

BackendEntry emulated_entry(const std::string& level, DType dtype) {
  return {fmt::format("cpu_{}_{}", level, dtype_name(dtype)), [=] {
            const std::string file = module_file(level);
            std::string why_not;
            void* const library = open_library(find_module(file), RTLD_LOCAL, why_not);
            if (library == nullptr) throw_runtime_error("{}: {}", file, why_not);
            Backend backend{make_cpu_device(), nullptr};
            module_function<MakeCpuOps>(library, file, kMakeCpuOps)(
                {.threads = 2, .parts = 5, .dtype = dtype}, version_string(), backend.ops);
            return backend;
          }};
}

// How products are computed is chosen by measuring, and another choice gives other bits. So each
// backend starts with the choices that the last one left, as a resumed run does.
BackendEntry cuda_entry(const std::string& name, DType dtype, bool fp8 = false) {
  return {name,
          [dtype, fp8, choices = std::make_shared<std::string>()] {
            std::string why_not;
            auto opened = open_cuda_backend({.dtype = dtype, .fp8 = fp8}, why_not);
            if (!opened) throw_runtime_error("{}", why_not);
            if (!choices->empty() && !opened->set_product_choices(*choices)) {
              throw_runtime_error("{} does not take its own choice of products",
                                  opened->ops->name());
            }
            Backend backend{std::move(opened->device), std::move(opened->ops)};
            backend.keeper = std::shared_ptr<void>(
                nullptr,
                [choices, get = std::move(opened->product_choices)](void*) { *choices = get(); });
            return backend;
          },
          {},
          fp8};
}

// Not before compute capability 8.9.
bool has_cuda_fp8() {
  try {
    std::string why_not;
    return open_cuda_backend({.fp8 = true}, why_not).has_value();
  } catch (const InputError&) {
    return false;
  }
}

std::vector<BackendEntry>& entries() {
  static std::vector<BackendEntry> all = [] {
    limit_openmp_spinning();  // several tests run at once
    std::vector<BackendEntry> list = {
        {"reference_f64", reference_backend},
        {"reference_f32",
         [] {
           return Backend{make_cpu_device(), make_reference_ops(DType::f32)};
         }},
        cpu_entry("cpu_f32_1_thread", {}),
        cpu_entry("cpu_f32_3_threads", {.threads = 3}),
        cpu_entry("cpu_bf16_1_thread", {.dtype = DType::bf16}),
    };
    for (const std::string& level : cpu_levels()) {
      const CpuOptions f32{.threads = 2, .parts = 5, .level = level};
      list.push_back(cpu_entry(fmt::format("cpu_{}_f32_5_parts", level), f32));
      CpuOptions bf16 = f32;
      bf16.dtype = DType::bf16;
      list.push_back(cpu_entry(fmt::format("cpu_{}_bf16_5_parts", level), bf16));
    }
    if (why_no_emulation().empty()) {
      for (const char* const level : kEmulated) {
        list.push_back(emulated_entry(level, DType::f32));
        list.push_back(emulated_entry(level, DType::bf16));
      }
    }
    if (why_no_cuda().empty()) {
      list.push_back(cuda_entry("cuda_f32", DType::f32));
      list.push_back(cuda_entry("cuda_bf16", DType::bf16));
      if (has_cuda_fp8()) list.push_back(cuda_entry("cuda_fp8", DType::bf16, true));
    }
    return list;
  }();
  return all;
}

}  // namespace

const std::vector<BackendEntry>& available_backends() { return entries(); }

BackendRegistration::BackendRegistration(BackendEntry entry) {
  entries().push_back(std::move(entry));
}

const std::vector<MissingBackend>& missing_backends() {
  static const std::vector<MissingBackend> missing = [] {
    std::vector<MissingBackend> list;
    if (const std::string why = why_no_emulation(); !why.empty()) {
      list.push_back({"emulated_cpu", why, "BERT_REQUIRE_EMULATED_CPU"});
    }
    if (!why_no_cuda().empty()) list.push_back({"cuda", why_no_cuda(), "BERT_REQUIRE_CUDA"});
    return list;
  }();
  return missing;
}

}  // namespace bert::test
