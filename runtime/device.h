// Device: where memory lives. Knows how to allocate, fill and copy; nothing of neural networks.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

namespace bert {

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;
  virtual bool is_cpu() const = 0;

  // 64-byte aligned; RuntimeError with the size asked for when there is not enough.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void free(void* pointer) = 0;
  virtual void fill_zero(void* pointer, std::size_t bytes) = 0;
  virtual void copy_from_host(void* device, const void* host, std::size_t bytes) = 0;
  // Waits for the work queued before it.
  virtual void copy_to_host(void* host, const void* device, std::size_t bytes) = 0;
  virtual void synchronize() = 0;
};

std::unique_ptr<Device> make_cpu_device();

// An owned allocation on a device; move-only.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(Device& device, std::size_t bytes)
      : device_(&device), data_(bytes ? device.allocate(bytes) : nullptr), bytes_(bytes) {}
  ~DeviceBuffer() {
    if (data_) device_->free(data_);
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace bert
