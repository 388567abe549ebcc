#include <cstdlib>
#include <cstring>
#include <vector>

#include "runtime/device.h"
#include "runtime/error.h"
#include "runtime/host_memory.h"

namespace bert {
namespace {

class CpuDevice final : public Device {
 public:
  std::string name() const override { return "CPU"; }
  bool is_cpu() const override { return true; }

  void* allocate(std::size_t bytes) override {
    void* pointer = allocate_host_memory(bytes);
    if (pointer == nullptr) throw_runtime_error("out of memory: {} bytes asked for", bytes);
    return pointer;
  }
  void free(void* pointer) override { std::free(pointer); }
  void fill_zero(void* pointer, std::size_t bytes) override { std::memset(pointer, 0, bytes); }
  void copy_from_host(void* device, const void* host, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }
  void synchronize() override {}
};

class FinishedRead final : public PendingRead {
 public:
  FinishedRead(Device& device, const void* memory, std::size_t bytes) : bytes_(bytes) {
    device.copy_to_host(bytes_.data(), memory, bytes);
  }
  const void* wait() override { return bytes_.data(); }

 private:
  std::vector<unsigned char> bytes_;
};

}  // namespace

std::size_t Device::memory_available() const { return host_memory_available(); }

std::unique_ptr<PendingRead> Device::read_later(const void* device, std::size_t bytes) {
  return std::make_unique<FinishedRead>(*this, device, bytes);
}

void Device::run_recorded(int /*key*/, const std::function<void()>& f) { f(); }
void Device::run_unrecorded(const std::function<void()>& g) { g(); }

std::unique_ptr<Device> make_cpu_device() { return std::make_unique<CpuDevice>(); }

}  // namespace bert
