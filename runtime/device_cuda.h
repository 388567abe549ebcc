// CudaDevice: one GPU through the CUDA runtime. Part of the CUDA module only.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "runtime/device.h"

namespace bert {

// RuntimeError saying which call failed on which GPU, and why.
void check_cuda(cudaError_t status, const char* call);

// 0, and why, without a driver or GPU.
int count_cuda_devices(std::string& why_not);

// Owned stream and event handles.
class CudaStream {
 public:
  explicit CudaStream(bool urgent = false);
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class CudaEvent {
 public:
  CudaEvent();
  ~CudaEvent();
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// All work is queued on one stream. An upload crosses the bus on a second one, into staging memory
// on the GPU, while the first computes; the first then only moves it within the GPU. So the next
// batch travels during this one's step, and a recorded step finds it at its one address.
// One thread, and one GPU in a process.
class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index);
  ~CudaDevice() override;

  cudaStream_t stream() const { return stream_; }
  int multiprocessors() const { return properties_.multiProcessorCount; }
  int index() const { return index_; }

  std::string name() const override;  // "NVIDIA H200 (sm_90, 132 SMs, 141 GB)"
  bool is_cpu() const override { return false; }
  void* allocate(std::size_t bytes) override;
  void free(void* pointer) override;
  void fill_zero(void* pointer, std::size_t bytes) override;
  void copy_from_host(void* device, const void* host, std::size_t bytes) override;
  void copy(void* to, const void* from, std::size_t bytes) override;
  void copy_to_host(void* host, const void* device, std::size_t bytes) override;
  void synchronize() override;
  // At most kReadBytes.
  std::unique_ptr<PendingRead> read_later(const void* device, std::size_t bytes) override;
  // As a CUDA graph. Memory that is freed may be in a recording: then all are made anew.
  void run_recorded(int key, const std::function<void()>& f) override;

  static constexpr std::size_t kReadBytes = 4096;

 private:
  struct Slot;
  struct ReadBuffer;
  class Read;

  // Before anything that the rest of the members need.
  static int select(int index);

  int index_;
  cudaDeviceProp properties_{};
  CudaStream stream_, copy_stream_;
  std::array<std::unique_ptr<Slot>, 8> slots_;
  std::size_t next_slot_ = 0;
  std::vector<std::unique_ptr<ReadBuffer>> read_buffers_;  // free ones
  std::map<int, cudaGraphExec_t> recordings_;
  bool recording_ = false;

  void drop_recordings();
};

}  // namespace bert
