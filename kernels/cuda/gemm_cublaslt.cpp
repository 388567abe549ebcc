// cuBLASLt is column-major: a row-major [r, c] is its [c, r] with leading dimension c. So the
// product d = op(a) op(b) is computed as d^T = op(b)^T op(a)^T: b's memory is the library's A, a's
// its B, and m and n change places. A bias is then along rows of its D, as the library has it; the
// gradient of a bias, the sums of op(a) along k, is along columns of its D and comes from its B.
//
// What is fixed for a shape is kept in a Plan: descriptors, layouts and how to compute. Bias and
// auxiliary pointers are set at each call. Whether an epilogue is worth it, which it is not for
// every shape, is kept beside the plans, under the key of the call that has the epilogue.
//
// Micro-batches come in many sizes (train/step/device_batch.h), too many to time the candidates of
// each product for all of them. What was chosen by measuring serves shapes that differ in their
// number of rows only, as far as the library can: it is asked, and what it then refuses when it is
// to run, which cublasLt.h leaves open, it computes as it proposes itself.
#include "kernels/cuda/gemm_cublaslt.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <compare>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include <cublasLt.h>
#include <fmt/format.h>

#include "runtime/error.h"

namespace bert::cuda {
namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;
constexpr int kCandidates = 16;
constexpr int kRounds = 3, kRepetitions = 3;  // of timing
constexpr double kWorthwhile = 0.99;          // of the time of what was proposed earlier
constexpr double kNear = 1.5;                 // times the rows: not worth choosing anew
constexpr int kChoicesFormat = 3;             // of the text for checkpoints
constexpr const char* kFused = "fused";
constexpr const char* kApart = "apart";

// --- Names and descriptions ----------------------------------------------------------------------
const char* epilogue_name(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::none:
      return "no epilogue";
    case Epilogue::bias:
      return "bias";
    case Epilogue::gelu_new_aux_bias:
      return "gelu_new_aux_bias";
    case Epilogue::dgelu_new:
      return "dgelu_new";
    case Epilogue::bias_gradient:
      return "bias_gradient";
  }
  return "?";
}

std::string describe(const GemmCall& call) {
  return fmt::format("{}{} by {}{} to {} ({}{})", call.a.shape_string(),
                     call.transpose_a ? " transposed" : "", call.b.shape_string(),
                     call.transpose_b ? " transposed" : "", call.d.shape_string(),
                     epilogue_name(call.epilogue), call.beta != 0.0f ? ", added" : "");
}

void check_cublaslt(cublasStatus_t status, const char* function, const std::string& what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw_runtime_error("{} failed for {}: {}", function, what, cublasLtGetStatusName(status));
}

void check_cuda(cudaError_t status, const char* function) {
  if (status == cudaSuccess) return;
  throw_runtime_error("{} failed while a product was chosen: {}", function,
                      cudaGetErrorString(status));
}

// --- Owned handles -------------------------------------------------------------------------------
template <auto kDestroy>
struct Destroy {
  template <typename T>
  void operator()(T* handle) const {
    (void)kDestroy(handle);
  }
};
template <typename Handle, auto kDestroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<kDestroy>>;

using LtHandle = Owned<cublasLtHandle_t, cublasLtDestroy>;
using MatmulDesc = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;

Event make_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "cudaEventCreate");
  return Event(event);
}

template <typename T>
void set(const MatmulDesc& desc, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check_cublaslt(cublasLtMatmulDescSetAttribute(desc.get(), attribute, &value, sizeof value),
                 "cublasLtMatmulDescSetAttribute", fmt::format("attribute {}", int{attribute}));
}

template <typename T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value) {
  check_cublaslt(
      cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value),
      "cublasLtMatmulPreferenceSetAttribute", fmt::format("attribute {}", int{attribute}));
}

