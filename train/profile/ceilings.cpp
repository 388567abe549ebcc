#include "train/profile/ceilings.h"

#include <cstring>
#include <thread>
#include <vector>

#include "train/profile/random_fill.h"
#include "train/profile/timing.h"

namespace bert {
namespace {

double product_flops(Ops& ops, Device& device) {
  const DType real = ops.dtype();
  // The reference, in f64, would take minutes for what the others do in a moment.
  const std::int32_t n = real == DType::f64 ? 256 : device.is_cpu() ? 2048 : 8192;
  const DeviceBuffer memory(
      device, 3 * static_cast<std::size_t>(n) * static_cast<std::size_t>(n) * dtype_size(real));
  const DeviceBuffer rows(device, sizeof n);
  device.copy_from_host(rows.data(), &n, sizeof n);
  const Tensor all(memory.data(), real, {3 * n, n});
  const Tensor a = all.slice(0, n), b = all.slice(n, n), c = all.slice(2 * n, n);
  fill_random(device, all, 1.0f, 1);
  const LinearForward op{
      .x = a, .weight = {b, b}, .rows = static_cast<DeviceCount>(rows.data()), .y = c};
  const double seconds =
      fastest_seconds(device, 5, device.is_cpu() ? 1 : 10, [&] { ops.linear_forward(op); });
  const double width = n;
  return 2.0 * width * width * width / seconds;
}

// On the host by `threads`, each its part.
void copy(Device& device, char* to, const char* from, std::size_t bytes, int threads) {
  if (!device.is_cpu()) return device.copy(to, from, bytes);
  const std::size_t part = bytes / static_cast<std::size_t>(threads);
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) {
    const std::size_t begin = part * static_cast<std::size_t>(i);
    others.emplace_back([=] { std::memcpy(to + begin, from + begin, part); });
  }
  std::memcpy(to, from, part);
  for (std::thread& other : others) other.join();
}

double copied_bytes(Device& device, int threads) {
  const auto share = static_cast<std::size_t>(threads);
  const std::size_t bytes = (std::size_t{device.is_cpu() ? 256u : 2048u} << 20) / share * share;
  const DeviceBuffer from(device, bytes), to(device, bytes);
  device.fill_zero(from.data(), bytes);
  const double seconds = fastest_seconds(device, 3, device.is_cpu() ? 1 : 10, [&] {
    copy(device, static_cast<char*>(to.data()), static_cast<const char*>(from.data()), bytes,
         threads);
  });
  return 2.0 * static_cast<double>(bytes) / seconds;
}

}  // namespace

Ceilings measure_ceilings(Ops& ops, Device& device, int threads) {
  return {product_flops(ops, device), copied_bytes(device, threads)};
}

}  // namespace bert
