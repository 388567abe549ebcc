// Device: where memory lives. Knows how to allocate, fill and copy; nothing of neural networks.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace bert {

// A copy to host memory that may still be under way.
class PendingRead {
 public:
  virtual ~PendingRead() = default;
  // Waits for it. The bytes stay valid as long as this object.
  virtual const void* wait() = 0;
};

// Work is done in the order in which it is queued. A GPU does it later than the call that queues
// it; memory on the host may be used again as soon as a call returns.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;
  virtual bool is_cpu() const = 0;

  // 64-byte aligned; RuntimeError with the size asked for when there is not enough.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void free(void* pointer) = 0;
  // Bytes that could be allocated now, by all processes that share them. The host's by default.
  virtual std::size_t memory_available() const;
  virtual void fill_zero(void* pointer, std::size_t bytes) = 0;
  virtual void copy_from_host(void* device, const void* host, std::size_t bytes) = 0;
  // Within the device; the two do not overlap.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  // Waits for the work queued before it.
  virtual void copy_to_host(void* host, const void* device, std::size_t bytes) = 0;
  virtual void synchronize() = 0;

  // Reads the bytes as the work queued so far leaves them, without waiting for it.
  virtual std::unique_ptr<PendingRead> read_later(const void* device, std::size_t bytes);
  // Does the work that f queues. A device may record it at the first call with a key and repeat the
  // record afterwards without calling f: so f must queue the same work, with the same addresses,
  // each time, and neither copy to or from the host nor allocate; it has run once before, outside
  // of this, so that what grows or is chosen at a first use is there. Here f is just called, and so
  // it is where there is no memory left for a record.
  virtual void run_recorded(int key, const std::function<void()>& f);
  // Frees what is recorded; it will be recorded anew.
  virtual void forget_recordings() {}
  // For use within such an f: calls `g` there, and again at the same place between what is recorded
  // whenever the record is repeated; g may do anything but free or record. Outside: just calls it.
  virtual void run_unrecorded(const std::function<void()>& g);
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