cudaDataType_t type_of(const Tensor& x) {
  switch (x.dtype()) {
    case DType::f32:
      return CUDA_R_32F;
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::e4m3:
      return CUDA_R_8F_E4M3;
    case DType::e5m2:
      return CUDA_R_8F_E5M2;
    default:
      throw_runtime_error("a product of {}", x.shape_string());
  }
}

// The library's view of a row-major matrix.
Layout layout_of(const Tensor& x) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_cublaslt(
      cublasLtMatrixLayoutCreate(&layout, type_of(x), static_cast<std::uint64_t>(x.dim(1)),
                                 static_cast<std::uint64_t>(x.dim(0)), x.dim(1)),
      "cublasLtMatrixLayoutCreate", x.shape_string());
  return Layout(layout);
}

// --- Shapes --------------------------------------------------------------------------------------
// The bytes that an address is surely a multiple of; no algorithm asks for more than 16.
std::int64_t alignment_of(const Tensor& x) {
  const auto address = reinterpret_cast<std::uintptr_t>(x.raw());
  return static_cast<std::int64_t>(std::min<std::uintptr_t>(address & (~address + 1), 16));
}

// All that the choice of an algorithm depends on.
struct Key {
  std::array<std::int64_t, 15> values{};
  std::size_t rows_at() const { return values[3] != 0 ? 2 : 0; }  // sums_rows: k, otherwise m
  std::int64_t rows() const { return values[rows_at()]; }
  auto operator<=>(const Key&) const = default;
};

Key key_of(const GemmCall& call) {
  return {{call.d.dim(0), call.d.dim(1), call.a.dim(call.transpose_a ? 0 : 1), call.sums_rows,
           call.transpose_a, call.transpose_b, static_cast<std::int64_t>(call.a.dtype()),
           static_cast<std::int64_t>(call.d.dtype()), call.beta != 0.0f,
           static_cast<std::int64_t>(call.epilogue), alignment_of(call.a), alignment_of(call.b),
           alignment_of(call.d), alignment_of(call.bias), alignment_of(call.aux)}};
}

// How many times as many rows the one of two products has that has more; nothing, where they differ
// in anything else.
std::optional<double> distance(const Key& a, Key b) {
  const double ratio = static_cast<double>(a.rows()) / static_cast<double>(b.rows());
  b.values[b.rows_at()] = a.rows();
  if (a != b) return std::nullopt;
  return std::max(ratio, 1.0 / ratio);
}

// The value of the key that is nearest to `key`, if one is no further than `most`; of two, the
// smaller key's.
template <typename T>
const T* nearest(const std::map<Key, T>& known, const Key& key, double most) {
  const T* found = nullptr;
  for (const auto& [other, value] : known) {
    const std::optional<double> far = distance(key, other);
    if (!far || *far > most || (found != nullptr && *far == most)) continue;
    most = *far;
    found = &value;
  }
  return found;
}

void check_shapes(const GemmCall& call) {
  const std::int64_t m = call.d.dim(0), n = call.d.dim(1);
  const std::int64_t k = call.a.dim(call.transpose_a ? 0 : 1);
  BERT_CHECK(call.a.dim(call.transpose_a ? 1 : 0) == m &&
                 call.b.dim(call.transpose_b ? 1 : 0) == k &&
                 call.b.dim(call.transpose_b ? 0 : 1) == n && m > 0 && n > 0 && k > 0,
             "{}", describe(call));
  if (!is_float8(call.a.dtype())) {
    BERT_CHECK(call.a.dtype() == call.b.dtype(), "{}", describe(call));
    return;
  }
  // What cuBLASLt asks of FP8: both operands along k ("TN"), dimensions and addresses multiples of
  // 16 bytes, not e5m2 by e5m2, and scales.
  BERT_CHECK(call.b.dtype() == DType::e4m3 && !call.transpose_a && call.transpose_b &&
                 n % 16 == 0 && k % 16 == 0 && call.a_scale != nullptr && call.b_scale != nullptr &&
                 alignment_of(call.a) == 16 && alignment_of(call.b) == 16 &&
                 alignment_of(call.d) == 16,
             "{}", describe(call));
}

