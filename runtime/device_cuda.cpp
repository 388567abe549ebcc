#include "runtime/device_cuda.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::size_t kSlotBytes = std::size_t{1} << 20;
// A recording of BERT-large's micro-batch is some thousand nodes.
constexpr std::size_t kLeastFreeToRecord = std::size_t{256} << 20;

double gigabytes(std::size_t bytes) { return static_cast<double>(bytes) / 1e9; }

// Host memory that a GPU reads and writes by itself.
class PinnedMemory {
 public:
  explicit PinnedMemory(std::size_t bytes) {
    check_cuda(cudaHostAlloc(&data_, bytes, cudaHostAllocDefault), "cudaHostAlloc");
  }
  ~PinnedMemory() { (void)cudaFreeHost(data_); }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

}  // namespace

void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  int device = -1;
  (void)cudaGetDevice(&device);
  (void)cudaGetLastError();  // said here, not again by the next call
  throw_runtime_error("{} failed on GPU {}: {} ({})", call, device, cudaGetErrorString(status),
                      cudaGetErrorName(status));
}

int count_cuda_devices(std::string& why_not) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    why_not = fmt::format("CUDA finds no GPU: {}", cudaGetErrorString(status));
    return 0;
  }
  if (count == 0) why_not = "CUDA finds no GPU";
  return count;
}

CudaStream::CudaStream(bool urgent) {
  int least = 0, greatest = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest),
             "cudaDeviceGetStreamPriorityRange");
  check_cuda(
      cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, urgent ? greatest : least),
      "cudaStreamCreateWithPriority");
}
CudaStream::~CudaStream() { (void)cudaStreamDestroy(stream_); }

CudaEvent::CudaEvent() {
  check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}
CudaEvent::~CudaEvent() { (void)cudaEventDestroy(event_); }

// A piece of an upload: from pinned memory over the bus, then to its place. Free again after
// `moved`.
struct CudaDevice::Slot {
  PinnedMemory host{kSlotBytes};
  void* device = nullptr;
  CudaEvent arrived, moved;
  Slot() { check_cuda(cudaMalloc(&device, kSlotBytes), "cudaMalloc"); }
  ~Slot() { (void)cudaFree(device); }
};

struct CudaDevice::ReadBuffer {
  PinnedMemory host{kReadBytes};
  CudaEvent done;
};

class CudaDevice::Read final : public PendingRead {
 public:
  Read(CudaDevice& device, std::unique_ptr<ReadBuffer> buffer)
      : device_(device), buffer_(std::move(buffer)) {}
  // The copy may still be on its way: the next to use the buffer queues behind it.
  ~Read() override { device_.read_buffers_.push_back(std::move(buffer_)); }
  const void* wait() override {
    device_.wait(buffer_->done);
    return buffer_->host.data();
  }

 private:
  CudaDevice& device_;
  std::unique_ptr<ReadBuffer> buffer_;
};

// A graph, and what is done after it and cannot be part of one.
struct CudaDevice::Piece {
  cudaGraphExec_t graph = nullptr;
  std::function<void()> then;

  Piece(cudaGraphExec_t recorded, std::function<void()> after)
      : graph(recorded), then(std::move(after)) {}
  Piece(Piece&& other) noexcept
      : graph(std::exchange(other.graph, nullptr)), then(std::move(other.then)) {}
  ~Piece() {
    if (graph != nullptr) (void)cudaGraphExecDestroy(graph);
  }
};

int CudaDevice::select(int index) {
  const cudaError_t status = cudaSetDevice(index);
  if (status == cudaSuccess) return index;
  (void)cudaGetLastError();
  throw_runtime_error("GPU {} cannot be used: {} ({})", index, cudaGetErrorString(status),
                      cudaGetErrorName(status));
}

CudaDevice::CudaDevice(int index) : index_(select(index)) {
  check_cuda(cudaGetDeviceProperties(&properties_, index_), "cudaGetDeviceProperties");
  if (properties_.major < 8) {
    throw_runtime_error(
        "{} is too old: compute capability 8.0 (A100) or later is needed; use "
        "runtime.device: cpu",
        name());
  }
  for (auto& slot : slots_) slot = std::make_unique<Slot>();
}

CudaDevice::~CudaDevice() {
  (void)cudaStreamSynchronize(stream_);
  recordings_.clear();
}

std::string CudaDevice::name() const {
  return fmt::format("{} (sm_{}{}, {} SMs, {:.0f} GB)", properties_.name, properties_.major,
                     properties_.minor, properties_.multiProcessorCount,
                     gigabytes(properties_.totalGlobalMem));
}

void* CudaDevice::allocate(std::size_t bytes) {
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, bytes);
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    std::size_t free = 0, total = 0;
    (void)cudaMemGetInfo(&free, &total);
    throw_runtime_error("out of memory on GPU {}: {} bytes asked for, {:.2f} of {:.2f} GB are free",
                        index_, bytes, gigabytes(free), gigabytes(total));
  }
  check_cuda(status, "cudaMalloc");
  return pointer;
}

