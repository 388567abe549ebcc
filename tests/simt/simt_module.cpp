// A bert_cuda_backend.so without a GPU: its "GPU" is the SIMT harness. Beside a copy of `train` it
// lets the whole program run as on a GPU, kernels included (tests/train/gpu_training_test.cpp).
#include <cstdlib>

#include "kernels/cuda_module_entry.h"
#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "tests/simt/simt_ops.h"

namespace bert {
namespace {

// The CPU's memory behind the manners of a GPU: while work is recorded, nothing is copied.
class HarnessDevice final : public Device {
 public:
  std::string name() const override { return "SIMT harness"; }
  bool is_cpu() const override { return false; }
  void* allocate(std::size_t bytes) override {
    check_not_recording();
    return memory_->allocate(bytes);
  }
  void free(void* pointer) override { memory_->free(pointer); }
  void fill_zero(void* pointer, std::size_t bytes) override { memory_->fill_zero(pointer, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) override {
    memory_->copy(to, from, bytes);
  }
  void copy_from_host(void* device, const void* host, std::size_t bytes) override {
    check_not_recording();
    memory_->copy_from_host(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    check_not_recording();
    memory_->copy_to_host(host, device, bytes);
  }
  void synchronize() override { check_not_recording(); }
  void run_recorded(int /*key*/, const std::function<void()>& f) override {
    check_not_recording();
    recording_ = true;
    f();
    recording_ = false;
  }

 private:
  void check_not_recording() const { BERT_CHECK(!recording_, "this cannot be recorded"); }

  std::unique_ptr<Device> memory_ = make_cpu_device();
  bool recording_ = false;
};

// Sums each piece as soon as it is started, as late ones may be after finish().
class HarnessAllReducer final : public AllReducer {
 public:
  HarnessAllReducer(Communicator& communicator, DType dtype)
      : communicator_(communicator), dtype_(dtype) {}
  std::string name() const override { return fmt::format("test, {}", dtype_name(dtype_)); }
  void start(const Tensor& piece) override {
    round(piece);
    communicator_.all_reduce_sum(piece);
    round(piece);
  }
  void finish() override {}

 private:
  void round(const Tensor& piece) const {
    if (dtype_ != DType::bf16) return;
    auto* const values = piece.data<float>();
    for (std::int64_t i = 0; i < piece.numel(); ++i) {
      values[i] = static_cast<float>(Bfloat16(values[i]));
    }
  }

  Communicator& communicator_;
  DType dtype_;
};

}  // namespace
}  // namespace bert

extern "C" {

bool bert_open_cuda_backend(const bert::CudaOptions& options, bert::CudaBackend& backend,
                            std::string& why_not) {
  if (std::getenv("BERT_TEST_NO_GPU") != nullptr) {
    why_not = "the test wants none";
    return false;
  }
  if (std::getenv("BERT_TEST_BROKEN_GPU") != nullptr) {
    bert::throw_runtime_error("cudaMalloc failed on GPU {}: out of memory", options.device);
  }
  // "Chosen" at the first start, and the same ever after.
  static std::string choices = "chosen";
  backend.product_choices = [] { return choices; };
  backend.set_product_choices = [](const std::string& given) {
    if (std::getenv("BERT_TEST_OTHER_GPU") != nullptr) return false;
    choices = given + ", resumed";
    return true;
  };
  backend.device = std::make_unique<bert::HarnessDevice>();
  if (options.fp8) {
    const bool old = std::getenv("BERT_TEST_OLD_GPU") != nullptr;
    bert::simt::check_float8_support(old ? 8 : 9, 0, backend.device->name());
  }
  backend.ops = bert::simt::make_simt_ops(options.dtype, *backend.device, true, options.fp8);
  return true;
}

void bert_make_nccl_all_reducer(bert::Device&, bert::Communicator& communicator, bert::DType dtype,
                                std::unique_ptr<bert::AllReducer>& reducer) {
  reducer = std::make_unique<bert::HarnessAllReducer>(communicator, dtype);
}

}  // extern "C"
