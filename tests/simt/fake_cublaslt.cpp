#include "tests/simt/fake_cublaslt.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "tests/simt/float8_values.h"

namespace bert::test {

FakeCublasLt& fake_cublaslt() {
  static FakeCublasLt fake;
  return fake;
}

namespace {

// Attributes by their number, as bytes. The library's handles point to these.
struct Attributes {
  std::map<int, std::vector<unsigned char>> values{};

  void set(int attribute, const void* value, std::size_t bytes) {
    const auto* const first = static_cast<const unsigned char*>(value);
    values[attribute].assign(first, first + bytes);
  }
  template <typename T>
  T get(int attribute, T otherwise) const {
    const auto found = values.find(attribute);
    if (found == values.end()) return otherwise;
    BERT_CHECK(found->second.size() == sizeof(T), "attribute {} has {} bytes", attribute,
               found->second.size());
    T value;
    std::memcpy(&value, found->second.data(), sizeof value);
    return value;
  }
};

struct MatrixLayout {
  cudaDataType type;
  std::int64_t rows, columns, stride;
};

template <typename T, typename Handle>
T& as(Handle handle) {
  return *reinterpret_cast<T*>(handle);
}

bool is_fp8(cudaDataType type) { return type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2; }

double load(const void* memory, cudaDataType type, std::int64_t at) {
  if (is_fp8(type)) {
    return float8_value(static_cast<const std::uint8_t*>(memory)[at],
                        type == CUDA_R_8F_E4M3 ? DType::e4m3 : DType::e5m2);
  }
  if (type == CUDA_R_32F) return static_cast<const float*>(memory)[at];
  BERT_CHECK(type == CUDA_R_16BF);
  return static_cast<float>(static_cast<const Bfloat16*>(memory)[at]);
}
void store(void* memory, cudaDataType type, std::int64_t at, double value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(memory)[at] = static_cast<float>(value);
  } else {
    BERT_CHECK(type == CUDA_R_16BF);
    static_cast<Bfloat16*>(memory)[at] = Bfloat16(static_cast<float>(value));
  }
}

double gelu_tanh(double x) { return std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)); }
double gelu(double x) { return 0.5 * x * (1.0 + gelu_tanh(x)); }
double gelu_derivative(double x) {
  const double t = gelu_tanh(x);
  return 0.5 * (1.0 + t) +
         0.5 * x * (1.0 - t * t) * std::sqrt(2.0 / M_PI) * (1.0 + 3.0 * 0.044715 * x * x);
}

// What the documentation of cublasLtMatmul asks of FP8 products on Hopper: A transposed and B not,
// not e5m2 by e5m2, D in bf16 or f32, dimensions and leading dimensions of 16 bytes, sums and scale
// in f32. Of epilogues it has the bias only, so that kernels must do GELU: what the library has
// depends on its version.
bool supports_fp8(const Attributes& desc, const MatrixLayout& a, const MatrixLayout& b,
                  const MatrixLayout& d) {
  if (!is_fp8(a.type) && !is_fp8(b.type)) return true;
  const auto sixteen = [](const MatrixLayout& x, std::int64_t bytes) {
    return x.rows * bytes % 16 == 0 && x.stride * bytes % 16 == 0;
  };
  const auto epilogue = desc.get(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
  const auto bias = desc.get(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, d.type);
  return is_fp8(a.type) && is_fp8(b.type) &&
         (a.type == CUDA_R_8F_E4M3 || b.type == CUDA_R_8F_E4M3) &&
         desc.get(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N) == CUBLAS_OP_T &&
         desc.get(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N) == CUBLAS_OP_N &&
         desc.get(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, CUBLAS_COMPUTE_16F) == CUBLAS_COMPUTE_32F &&
         desc.get(CUBLASLT_MATMUL_DESC_SCALE_TYPE, CUDA_R_16F) == CUDA_R_32F &&
         (d.type == CUDA_R_16BF || d.type == CUDA_R_32F) && sixteen(a, 1) && sixteen(b, 1) &&
         sixteen(d, d.type == CUDA_R_32F ? 4 : 2) &&
         (epilogue == CUBLASLT_EPILOGUE_DEFAULT ||
          (epilogue == CUBLASLT_EPILOGUE_BIAS && bias == CUDA_R_16BF));
}

struct Operand {
  const void* memory;
  const MatrixLayout& layout;
  bool transposed;

  std::int64_t rows() const { return transposed ? layout.columns : layout.rows; }
  std::int64_t columns() const { return transposed ? layout.rows : layout.columns; }
  double operator()(std::int64_t i, std::int64_t j) const {
    return load(memory, layout.type, transposed ? j + i * layout.stride : i + j * layout.stride);
  }
};

}  // namespace
}  // namespace bert::test

