// A bert_cuda_backend.so without a GPU: its "GPU" is the SIMT harness. Beside a copy of `train` it
// lets the whole program run as on a GPU, kernels included (tests/train/gpu_training_test.cpp).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include "kernels/cuda_module_entry.h"
#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "tests/simt/naive_gemm.h"
#include "tests/simt/simt_ops.h"
#include "tests/support/wrapped_device.h"

namespace bert {
namespace {

// The number in an environment variable, by which a test asks for something; `otherwise` without.
int asked_for(const char* variable, int otherwise) {
  const char* const value = std::getenv(variable);
  return value != nullptr ? std::atoi(value) : otherwise;
}

// The operands of the products of a recording. A GPU repeats the addresses that it recorded, where
// the harness does the work anew: it must be with the same ones.
struct RecordedProducts {
  using Operands = std::array<const void*, 3>;
  std::vector<Operands> all;
  std::size_t next = 0;
  bool replaying = false;

  void add(const GemmCall& call) {
    const Operands operands{call.a.raw(), call.b.raw(), call.d.raw()};
    if (!replaying) return all.push_back(operands);
    BERT_CHECK(next < all.size() && all[next] == operands, "other memory than was recorded");
    ++next;
  }
};
RecordedProducts* recorded_products = nullptr;  // of the recording that is made or run

// The CPU's memory behind the manners of a GPU: while work is recorded, nothing is copied, and what
// is called between the parts of a recording is what was given when it was made.
class HarnessDevice final : public WrappedDevice {
 public:
  std::string name() const override { return "SIMT harness"; }
  bool is_cpu() const override { return false; }
  void* allocate(std::size_t bytes) override {
    check_not_recording();
    return WrappedDevice::allocate(bytes);
  }
  void free(void* pointer) override {
    BERT_CHECK(between_ == nullptr, "memory is freed while something is recorded");
    forget_recordings();
    WrappedDevice::free(pointer);
  }
  void forget_recordings() override {
    recordings_.clear();
    products_.clear();
  }
  void copy_from_host(void* device, const void* host, std::size_t bytes) override {
    check_not_recording();
    WrappedDevice::copy_from_host(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    check_not_recording();
    WrappedDevice::copy_to_host(host, device, bytes);
  }
  void synchronize() override { check_not_recording(); }
  void run_recorded(int key, const std::function<void()>& f) override {
    check_not_recording();
    const bool known = recordings_.contains(key);
    between_ = &recordings_[key];
    replaying_ = known;
    next_ = 0;
    recorded_products = &products_[key];
    recorded_products->replaying = known;
    recorded_products->next = 0;
    recording_ = true;
    f();
    recording_ = false;
    BERT_CHECK(next_ == between_->size());
    BERT_CHECK(!known || recorded_products->next == recorded_products->all.size());
    between_ = nullptr;
    recorded_products = nullptr;
  }
  void run_unrecorded(const std::function<void()>& g) override {
    if (between_ == nullptr) return g();
    if (!replaying_) between_->push_back(g);
    recording_ = false;
    between_->at(next_++)();
    recording_ = true;
  }

 private:
  void check_not_recording() const { BERT_CHECK(!recording_, "this cannot be recorded"); }

  std::map<int, std::vector<std::function<void()>>> recordings_;
  std::map<int, RecordedProducts> products_;
  std::vector<std::function<void()>>* between_ = nullptr;  // of the recording that is made or run
  std::size_t next_ = 0;
  bool replaying_ = false, recording_ = false;
};

// Products that round in one way or another, as those of a library that chooses by measuring: for a
// number of rows that is new each GPU chooses a way of its own. Once choosing has ended, the
// nearest number's way is taken.
class ChoosingGemm final : public Gemm {
 public:
  explicit ChoosingGemm(int gpu)
      : own_way_(asked_for("BERT_TEST_CHOICE", gpu)), first_way_(own_way_) {}
  bool fuses(const GemmCall& call) const override { return plain_->fuses(call); }
  void run(const GemmCall& call, cudaStream_t stream) override {
    used_ = true;
    if (recorded_products != nullptr) recorded_products->add(call);
    plain_->run(call, stream);
    const int way = way_for(call.sums_rows ? call.b.dim(call.transpose_b ? 1 : 0) : call.d.dim(0));
    if (way % 2 == 0 || call.d.dtype() != DType::f32) return;
    auto* const values = call.d.data<float>();
    for (std::int64_t i = 0; i < call.d.numel(); ++i) values[i] = std::nextafter(values[i], 0.0f);
  }
  void stop_choosing() override { stopped_ = true; }
  std::string choices() const override {
    if (ways_.empty()) return "";
    std::string text = fmt::format("way {}", first_way_);
    for (const auto& [rows, way] : ways_) text += fmt::format(" {} {}", rows, way);
    return text;
  }
  bool set_choices(const std::string& choices) override {
    if (std::getenv("BERT_TEST_OTHER_GPU") != nullptr) return false;
    BERT_CHECK(choices.starts_with("way ") && !used_, "{}", choices);
    std::istringstream fields(choices.substr(4));
    fields >> first_way_;
    std::int64_t rows = 0;
    int way = 0;
    while (fields >> rows >> way) ways_[rows] = way;
    return true;
  }