std::size_t CudaDevice::memory_available() const {
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

void CudaDevice::free(void* pointer) {
  recordings_.clear();
  (void)cudaFree(pointer);  // waits for what is queued; called by destructors, so never throws
}

void CudaDevice::fill_zero(void* pointer, std::size_t bytes) {
  if (bytes > 0) check_cuda(cudaMemsetAsync(pointer, 0, bytes, stream_), "cudaMemsetAsync");
}

void CudaDevice::copy_from_host(void* device, const void* host, std::size_t bytes) {
  BERT_CHECK(!recording_, "an upload cannot be recorded");
  for (std::size_t first = 0; first < bytes; first += kSlotBytes) {
    const std::size_t count = std::min(kSlotBytes, bytes - first);
    Slot& slot = *slots_[next_slot_];
    next_slot_ = (next_slot_ + 1) % slots_.size();
    wait(slot.moved);
    std::memcpy(slot.host.data(), static_cast<const char*>(host) + first, count);
    check_cuda(
        cudaMemcpyAsync(slot.device, slot.host.data(), count, cudaMemcpyHostToDevice, copy_stream_),
        "cudaMemcpyAsync");
    check_cuda(cudaEventRecord(slot.arrived, copy_stream_), "cudaEventRecord");
    check_cuda(cudaStreamWaitEvent(stream_, slot.arrived, 0), "cudaStreamWaitEvent");
    check_cuda(cudaMemcpyAsync(static_cast<char*>(device) + first, slot.device, count,
                               cudaMemcpyDeviceToDevice, stream_),
               "cudaMemcpyAsync");
    check_cuda(cudaEventRecord(slot.moved, stream_), "cudaEventRecord");
  }
}

void CudaDevice::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_),
             "cudaMemcpyAsync");
}

void CudaDevice::copy_to_host(void* host, const void* device, std::size_t bytes) {
  BERT_CHECK(!recording_, "a copy to the host cannot be recorded");
  // To memory that is not pinned, the copy itself waits, and asks nobody.
  if (watch_) synchronize();
  if (bytes > 0) {
    check_cuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_),
               "cudaMemcpyAsync");
  }
  synchronize();
}

void CudaDevice::synchronize() {
  check_cuda(cudaEventRecord(synchronized_, stream_), "cudaEventRecord");
  wait(synchronized_);
}

void CudaDevice::wait(cudaEvent_t event) {
  if (!watch_) return check_cuda(cudaEventSynchronize(event), "cudaEventSynchronize");
  while (true) {
    const cudaError_t status = cudaEventQuery(event);
    if (status != cudaErrorNotReady) return check_cuda(status, "cudaEventQuery");
    watch_();
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

std::unique_ptr<PendingRead> CudaDevice::read_later(const void* device, std::size_t bytes) {
  BERT_CHECK(!recording_ && bytes <= kReadBytes, "{} bytes", bytes);
  if (read_buffers_.empty()) read_buffers_.push_back(std::make_unique<ReadBuffer>());
  std::unique_ptr<ReadBuffer> buffer = std::move(read_buffers_.back());
  read_buffers_.pop_back();
  check_cuda(cudaMemcpyAsync(buffer->host.data(), device, bytes, cudaMemcpyDeviceToHost, stream_),
             "cudaMemcpyAsync");
  check_cuda(cudaEventRecord(buffer->done, stream_), "cudaEventRecord");
  return std::make_unique<Read>(*this, std::move(buffer));
}

void CudaDevice::run_recorded(int key, const std::function<void()>& f) {
  const auto known = recordings_.find(key);
  if (known != recordings_.end()) {
    const std::shared_ptr<const Recording> recording = known->second;
    for (const Piece& piece : *recording) {
      check_cuda(cudaGraphLaunch(piece.graph, stream_), "cudaGraphLaunch");
      if (piece.then) piece.then();
    }
    return;
  }
  BERT_CHECK(recorded_ == nullptr, "a recording within another");
  // Asked beforehand: pieces that run cannot be taken back when one more does not fit.
  if (memory_available() < kLeastFreeToRecord) return f();
  recorded_ = std::make_unique<Recording>();
  try {
    begin_piece();
    f();
    end_piece({});
  } catch (...) {
    if (std::exchange(recording_, false)) {
      cudaGraph_t graph = nullptr;
      (void)cudaStreamEndCapture(stream_, &graph);
      if (graph != nullptr) (void)cudaGraphDestroy(graph);
      (void)cudaGetLastError();
    }
    recorded_.reset();
    throw;
  }
  recordings_.emplace(key, std::move(recorded_));
}

void CudaDevice::forget_recordings() {
  synchronize();  // they may be running
  recordings_.clear();
}

void CudaDevice::run_unrecorded(const std::function<void()>& g) {
  if (!recording_) return g();
  end_piece(g);
  g();
  begin_piece();
}

void CudaDevice::begin_piece() {
  check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
             "cudaStreamBeginCapture");
  recording_ = true;
}

// Ends what begin_piece began, and queues it.
void CudaDevice::end_piece(std::function<void()> then) {
  recording_ = false;
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  (void)cudaGraphDestroy(graph);
  check_cuda(status, "cudaGraphInstantiate");
  recorded_->emplace_back(executable, std::move(then));
  check_cuda(cudaGraphLaunch(executable, stream_), "cudaGraphLaunch");
}

}  // namespace bert
