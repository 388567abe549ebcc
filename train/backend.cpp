#include "train/backend.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>
#include <utility>
#include <vector>

#include <sched.h>

#include "kernels/cpu_module.h"
#include "kernels/cuda_module.h"
#include "kernels/reference/reference_ops.h"
#include "runtime/error.h"

namespace bert {
namespace {

// The processors this process may use: fewer than the machine's under taskset or in a container.
int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int processors = ::sched_getaffinity(0, sizeof set, &set) == 0
                             ? CPU_COUNT(&set)
                             : static_cast<int>(std::thread::hardware_concurrency());
  // A container's share: "QUOTA PERIOD" in microseconds, or "max PERIOD".
  std::ifstream limit("/sys/fs/cgroup/cpu.max");
  double quota = 0.0, period = 0.0;
  if (limit >> quota >> period && period > 0.0) {
    return std::clamp(static_cast<int>(std::ceil(quota / period)), 1, std::max(1, processors));
  }
  return std::max(1, processors);
}

Backend make_cpu(Precision precision, std::optional<std::int64_t> threads, int local_size,
                 std::string_view keys, bool reproducible) {
  Backend backend;
  backend.device = make_cpu_device();
  backend.precision = precision == Precision::automatic ? Precision::fp32 : precision;
  // mpirun may already have bound each rank to its own processors; then they are not shared again.
  const int processors = available_processors();
  const int share = local_size > 1 ? std::max(1, processors / local_size) : processors;
  backend.threads = static_cast<int>(threads.value_or(share));
  switch (backend.precision) {
    case Precision::fp64:
      backend.threads = 1;
      backend.ops = make_reference_ops(DType::f64);
      return backend;
    case Precision::fp32:
    case Precision::bf16:
      if (reproducible) backend.threads = std::min(backend.threads, kReproducibleParts);
      backend.ops =
          make_cpu_ops({.threads = backend.threads,
                        .parts = reproducible ? kReproducibleParts : backend.threads,
                        .dtype = backend.precision == Precision::bf16 ? DType::bf16 : DType::f32});
      return backend;
    default:
      throw_input_error("{}precision: {} needs a GPU; on a CPU use fp32, bf16, fp64 or auto", keys,
                        precision_name(precision));
  }
}

std::optional<Backend> make_cuda(Precision precision, int local_rank, std::string_view keys,
                                 bool reproducible, std::string& why_not) {
  Backend backend;
  backend.precision = precision == Precision::automatic ? Precision::bf16 : precision;
  const bool fp8 = backend.precision == Precision::fp8;
  const CudaOptions options{
      .dtype = fp8 || backend.precision == Precision::bf16 ? DType::bf16 : DType::f32,
      .tf32 = backend.precision == Precision::tf32,
      .fp8 = fp8,
      .device = local_rank,
      .measure = !reproducible};
  std::optional<CudaBackend> cuda;
  try {
    cuda = open_cuda_backend(options, why_not);
  } catch (const InputError& error) {  // "precision: ..."
    throw_input_error("{}{}", keys, error.what());
  }
  if (!cuda) return std::nullopt;
  backend.device = std::move(cuda->device);
  backend.ops = std::move(cuda->ops);
  backend.product_choices = std::move(cuda->product_choices);
  backend.set_product_choices = std::move(cuda->set_product_choices);
  backend.stop_choosing_products = std::move(cuda->stop_choosing_products);
  return backend;
}

Backend make(const RuntimeConfig& config, int local_rank, int local_size, std::string_view keys,
             bool reproducible) {
  const Precision precision = config.precision;
  const bool cpu_only = precision == Precision::fp64;
  if (config.device == DeviceChoice::cuda && cpu_only) {
    throw_input_error(
        "{0}precision: fp64 is computed on a CPU only; use {0}device: cpu, or tf32, fp32 or bf16",
        keys);
  }
  std::string why_not;
  if (config.device != DeviceChoice::cpu && !cpu_only) {
    std::optional<Backend> backend = make_cuda(precision, local_rank, keys, reproducible, why_not);
    if (backend) return std::move(*backend);
    if (config.device == DeviceChoice::cuda) {
      throw_input_error("{}device: cuda is not available: {}; use cpu or auto", keys, why_not);
    }
    if (precision == Precision::tf32 || precision == Precision::fp8) {
      throw_input_error("{}precision: {} needs a GPU, and {}; use fp32, bf16 or auto", keys,
                        precision_name(precision), why_not);
    }
  }
  Backend backend = make_cpu(precision, config.threads, local_size, keys, reproducible);
  backend.why_cpu = std::move(why_not);
  return backend;
}

}  // namespace

std::string Backend::description() const {
  std::string text = fmt::format("{}, {}", device->name(), ops->name());
  if (device->is_cpu()) {
    text += fmt::format(", {} thread{}", threads, threads == 1 ? "" : "s");
  } else if (precision == Precision::tf32) {
    text += " with tf32 products";
  } else if (precision == Precision::fp8) {
    text += " with fp8 products";
  }
  if (!why_cpu.empty()) text += fmt::format(" (not a GPU: {})", why_cpu);
  return text;
}

Backend make_backend(const RuntimeConfig& config, Communicator& communicator, std::string_view keys,
                     bool reproducible) {
  Backend backend =
      make(config, communicator.local_rank(), communicator.local_size(), keys, reproducible);
  std::vector<std::int64_t> with_gpu{backend.device->is_cpu() ? 0 : 1};
  communicator.all_reduce_sum(with_gpu);
  if (with_gpu[0] != 0 && with_gpu[0] != communicator.size()) {
    throw_runtime_error(
        "{} of {} ranks have a GPU, this one computes on {}; give every rank one, or set "
        "runtime.device: cpu",
        with_gpu[0], communicator.size(), backend.description());
  }
  if (config.profile) {
    const Ceilings ceilings = measure_ceilings(*backend.ops, *backend.device, backend.threads);
    auto timed = std::make_unique<TimedOps>(std::move(backend.ops), *backend.device);
    backend.profile = std::make_unique<StepProfile>(*timed, ceilings);
    backend.ops = std::move(timed);
  }
  return backend;
}

Backend make_backend(Precision precision, std::optional<std::int64_t> threads) {
  return make_cpu(precision, threads, 1, "runtime.", false);
}

}  // namespace bert