 private:
  int way_for(std::int64_t rows) {
    const auto known = ways_.find(rows);
    if (known != ways_.end()) return known->second;
    if (!stopped_) return ways_[rows] = own_way_ + static_cast<int>(ways_.size());
    if (ways_.empty()) return own_way_;
    const auto distance = [rows](std::int64_t other) {
      const double ratio = static_cast<double>(rows) / static_cast<double>(other);
      return std::max(ratio, 1.0 / ratio);
    };
    return std::min_element(
               ways_.begin(), ways_.end(),
               [&](const auto& a, const auto& b) { return distance(a.first) < distance(b.first); })
        ->second;
  }

  std::unique_ptr<Gemm> plain_ = simt::make_naive_gemm(true);
  const int own_way_;
  int first_way_;                     // of who made the choices
  std::map<std::int64_t, int> ways_;  // by the number of rows
  bool used_ = false, stopped_ = false;
};

// Sums each piece as soon as it is started, as late ones may be after finish().
class HarnessAllReducer final : public AllReducer {
 public:
  HarnessAllReducer(Device& device, Communicator& communicator, DType dtype)
      : device_(device),
        communicator_(communicator),
        dtype_(dtype),
        starts_left_(communicator.rank() == asked_for("BERT_TEST_FAILING_RANK", -1) ? 20 : -1) {}
  std::string name() const override { return fmt::format("test, {}", dtype_name(dtype_)); }
  void start(const Tensor& piece) override {
    if (starts_left_ >= 0 && starts_left_-- == 0) {
      throw_runtime_error("ncclAllReduce failed on rank {}: unhandled system error",
                          communicator_.rank());
    }
    device_.synchronize();  // not while something is recorded
    round(piece);
    communicator_.all_reduce_sum(piece);
    round(piece);
  }
  void finish() override {}

 private:
  void round(const Tensor& piece) const {
    if (dtype_ != DType::bf16 || piece.dtype() != DType::f32) return;
    auto* const values = piece.data<float>();
    for (std::int64_t i = 0; i < piece.numel(); ++i) {
      values[i] = static_cast<float>(Bfloat16(values[i]));
    }
  }

  Device& device_;
  Communicator& communicator_;
  DType dtype_;
  int starts_left_;  // before it fails; negative: never
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
  auto gemm = std::make_unique<bert::ChoosingGemm>(options.device);
  backend.product_choices = [products = gemm.get()] { return products->choices(); };
  backend.set_product_choices = [products = gemm.get()](const std::string& choices) {
    return products->set_choices(choices);
  };
  backend.stop_choosing_products = [products = gemm.get()] { products->stop_choosing(); };
  backend.device = std::make_unique<bert::HarnessDevice>();
  if (options.fp8) {
    const bool old = std::getenv("BERT_TEST_OLD_GPU") != nullptr;
    bert::simt::check_float8_support(old ? 8 : 9, 0, backend.device->name());
  }
  backend.ops =
      bert::simt::make_simt_ops(options.dtype, *backend.device, std::move(gemm), options.fp8);
  return true;
}

void bert_make_nccl_all_reducer(bert::Device& device, bert::Communicator& communicator,
                                bert::DType dtype, std::unique_ptr<bert::AllReducer>& reducer) {
  reducer = std::make_unique<bert::HarnessAllReducer>(device, communicator, dtype);
}

}  // extern "C"
