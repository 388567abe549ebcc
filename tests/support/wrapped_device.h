// A device that does what another one does: a base for those of the tests, which do one thing
// otherwise.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "runtime/device.h"

namespace bert {

class WrappedDevice : public Device {
 public:
  explicit WrappedDevice(std::unique_ptr<Device> memory = make_cpu_device())
      : memory_(std::move(memory)) {}
  std::string name() const override { return memory_->name(); }
  bool is_cpu() const override { return memory_->is_cpu(); }
  void* allocate(std::size_t bytes) override { return memory_->allocate(bytes); }
  void free(void* pointer) override { memory_->free(pointer); }
  void fill_zero(void* pointer, std::size_t bytes) override { memory_->fill_zero(pointer, bytes); }
  void copy_from_host(void* device, const void* host, std::size_t bytes) override {
    memory_->copy_from_host(device, host, bytes);
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    memory_->copy(to, from, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    memory_->copy_to_host(host, device, bytes);
  }
  void synchronize() override { memory_->synchronize(); }

 private:
  std::unique_ptr<Device> memory_;
};

}  // namespace bert