struct Plan {
  MatmulDesc desc{};
  Layout a{}, b{}, d{};                            // the library's A, B and D
  std::vector<cublasLtMatmulAlgo_t> candidates{};  // empty: not supported; chosen: one
  bool chosen = false, untried = false;            // untried: chosen elsewhere, not run here yet
};

std::string to_hex(const cublasLtMatmulAlgo_t& algo) {
  std::string text;
  for (const std::uint64_t word : algo.data) text += fmt::format("{:016x}", word);
  return text;
}

bool from_hex(const std::string& text, cublasLtMatmulAlgo_t& algo) {
  if (text.size() != 16 * std::size(algo.data)) return false;
  const char* at = text.data();
  for (std::uint64_t& word : algo.data) {
    const auto [end, error] = std::from_chars(at, at + 16, word, 16);
    if (error != std::errc() || end != at + 16) return false;
    at += 16;
  }
  return true;
}

// --- The product ---------------------------------------------------------------------------------
class CublasLtGemm final : public Gemm {
 public:
  CublasLtGemm(Device& device, bool tf32, bool measure)
      : device_(&device), tf32_(tf32), measure_(measure), workspace_(device, kWorkspaceBytes) {
    cublasLtHandle_t handle = nullptr;
    check_cublaslt(cublasLtCreate(&handle), "cublasLtCreate", device.name());
    handle_.reset(handle);
    cublasLtMatmulPreference_t preference = nullptr;
    check_cublaslt(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate",
                   device.name());
    preference_.reset(preference);
    set(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  }

  bool fuses(const GemmCall& call) const override {
    if (call.epilogue == Epilogue::none) return true;
    if (call.epilogue == Epilogue::gelu_new_aux_bias || call.epilogue == Epilogue::dgelu_new) {
      // Leading dimension of the auxiliary matrix: a multiple of 8, says cublasLt.h.
      if (call.d.dim(1) % 8 != 0 || alignment_of(call.aux) < 16) return false;
      // The library's GELU is approximate (gemm_cublaslt.h).
      if (call.a.dtype() == DType::f32 && !tf32_) return false;
    }
    return !plan_for(call).candidates.empty();
  }

  bool worth_fusing(const GemmCall& fused, const GemmCall& plain, const Rest& rest,
                    cudaStream_t stream) override {
    if (!fuses(fused)) return false;
    const Key key = key_of(fused);
    if (const auto known = worth_fusing_.find(key); known != worth_fusing_.end()) {
      return known->second;
    }
    if (const bool* const near = nearest(worth_fusing_, key, reach())) {
      const bool fuse = *near;
      if (!stopped_) worth_fusing_[key] = fuse;
      return fuse;
    }
    if (!may_measure(stream)) return worth_fusing_[key] = true;
    Plan& fused_plan = chosen_plan_for(fused, stream);
    Plan& plain_plan = chosen_plan_for(plain, stream);
    const OwnOutput output(*device_, fused.d);
    const std::size_t fastest =
        find_fastest({[&] { return multiply(fused, output.d, fused_plan, stream); },
                      [&] {
                        const cublasStatus_t status = multiply(plain, output.d, plain_plan, stream);
                        rest(output.d);
                        return status;
                      }},
                     stream);
    worth_fusing_[key] = fastest == 0;
    return fastest == 0;
  }

  void run(const GemmCall& call, cudaStream_t stream) override {
    Plan& plan = chosen_plan_for(call, stream);
    cublasStatus_t status = multiply(call, call.d, plan, stream);
    const bool untried = std::exchange(plan.untried, false);
    if (untried &&
        (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE)) {
      plan.candidates = propose(call, plan);
      plan.chosen = false;
      chosen_.erase(key_of(call));
      status = multiply(call, call.d, chosen_plan_for(call, stream), stream);
    }
    check_cublaslt(status, "cublasLtMatmul", describe(call));
  }

  std::string choices() const override {
    std::string text = header() + "\n";
    for (const auto& [key, algo] : chosen_) {
      for (const std::int64_t value : key.values) text += fmt::format("{} ", value);
      text += to_hex(algo) + "\n";
    }
    for (const auto& [key, fused] : worth_fusing_) {
      for (const std::int64_t value : key.values) text += fmt::format("{} ", value);
      text += fmt::format("{}\n", fused ? kFused : kApart);
    }
    return text;
  }

  bool set_choices(const std::string& choices) override {
    std::istringstream lines(choices);
    std::string line;
    if (!std::getline(lines, line) || line != header()) return false;
    std::map<Key, cublasLtMatmulAlgo_t> chosen;
    std::map<Key, bool> worth_fusing;
    for (int number = 2; std::getline(lines, line); ++number) {
      std::istringstream fields(line);
      Key key;
      for (std::int64_t& value : key.values) fields >> value;
      std::string choice, more;
      fields >> choice;
      const bool complete = fields && !(fields >> more);
      cublasLtMatmulAlgo_t algo{};
      if (complete && (choice == kFused || choice == kApart)) {
        worth_fusing[key] = choice == kFused;
      } else if (complete && from_hex(choice, algo)) {
        chosen[key] = algo;
      } else {
        throw_input_error(
            "line {} of the products' algorithms is \"{}\"; expected {} numbers, and {} digits, "
            "\"{}\" or \"{}\"",
            number, line, key.values.size(), 16 * std::size(algo.data), kFused, kApart);
      }
    }
    chosen_ = std::move(chosen);
    worth_fusing_ = std::move(worth_fusing);
    plans_.clear();
    return true;
  }

  void stop_choosing() override { stopped_ = true; }

 private:
  // Algorithms are those of one version of the library on one kind of GPU.
  std::string header() const {
    return fmt::format("products {} cublaslt {}{} {}", kChoicesFormat, cublasLtGetVersion(),
                       tf32_ ? " tf32" : "", device_->name());
  }

  // The plan of the call's shape, made at its first use. Sets its pointers to this call's.
  Plan& plan_for(const GemmCall& call) const {
    check_shapes(call);
    const auto [found, is_new] = plans_.try_emplace(key_of(call));
    Plan& plan = found->second;
    if (is_new) describe_to_library(call, plan);
    if (call.bias) set(plan.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.bias.raw());
    if (call.aux) set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, call.aux.raw());
    if (is_float8(call.a.dtype())) {
      set(plan.desc, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, call.b_scale);
      set(plan.desc, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, call.a_scale);
    }
    // Asked with the pointers in place: their alignment is part of the question.
    if (is_new) find_candidates(call, plan);
    return plan;
  }

