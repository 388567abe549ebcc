#include "tests/runtime/fake_cuda.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace {

using Work = std::function<void()>;

// Memory of the "GPU", told from the host's.
std::map<void*, std::size_t>& allocations() {
  static std::map<void*, std::size_t> all;
  return all;
}

std::vector<CUstream_st*>& streams() {
  static std::vector<CUstream_st*> all;
  return all;
}

}  // namespace

struct CUstream_st {
  std::deque<Work> queue;
  std::uint64_t queued = 0, done = 0;
  std::unique_ptr<std::vector<Work>> captured;  // while it captures

  void add(Work work) {
    if (captured) {
      captured->push_back(std::move(work));
    } else {
      queue.push_back(std::move(work));
      ++queued;
    }
  }
  bool step(bool even_stuck = false) {
    if (queue.empty() || (bert::test::fake_cuda().stuck && !even_stuck)) return false;
    const Work work = std::move(queue.front());
    queue.pop_front();
    work();
    ++done;
    return true;
  }
  void run_until(std::uint64_t number) {
    while (done < number && step()) {
    }
  }
};
struct CUevent_st {
  CUstream_st* stream = nullptr;  // null: never recorded, so nothing to wait for
  std::uint64_t number = 0;
  bool done() const { return stream == nullptr || stream->done >= number; }
};
struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};

namespace bert::test {

FakeCuda& fake_cuda() {
  static FakeCuda state;
  return state;
}

void queue_on(cudaStream_t stream, Work work) { stream->add(std::move(work)); }

namespace {

void run_all() {
  for (CUstream_st* stream : streams()) stream->run_until(stream->queued);
}

// Nobody may wait for a stream that captures.
bool capturing() {
  return std::any_of(streams().begin(), streams().end(),
                     [](const CUstream_st* stream) { return stream->captured != nullptr; });
}

cudaError_t never_done() {
  fake_cuda().hung = true;
  return cudaErrorLaunchTimeout;
}

// Where pinned memory begins, and how many bytes it has.
std::map<const char*, std::size_t>& pinned() {
  static std::map<const char*, std::size_t> blocks;
  return blocks;
}
bool is_pinned(const void* pointer) {
  const auto* const byte = static_cast<const char*>(pointer);
  const auto after = pinned().upper_bound(byte);
  if (after == pinned().begin()) return false;
  const auto& [begin, bytes] = *std::prev(after);
  return byte < begin + bytes;
}

}  // namespace
}  // namespace bert::test

using bert::test::capturing;
using bert::test::fake_cuda;
using bert::test::is_pinned;
using bert::test::never_done;
using bert::test::pinned;

extern "C" {

void fake_cuda_queue(cudaStream_t stream, void (*work)(void*), void* argument) {
  stream->add([work, argument] { work(argument); });
}

// --- Devices and errors --------------------------------------------------------------------------
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "some error";
}
const char* cudaGetErrorName(cudaError_t) { return "cudaErrorOfTheTest"; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = fake_cuda().gpus;
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "Stand-in");
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = std::size_t{2} << 30;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

// --- Memory --------------------------------------------------------------------------------------
cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  std::size_t used = 0;
  for (const auto& [address, size] : allocations()) used += size;
  if (used + bytes > fake_cuda().memory) return cudaErrorMemoryAllocation;
  *pointer = std::malloc(bytes);
  std::memset(*pointer, 0xA5, bytes);
  allocations()[*pointer] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  bert::test::run_all();
  allocations().erase(pointer);
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = fake_cuda().memory;
  for (const auto& [address, size] : allocations()) *free -= size;
  *total = fake_cuda().memory;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  *pointer = std::malloc(bytes);
  pinned()[static_cast<const char*>(*pointer)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  pinned().erase(static_cast<const char*>(pointer));
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream) {
  stream->add([=] { std::memset(pointer, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  stream->add([=] { std::memcpy(to, from, bytes); });
  // From memory that is not pinned CUDA may wait, to such memory it does.
  if (kind != cudaMemcpyDeviceToHost || is_pinned(to) || stream->captured != nullptr) {
    return cudaSuccess;
  }
  if (fake_cuda().stuck) return never_done();
  stream->run_until(stream->queued);
  return cudaSuccess;
}

// --- Streams and events --------------------------------------------------------------------------
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = new CUstream_st;
  streams().push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  while (stream->step(true)) {
  }
  streams().erase(std::find(streams().begin(), streams().end(), stream));
  // Others may still wait for what it has done.
  static std::vector<std::unique_ptr<CUstream_st>> ended;
  ended.emplace_back(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (capturing()) return cudaErrorStreamCaptureUnsupported;
  stream->run_until(stream->queued);
  return stream->queue.empty() ? cudaSuccess : never_done();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event->stream == nullptr) return cudaSuccess;
  stream->add([from = event->stream, number = event->number] { from->run_until(number); });
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (stream->captured) return cudaErrorStreamCaptureUnsupported;  // nothing here has a need of it
  *event = {stream, stream->queued};
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (!event->done()) event->stream->step();
  return event->done() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->stream != nullptr) event->stream->run_until(event->number);
  return event->done() ? cudaSuccess : never_done();
}

// --- Graphs --------------------------------------------------------------------------------------
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->captured) return cudaErrorIllegalState;
  stream->captured = std::make_unique<std::vector<Work>>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!stream->captured) return cudaErrorIllegalState;
  *graph = new CUgraph_st{std::move(*stream->captured)};
  stream->captured.reset();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  ++fake_cuda().live_graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  --fake_cuda().live_graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (stream->captured) return cudaErrorStreamCaptureUnsupported;
  for (const Work& work : executable->work) stream->add(work);
  ++fake_cuda().graph_launches;
  return cudaSuccess;
}

}  // extern "C"
