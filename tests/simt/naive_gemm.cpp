#include "tests/simt/naive_gemm.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/simt/float8_values.h"

namespace bert::simt {
namespace {

std::array<double, 256> float8_values(DType format) {
  std::array<double, 256> values{};
  for (int byte = 0; byte < 256; ++byte) {
    values[static_cast<std::size_t>(byte)] =
        test::float8_value(static_cast<std::uint8_t>(byte), format);
  }
  return values;
}

double get(const Tensor& x, std::int64_t i) {
  if (is_float8(x.dtype())) {
    static const std::array<double, 256> e4m3 = float8_values(DType::e4m3);
    static const std::array<double, 256> e5m2 = float8_values(DType::e5m2);
    const auto byte = static_cast<const std::uint8_t*>(x.raw())[i];
    return (x.dtype() == DType::e4m3 ? e4m3 : e5m2)[byte];
  }
  if (x.dtype() == DType::bf16) return static_cast<float>(x.data<Bfloat16>()[i]);
  return x.data<float>()[i];
}

void set(const Tensor& x, std::int64_t i, double value) {
  if (x.dtype() == DType::bf16) {
    x.data<Bfloat16>()[i] = Bfloat16(static_cast<float>(value));
  } else {
    x.data<float>()[i] = static_cast<float>(value);
  }
}

constexpr double kSlope = 0.79788456080286535588;  // sqrt(2 / pi)
constexpr double kCubic = 0.044715;

double gelu_new(double x) { return 0.5 * x * (1.0 + std::tanh(kSlope * (x + kCubic * x * x * x))); }
double gelu_new_derivative(double x) {
  const double t = std::tanh(kSlope * (x + kCubic * x * x * x));
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * kSlope * (1.0 + 3.0 * kCubic * x * x);
}

// op(x) [rows, columns], as numbers.
std::vector<double> operand(const Tensor& x, bool transposed) {
  std::vector<double> values(static_cast<std::size_t>(x.numel()));
  const std::int64_t rows = x.dim(0), columns = x.dim(1);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      values[static_cast<std::size_t>(transposed ? j * rows + i : i * columns + j)] =
          get(x, i * columns + j);
    }
  }
  return values;
}

class NaiveGemm final : public Gemm {
 public:
  explicit NaiveGemm(bool fused) : fused_(fused) {}

  bool fuses(const GemmCall& call) const override {
    // In FP8, of epilogues only the bias.
    return fused_ && (!is_float8(call.a.dtype()) || call.epilogue == Epilogue::none ||
                      call.epilogue == Epilogue::bias);
  }

  void run(const GemmCall& call, cudaStream_t) override {
    const std::int64_t m = call.d.dim(0), n = call.d.dim(1);
    const std::int64_t k = call.a.dim(call.transpose_a ? 0 : 1);
    const bool fp8 = is_float8(call.a.dtype());
    BERT_CHECK(
        (fp8 ? call.b.dtype() == DType::e4m3 : call.a.dtype() == call.b.dtype()) &&
            call.a.dim(call.transpose_a ? 1 : 0) == m &&
            call.b.dim(call.transpose_b ? 1 : 0) == k && call.b.dim(call.transpose_b ? 0 : 1) == n,
        "{} by {} to {}", call.a.shape_string(), call.b.shape_string(), call.d.shape_string());
    BERT_CHECK(call.epilogue == Epilogue::none || fuses(call));
    BERT_CHECK(!fp8 || (!call.transpose_a && call.transpose_b && n % 16 == 0 && k % 16 == 0 &&
                        call.a_scale != nullptr && call.b_scale != nullptr));
    const double scale = fp8 ? double{*call.a_scale} * double{*call.b_scale} : 1.0;
    const std::vector<double> a = operand(call.a, call.transpose_a);
    const std::vector<double> b = operand(call.b, call.transpose_b);
    std::vector<double> row(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < m; ++i) {
      if (call.epilogue == Epilogue::bias_gradient) {
        const auto first = a.begin() + i * k;
        set(call.bias, i, std::accumulate(first, first + k, 0.0));
      }
      std::fill(row.begin(), row.end(), 0.0);
      for (std::int64_t l = 0; l < k; ++l) {
        const double factor = a[static_cast<std::size_t>(i * k + l)];
        const double* const b_row = b.data() + l * n;
        for (std::int64_t j = 0; j < n; ++j) row[static_cast<std::size_t>(j)] += factor * b_row[j];
      }
      for (std::int64_t j = 0; j < n; ++j) {
        finish(call, i * n + j, j, scale * row[static_cast<std::size_t>(j)]);
      }
    }
  }

 private:
  static void finish(const GemmCall& call, std::int64_t at, std::int64_t column, double sum) {
    switch (call.epilogue) {
      case Epilogue::none:
      case Epilogue::bias_gradient:
        break;
      case Epilogue::bias:
        sum += get(call.bias, column);
        break;
      case Epilogue::gelu_new_aux_bias:
        sum += get(call.bias, column);
        set(call.aux, at, sum);
        sum = gelu_new(sum);
        break;
      case Epilogue::dgelu_new:
        sum *= gelu_new_derivative(get(call.aux, at));
        break;
    }
    if (call.beta != 0.0f) sum += call.beta * get(call.d, at);
    set(call.d, at, sum);
  }

  bool fused_;
};

}  // namespace

std::unique_ptr<Gemm> make_naive_gemm(bool fused) { return std::make_unique<NaiveGemm>(fused); }

}  // namespace bert::simt