  // What was chosen for the shape before, or for its nearest neighbour, or what the library
  // proposes.
  void find_candidates(const GemmCall& call, Plan& plan) const {
    const cublasLtMatmulAlgo_t* const near = nearest(chosen_, key_of(call), std::max(1.0, reach()));
    plan.chosen = plan.untried = near != nullptr && supports(plan, *near);
    plan.candidates = plan.chosen ? std::vector{*near} : propose(call, plan);
  }

  void describe_to_library(const GemmCall& call, Plan& plan) const {
    const bool fast = tf32_ && call.a.dtype() == DType::f32;
    cublasLtMatmulDesc_t desc = nullptr;
    check_cublaslt(cublasLtMatmulDescCreate(
                       &desc, fast ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
                   "cublasLtMatmulDescCreate", describe(call));
    plan.desc.reset(desc);
    // FP8: CUBLASLT_MATMUL_DESC_FAST_ACCUM stays off, so partial sums go on to f32.
    set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, call.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSB, call.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    plan.a = layout_of(call.b);
    plan.b = layout_of(call.a);
    plan.d = layout_of(call.d);
    switch (call.epilogue) {
      case Epilogue::none:
        break;
      case Epilogue::bias:
        set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
        break;
      case Epilogue::gelu_new_aux_bias:
        set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX_BIAS);
        break;
      case Epilogue::dgelu_new:
        set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DGELU);
        break;
      case Epilogue::bias_gradient:
        set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BGRADB);
        break;
    }
    if (call.bias) set(plan.desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(call.bias));
    if (call.aux) {
      set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, call.aux.dim(1));
      set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, type_of(call.aux));
    }
  }

  // Whether the library can compute a product in this way.
  bool supports(const Plan& plan, const cublasLtMatmulAlgo_t& algo) const {
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status =
        cublasLtMatmulAlgoCheck(handle_.get(), plan.desc.get(), plan.a.get(), plan.b.get(),
                                plan.d.get(), plan.d.get(), &algo, &result);
    return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= kWorkspaceBytes;
  }

  // What the library can do, by its own expectation the fastest first.
  std::vector<cublasLtMatmulAlgo_t> propose(const GemmCall& call, Plan& plan) const {
    const auto alignment = [](const Tensor& x) {
      return static_cast<std::uint32_t>(alignment_of(x));
    };
    set(preference_, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(call.b));
    set(preference_, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(call.a));
    set(preference_, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(call.d));
    set(preference_, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(call.d));
    // Parts of a sum are never added up in bf16.
    const std::uint32_t reductions =
        CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE |
        (call.d.dtype() == DType::f32 ? CUBLASLT_REDUCTION_SCHEME_INPLACE : 0);
    set(preference_, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
    std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results{};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_.get(), plan.desc.get(), plan.a.get(), plan.b.get(), plan.d.get(), plan.d.get(),
        preference_.get(), kCandidates, results.data(), &count);
    std::vector<cublasLtMatmulAlgo_t> candidates;
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
      return candidates;
    }
    check_cublaslt(status, "cublasLtMatmulAlgoGetHeuristic", describe(call));
    for (int i = 0; i < count; ++i) {
      const cublasLtMatmulHeuristicResult_t& result = results[static_cast<std::size_t>(i)];
      if (result.state == CUBLAS_STATUS_SUCCESS) candidates.push_back(result.algo);
    }
    return candidates;
  }

  cublasStatus_t multiply(const GemmCall& call, const Tensor& d, const Plan& plan,
                          const cublasLtMatmulAlgo_t& algo, cudaStream_t stream) const {
    const float alpha = 1.0f;
    return cublasLtMatmul(handle_.get(), plan.desc.get(), &alpha, call.b.raw(), plan.a.get(),
                          call.a.raw(), plan.b.get(), &call.beta, d.raw(), plan.d.get(), d.raw(),
                          plan.d.get(), &algo, workspace_.data(), kWorkspaceBytes, stream);
  }
  cublasStatus_t multiply(const GemmCall& call, const Tensor& d, const Plan& chosen,
                          cudaStream_t stream) const {
    return multiply(call, d, chosen, chosen.candidates.front(), stream);
  }

  // The plan of the call's shape with one candidate; of several the fastest on these operands,
  // writing to memory of its own; without measuring, the library's first.
  Plan& chosen_plan_for(const GemmCall& call, cudaStream_t stream) {
    Plan& plan = plan_for(call);
    if (plan.candidates.empty()) {
      throw_runtime_error("cuBLASLt {} on {} has no algorithm for {}", cublasLtGetVersion(),
                          device_->name(), describe(call));
    }
    if (!plan.chosen) {
      std::size_t fastest = 0;
      if (may_measure(stream) && plan.candidates.size() > 1) {
        const OwnOutput output(*device_, call.d);
        std::vector<Way> ways;
        for (const cublasLtMatmulAlgo_t& algo : plan.candidates) {
          ways.push_back([&] { return multiply(call, output.d, plan, algo, stream); });
        }
        fastest = find_fastest(ways, stream);
      }
      plan.candidates = {plan.candidates[fastest]};
      plan.chosen = true;
    }
    // Those of neighbours too: who goes on from these choices finds the same neighbours.
    if (!stopped_) chosen_.try_emplace(key_of(call), plan.candidates.front());
    return plan;
  }

  bool may_measure(cudaStream_t stream) const {
    return measure_ && !stopped_ && !is_capturing(stream);
  }
  // How far away a neighbour may be whose way is taken.
  double reach() const {
    if (!measure_) return 1.0;  // none: the library's proposals are as good
    return stopped_ ? std::numeric_limits<double>::infinity() : kNear;
  }

  // --- Timing ---
  // A way to compute something: queues it.
  using Way = std::function<cublasStatus_t()>;

  // Memory that a result can be written to instead of `d`, finite from the beginning.
  struct OwnOutput {
    OwnOutput(Device& device, const Tensor& like)
        : memory(device, like.bytes()), d(memory.data(), like.dtype(), {like.dim(0), like.dim(1)}) {
      device.fill_zero(memory.data(), memory.bytes());
    }
    DeviceBuffer memory;
    Tensor d;
  };

  static bool is_capturing(cudaStream_t stream) {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    check_cuda(cudaStreamIsCapturing(stream, &capture), "cudaStreamIsCapturing");
    return capture != cudaStreamCaptureStatusNone;
  }

  // The first way that no later one is clearly faster than.
  static std::size_t find_fastest(const std::vector<Way>& ways, cudaStream_t stream) {
    const std::vector<float> times = measure(ways, stream);
    std::size_t fastest = 0;
    for (std::size_t i = 1; i < times.size(); ++i) {
      if (times[i] < kWorthwhile * times[fastest]) fastest = i;
    }
    return fastest;
  }

  // Milliseconds of each way, the best of some rounds; infinite for one that fails.
  static std::vector<float> measure(const std::vector<Way>& ways, cudaStream_t stream) {
    const Event start = make_event(), stop = make_event();
    std::vector<float> times(ways.size(), 0.0f);
    for (int round = 0; round <= kRounds; ++round) {  // round 0 warms up
      for (std::size_t i = 0; i < times.size(); ++i) {
        if (times[i] == kFailed) continue;
        check_cuda(cudaEventRecord(start.get(), stream), "cudaEventRecord");
        for (int repetition = 0; repetition < kRepetitions; ++repetition) {
          if (ways[i]() != CUBLAS_STATUS_SUCCESS) times[i] = kFailed;
        }
        check_cuda(cudaEventRecord(stop.get(), stream), "cudaEventRecord");
        check_cuda(cudaEventSynchronize(stop.get()), "cudaEventSynchronize");
        float time = 0.0f;
        check_cuda(cudaEventElapsedTime(&time, start.get(), stop.get()), "cudaEventElapsedTime");
        if (times[i] != kFailed && (round <= 1 || time < times[i])) times[i] = time;
      }
    }
    return times;
  }

  static constexpr float kFailed = std::numeric_limits<float>::infinity();

  Device* device_;
  bool tf32_, measure_;
  DeviceBuffer workspace_;
  LtHandle handle_;
  Preference preference_;
  bool stopped_ = false;  // choosing
  // Here or where the choices come from.
  std::map<Key, cublasLtMatmulAlgo_t> chosen_;
  std::map<Key, bool> worth_fusing_;
  mutable std::map<Key, Plan> plans_;
};

}  // namespace

std::unique_ptr<Gemm> make_cublaslt_gemm(Device& device, bool tf32, bool measure) {
  return std::make_unique<CublasLtGemm>(device, tf32, measure);
}

}  // namespace bert::cuda
