#include "runtime/nccl_all_reducer.h"

#include <cstring>
#include <exception>
#include <string>
#include <type_traits>

#include <dlfcn.h>
#include <nccl.h>

#include "runtime/error.h"

namespace bert {
namespace {

// The functions of libnccl.so.2 that are needed: opened at run time, so that one GPU needs no NCCL.
struct Nccl {
  decltype(&ncclGetVersion) get_version;
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRank) comm_init_rank;
  decltype(&ncclCommAbort) comm_abort;
  decltype(&ncclCommDestroy) comm_destroy;
  decltype(&ncclCommGetAsyncError) comm_get_async_error;
  decltype(&ncclAllReduce) all_reduce;
  decltype(&ncclGetErrorString) get_error_string;
  decltype(&ncclGetLastError) get_last_error;

  Nccl() {
    void* library = ::dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* why = ::dlerror();
      throw_runtime_error(
          "several ranks on GPUs need NCCL, which cannot be loaded: {}; install libnccl2, or name "
          "its folder in LD_LIBRARY_PATH",
          why != nullptr ? why : "unknown error");
    }
    const auto find = [&](auto& function, const char* name) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
      if (function == nullptr) throw_runtime_error("libnccl.so.2 has no {}", name);
    };
    find(get_version, "ncclGetVersion");
    find(get_unique_id, "ncclGetUniqueId");
    find(comm_init_rank, "ncclCommInitRank");
    find(comm_abort, "ncclCommAbort");
    find(comm_destroy, "ncclCommDestroy");
    find(comm_get_async_error, "ncclCommGetAsyncError");
    find(all_reduce, "ncclAllReduce");
    find(get_error_string, "ncclGetErrorString");
    find(get_last_error, "ncclGetLastError");
  }
};

class NcclAllReducer final : public AllReducer {
 public:
  NcclAllReducer(CudaDevice& device, Communicator& communicator, DType dtype,
                 const Bfloat16Kernels& kernels)
      : device_(device), rank_(communicator.rank()), dtype_(dtype), kernels_(kernels) {
    BERT_CHECK(dtype == DType::f32 || dtype == DType::i64 ||
               (dtype == DType::bf16 && kernels.narrow && kernels.widen));
    int version = 0;
    check(nccl_.get_version(&version), "ncclGetVersion");
    name_ = fmt::format("NCCL {}.{}.{}, {}", version / 10000, version / 100 % 100, version % 100,
                        dtype_name(dtype));
    ncclUniqueId id{};
    std::string bytes;
    if (communicator.is_root()) {
      check(nccl_.get_unique_id(&id), "ncclGetUniqueId");
      bytes.assign(id.internal, sizeof id.internal);
    }
    communicator.broadcast(bytes);
    BERT_CHECK(bytes.size() == sizeof id.internal);
    std::memcpy(id.internal, bytes.data(), bytes.size());
    check(nccl_.comm_init_rank(&comm_, communicator.size(), id, rank_), "ncclCommInitRank");
    // A GPU waits for the others without end; whether they still come, only the host is told.
    device_.watch([this] { check_asynchronous(); });
  }

  // An orderly end waits for all ranks; after a failure there is nobody to wait for.
  ~NcclAllReducer() override {
    device_.watch({});
    if (comm_ == nullptr) return;
    if (std::uncaught_exceptions() > 0 || pending_ || failed_ ||
        cudaStreamSynchronize(stream_) != cudaSuccess) {
      (void)nccl_.comm_abort(comm_);
    } else {
      (void)nccl_.comm_destroy(comm_);
    }
  }

  std::string name() const override { return name_; }

  void start(const Tensor& piece) override {
    check_asynchronous();
    pending_ = true;
    const std::int64_t count = piece.numel();
    check_cuda(cudaEventRecord(ready_, device_.stream()), "cudaEventRecord");
    check_cuda(cudaStreamWaitEvent(stream_, ready_, 0), "cudaStreamWaitEvent");
    if (piece.dtype() == DType::f64) return all_reduce(piece.raw(), count, ncclFloat64);
    if (piece.dtype() == DType::i64) return all_reduce(piece.raw(), count, ncclInt64);
    auto* const values = piece.data<float>();
    if (dtype_ == DType::f32) return all_reduce(values, count, ncclFloat32);
    const std::size_t bytes = static_cast<std::size_t>(count) * dtype_size(DType::bf16);
    if (bytes > narrow_.bytes()) {
      // Earlier pieces may still travel from the old memory.
      check_cuda(cudaEventRecord(done_, stream_), "cudaEventRecord");
      device_.wait(done_);
      narrow_ = DeviceBuffer(device_, bytes);
    }
    kernels_.narrow(values, narrow_.data(), count, stream_);
    all_reduce(narrow_.data(), count, ncclBfloat16);
    kernels_.widen(narrow_.data(), values, count, stream_);
  }

  void finish() override {
    if (!pending_) return;
    check_cuda(cudaEventRecord(done_, stream_), "cudaEventRecord");
    check_cuda(cudaStreamWaitEvent(device_.stream(), done_, 0), "cudaStreamWaitEvent");
    pending_ = false;
  }

 private:
  void all_reduce(void* values, std::int64_t count, ncclDataType_t type) {
    check(nccl_.all_reduce(values, values, static_cast<std::size_t>(count), type, ncclSum, comm_,
                           stream_),
          "ncclAllReduce");
  }

  // What went wrong since the last call, e.g. a rank that died.
  void check_asynchronous() {
    ncclResult_t status = ncclSuccess;
    check(nccl_.comm_get_async_error(comm_, &status), "ncclCommGetAsyncError");
    failed_ = failed_ || status != ncclSuccess;
    check(status, "an earlier collective of NCCL");
  }

  void check(ncclResult_t status, const char* call) const {
    if (status == ncclSuccess) return;
    const char* more = nccl_.get_last_error(comm_);
    throw_runtime_error("{} failed on rank {}, GPU {}: {}{}{}", call, rank_, device_.index(),
                        nccl_.get_error_string(status), more != nullptr && *more ? ": " : "",
                        more != nullptr ? more : "");
  }

  CudaDevice& device_;
  int rank_;
  DType dtype_;
  Bfloat16Kernels kernels_;
  Nccl nccl_;
  std::string name_;
  ncclComm_t comm_ = nullptr;
  CudaStream stream_{/*urgent=*/true};
  CudaEvent ready_, done_;
  DeviceBuffer narrow_;  // one piece; the stream uses it for one after another
  bool pending_ = false, failed_ = false;
};

}  // namespace

std::unique_ptr<AllReducer> make_nccl_all_reducer(CudaDevice& device, Communicator& communicator,
                                                  DType dtype, const Bfloat16Kernels& kernels) {
  return std::make_unique<NcclAllReducer>(device, communicator, dtype, kernels);
}

}  // namespace bert