using namespace bert::test;

// --- cuBLASLt ------------------------------------------------------------------------------------
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new int);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete &as<int>(handle);
  return CUBLAS_STATUS_SUCCESS;
}
std::size_t cublasLtGetVersion() { return fake_cublaslt().version; }
const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED" : "another";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  auto* const attributes = new Attributes;
  attributes->set(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, &compute, sizeof compute);
  attributes->set(CUBLASLT_MATMUL_DESC_SCALE_TYPE, &scale, sizeof scale);
  *desc = reinterpret_cast<cublasLtMatmulDesc_t>(attributes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete &as<Attributes>(desc);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  as<Attributes>(desc).set(attribute, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          std::uint64_t rows, std::uint64_t columns,
                                          std::int64_t stride) {
  const auto r = static_cast<std::int64_t>(rows), c = static_cast<std::int64_t>(columns);
  if (stride < r) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new MatrixLayout{type, r, c, stride});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete &as<MatrixLayout>(layout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Attributes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete &as<Attributes>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  as<Attributes>(preference).set(attribute, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* count) {
  FakeCublasLt& fake = fake_cublaslt();
  ++fake.heuristics;
  fake.smallest_alignment = 256;
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    fake.smallest_alignment = std::min(
        fake.smallest_alignment, as<Attributes>(preference).get<std::uint32_t>(attribute, 256));
  }
  *count = std::min(fake.proposals, requested);
  if (!supports_fp8(as<Attributes>(desc), as<MatrixLayout>(a), as<MatrixLayout>(b),
                    as<MatrixLayout>(d)) ||
      (is_fp8(as<MatrixLayout>(a).type) && fake.smallest_alignment < 16)) {
    *count = 0;
  }
  if (*count == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (is_fp8(as<MatrixLayout>(a).type)) ++fake.float8_shapes;
  for (int i = 0; i < *count; ++i) {
    results[i] = {};
    results[i].algo.data[0] = static_cast<std::uint64_t>(i + 1);
    results[i].state = CUBLAS_STATUS_SUCCESS;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
  result->workspaceSize = 0;
  const auto algorithm = static_cast<int>(algo->data[0]);
  const bool known = algorithm >= 1 && algorithm <= 3 && algorithm != fake_cublaslt().unsupported;
  return known ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algo, void*, std::size_t, cudaStream_t) {
  FakeCublasLt& fake = fake_cublaslt();
  const auto algorithm = static_cast<int>(algo->data[0]);
  if (algorithm == fake.failing) return CUBLAS_STATUS_EXECUTION_FAILED;
  if (algorithm == fake.refused) return CUBLAS_STATUS_NOT_SUPPORTED;
  fake.algorithms.push_back(algorithm);
  fake.milliseconds += algorithm == 1 ? 5.0f : algorithm == 2 ? 2.0f : 3.0f;

  const auto& attributes = as<Attributes>(desc);
  const auto transposed = [&](int attribute) {
    return attributes.get(attribute, CUBLAS_OP_N) == CUBLAS_OP_T;
  };
  const Operand left{a, as<MatrixLayout>(a_layout), transposed(CUBLASLT_MATMUL_DESC_TRANSA)};
  const Operand right{b, as<MatrixLayout>(b_layout), transposed(CUBLASLT_MATMUL_DESC_TRANSB)};
  const MatrixLayout& out = as<MatrixLayout>(d_layout);
  if (left.rows() != out.rows || left.columns() != right.rows() || right.columns() != out.columns ||
      c != d) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (!supports_fp8(attributes, left.layout, right.layout, out)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  double scale = *static_cast<const float*>(alpha);
  if (is_fp8(left.layout.type)) {
    for (const auto attribute :
         {CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER}) {
      const auto* const pointer = attributes.get<const float*>(attribute, nullptr);
      if (pointer != nullptr) scale *= *pointer;  // 1 without
    }
    for (const void* const memory : {a, b, static_cast<const void*>(d)}) {
      if (reinterpret_cast<std::uintptr_t>(memory) % 16 != 0) return CUBLAS_STATUS_INVALID_VALUE;
    }
  }
  const auto epilogue = attributes.get(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
  if (epilogue != CUBLASLT_EPILOGUE_DEFAULT && epilogue != CUBLASLT_EPILOGUE_BIAS) {
    fake.milliseconds += fake.epilogue_milliseconds;
  }
  auto* const bias = attributes.get<void*>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, nullptr);
  const auto bias_type = attributes.get(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, out.type);
  auto* const aux = attributes.get<void*>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, nullptr);
  const auto aux_type = attributes.get(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, out.type);
  const auto aux_stride = attributes.get<std::int64_t>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 0);
  const bool uses_aux =
      epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || epilogue == CUBLASLT_EPILOGUE_DGELU;
  if (uses_aux && (aux_stride % 8 != 0 || aux_stride < out.rows || aux == nullptr)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool sums_b = epilogue == CUBLASLT_EPILOGUE_BGRADB;
  if (sums_b && (bias == nullptr || bias_type != out.type)) return CUBLAS_STATUS_INVALID_VALUE;
  for (std::int64_t j = 0; j < out.columns; ++j) {
    if (sums_b) {
      double sum = 0.0;
      for (std::int64_t l = 0; l < right.rows(); ++l) sum += right(l, j);
      store(bias, bias_type, j, sum);
    }
    for (std::int64_t i = 0; i < out.rows; ++i) {
      double sum = 0.0;
      for (std::int64_t l = 0; l < left.columns(); ++l) sum += left(i, l) * right(l, j);
      sum *= scale;
      const std::int64_t at = i + j * out.stride, aux_at = i + j * aux_stride;
      const float factor = *static_cast<const float*>(beta);
      if (factor != 0.0f) sum += factor * load(c, out.type, at);
      switch (epilogue) {
        case CUBLASLT_EPILOGUE_DEFAULT:
        case CUBLASLT_EPILOGUE_BGRADB:
          break;
        case CUBLASLT_EPILOGUE_BIAS:
          sum += load(bias, bias_type, i);
          break;
        case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
          sum += load(bias, bias_type, i);
          store(aux, aux_type, aux_at, sum);
          sum = gelu(sum);
          break;
        case CUBLASLT_EPILOGUE_DGELU:
          sum *= gelu_derivative(load(aux, aux_type, aux_at));
          break;
        default:
          return CUBLAS_STATUS_NOT_SUPPORTED;
      }
      store(d, out.type, at, sum);
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}

// --- The CUDA runtime ----------------------------------------------------------------------------
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = reinterpret_cast<cudaEvent_t>(new float(0.0f));
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete &as<float>(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  as<float>(event) = fake_cublaslt().milliseconds;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* elapsed, cudaEvent_t start, cudaEvent_t stop) {
  *elapsed = as<float>(stop) - as<float>(start);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = fake_cublaslt().capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) { return "no error"; }
