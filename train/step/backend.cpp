#include "train/step/backend.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <thread>
#include <utility>

#include <sched.h>
#include <unistd.h>

#include "kernels/cpu_module.h"
#include "kernels/cuda_module.h"
#include "kernels/reference/reference_ops.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace bert {
namespace {

// The processors this process may use: fewer than the machine's under taskset, or where srun or
// mpirun binds each rank to its own.
std::string processor_mask() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) {
    for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) CPU_SET(i, &set);
  }
  return {reinterpret_cast<const char*>(&set), sizeof set};
}

// The processors that a container's time is worth, of "QUOTA PERIOD" in microseconds or "max
// PERIOD".
int quota_of_processors() {
  std::ifstream limit("/sys/fs/cgroup/cpu.max");
  double quota = 0.0, period = 0.0;
  if (!(limit >> quota >> period) || period <= 0.0) return CPU_SETSIZE;
  return static_cast<int>(std::ceil(quota / period));
}

// The same for every process of a machine, and no other machine's.
std::string machine_name() {
  std::string name;
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  if (boot >> name) return name;
  char host[256] = {};
  (void)::gethostname(host, sizeof host - 1);
  return host;
}

// How many threads a rank computes with where it is not told. To be called by all ranks.
int threads_of_a_rank(Communicator& communicator) {
  const std::string mask = processor_mask(), machine = machine_name();
  std::vector<std::string> neighbours;
  for (const std::string& rank : communicator.all_gather(mask + machine)) {
    if (rank.substr(mask.size()) == machine) neighbours.push_back(rank.substr(0, mask.size()));
  }
  return std::clamp(quota_of_processors() / communicator.local_size(), 1,
                    share_of_processors(mask, neighbours));
}

Backend make_cpu(Precision precision, std::int64_t threads, const PlaceOfKey& where,
                 bool reproducible) {
  Backend backend;
  backend.device = make_cpu_device();
  backend.precision = precision == Precision::automatic ? Precision::fp32 : precision;
  backend.threads = static_cast<int>(threads);
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
      throw_input_error("{}: {} needs a GPU; on a CPU use fp32, bf16, fp64 or auto",
                        where("precision"), precision_name(precision));
  }
}

std::optional<Backend> make_cuda(Precision precision, int local_rank, const PlaceOfKey& where,
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
  } catch (const InputError& error) {
    throw_input_error("{}: {}", where("precision"), error.what());
  }
  if (!cuda) return std::nullopt;
  backend.device = std::move(cuda->device);
  backend.ops = std::move(cuda->ops);
  backend.product_choices = std::move(cuda->product_choices);
  backend.set_product_choices = std::move(cuda->set_product_choices);
  backend.stop_choosing_products = std::move(cuda->stop_choosing_products);
  return backend;
}

Backend make(const RuntimeConfig& config, int local_rank, std::int64_t threads,
             const PlaceOfKey& where, bool reproducible) {
  const Precision precision = config.precision;
  const bool cpu_only = precision == Precision::fp64;
  if (config.device == DeviceChoice::cuda && cpu_only) {
    throw_input_error(
        "{}: fp64 is computed on a CPU only; take the device cpu, or tf32, fp32 or bf16",
        where("precision"));
  }
  std::string why_not;
  if (config.device != DeviceChoice::cpu && !cpu_only) {
    std::optional<Backend> backend = make_cuda(precision, local_rank, where, reproducible, why_not);
    if (backend) return std::move(*backend);
    if (config.device == DeviceChoice::cuda) {
      throw_input_error("{}: cuda is not available: {}; use cpu or auto", where("device"), why_not);
    }
    if (precision == Precision::tf32 || precision == Precision::fp8) {
      throw_input_error("{}: {} needs a GPU, and {}; use fp32, bf16 or auto", where("precision"),
                        precision_name(precision), why_not);
    }
  }
  Backend backend = make_cpu(precision, threads, where, reproducible);
  backend.why_cpu = std::move(why_not);
  return backend;
}

}  // namespace

std::string Backend::description() const {
  std::string text = device->is_cpu()
                         ? fmt::format("{}, {}", ops->name(), plural(threads, "thread"))
                         : fmt::format("{}, {}", device->name(), ops->name());
  if (precision == Precision::tf32) text += " with tf32 products";
  if (precision == Precision::fp8) text += " with fp8 products";
  if (!why_cpu.empty()) text += fmt::format(" (not a GPU: {})", why_cpu);
  return text;
}

Backend make_backend(const RuntimeConfig& config, Communicator& communicator,
                     const PlaceOfKey& where, bool reproducible) {
  const int share = threads_of_a_rank(communicator);
  Backend backend =
      make(config, communicator.local_rank(), config.threads.value_or(share), where, reproducible);
  std::vector<std::int64_t> with_gpu{backend.device->is_cpu() ? 0 : 1};
  communicator.all_reduce_sum(with_gpu);
  if (with_gpu[0] != 0 && with_gpu[0] != communicator.size()) {
    throw_runtime_error(
        "only {} of {} ranks found a GPU, this one computes on {}; give every rank one, or set "
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
  const auto alone = make_local_communicator();
  const auto where = [](std::string_view key) { return std::string(key); };
  return make_cpu(precision, threads ? *threads : threads_of_a_rank(*alone), where, false);
}

int share_of_processors(const std::string& mask, const std::vector<std::string>& of_all) {
  const auto shared_with = [&](const std::string& other) {
    int processors = 0;
    for (std::size_t i = 0; i < std::min(mask.size(), other.size()); ++i) {
      processors += std::popcount(static_cast<unsigned char>(mask[i] & other[i]));
    }
    return processors;
  };
  const auto sharers = std::count_if(of_all.begin(), of_all.end(), [&](const std::string& other) {
    return shared_with(other) > 0;
  });
  return std::max(1, shared_with(mask) / std::max(1, static_cast<int>(sharers)));
}

}  // namespace bert
