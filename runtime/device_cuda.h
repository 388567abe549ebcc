// CudaDevice: one GPU through the CUDA runtime. Part of the CUDA module only.
#pragma once

#include <array>
#include <functional>
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
  std::size_t memory_available() const override;
  void fill_zero(void* pointer, std::size_t bytes) override;
  void copy_from_host(void* device, const void* host, std::size_t bytes) override;
  void copy(void* to, const void* from, std::size_t bytes) override;
  void copy_to_host(void* host, const void* device, std::size_t bytes) override;
  void synchronize() override;
  // At most kReadBytes.
  std::unique_ptr<PendingRead> read_later(const void* device, std::size_t bytes) override;
  // As a CUDA graph, or several with what run_unrecorded was given between them. Memory that is
  // freed may be in a recording: then all are made anew.
  void run_recorded(int key, const std::function<void()>& f) override;
  void forget_recordings() override;
  void run_unrecorded(const std::function<void()>& g) override;

  // From now on `check` is called from time to time while the host waits for the GPU, which may
  // wait for other GPUs; it throws when that is in vain. None: as at first.
  void watch(std::function<void()> check) { watch_ = std::move(check); }
  void wait(cudaEvent_t event);

  static constexpr std::size_t kReadBytes = 4096;

 private:
  struct Slot;
  struct ReadBuffer;
  class Read;

  struct Piece;  // of a recording
  using Recording = std::vector<Piece>;

  // Before anything that the rest of the members need.
  static int select(int index);
  void begin_piece();
  void end_piece(std::function<void()> then);

  int index_;
  cudaDeviceProp properties_{};
  CudaStream stream_, copy_stream_;
  std::array<std::unique_ptr<Slot>, 8> slots_;
  std::size_t next_slot_ = 0;
  std::vector<std::unique_ptr<ReadBuffer>> read_buffers_;  // free ones
  CudaEvent synchronized_;
  std::map<int, std::shared_ptr<const Recording>> recordings_;
  std::unique_ptr<Recording> recorded_;  // while one is made
  bool recording_ = false;               // whether what is queued is recorded
  std::function<void()> watch_;
};

}  // namespace bert
