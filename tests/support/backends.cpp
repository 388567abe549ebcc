#include "tests/support/backends.h"

#include "kernels/cpu/cpu_ops.h"
#include "kernels/reference/reference_ops.h"

namespace bert::test {

Backend reference_backend() { return {make_cpu_device(), make_reference_ops(DType::f64)}; }

namespace {
std::vector<BackendEntry>& entries() {
  static std::vector<BackendEntry> all = {
      {"reference_f64", reference_backend},
      {"reference_f32",
       [] {
         return Backend{make_cpu_device(), make_reference_ops(DType::f32)};
       }},
      {"cpu_f32_1_thread",
       [] {
         return Backend{make_cpu_device(), make_cpu_ops(1)};
       }},
      {"cpu_f32_3_threads",
       [] {
         return Backend{make_cpu_device(), make_cpu_ops(3)};
       }},
  };
  return all;
}
}  // namespace

const std::vector<BackendEntry>& available_backends() { return entries(); }

BackendRegistration::BackendRegistration(BackendEntry entry) {
  entries().push_back(std::move(entry));
}

const std::vector<MissingBackend>& missing_backends() {
  static const std::vector<MissingBackend> missing = {
      {"cuda", "this build has no CUDA backend", "BERT_REQUIRE_CUDA"},
  };
  return missing;
}

}  // namespace bert::test
