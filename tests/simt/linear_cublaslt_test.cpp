// The whole way of a product but for cuBLASLt itself: CudaOps, its kernels in the harness, and
// gemm_cublaslt.cpp on the stand-in, which refuses what the library would. It sums as the plain
// loops of the harness do, so the bits are theirs.
#include <gtest/gtest.h>

#include "kernels/cuda/gemm_cublaslt.h"
#include "tests/simt/fake_cublaslt.h"
#include "tests/simt/naive_gemm.h"
#include "tests/simt/simt_ops.h"
#include "tests/support/device_memory.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

struct Results {
  std::vector<double> pre, inner, y, dpre, dx, dweight1, dweight2, dbias1;
  bool operator==(const Results&) const = default;
};

// A feed-forward pair as the model has it, backward accumulating into dx.
Results feed_forward(Ops& ops, Device& device, Activation activation) {
  const std::int64_t rows = 48, hidden = 32, inner = 80;
  const DeviceStruct<std::int32_t> count(device, 41);
  const auto input = [&](const char* name, std::int64_t r, std::int64_t c) {
    return DeviceTensor(device, DType::bf16, {r, c}, random_values(name, r * c));
  };
  const DeviceTensor x = input("x", rows, hidden), weight1 = input("weight1", inner, hidden),
                     weight2 = input("weight2", hidden, inner);
  std::vector<double> dy_values = random_values("dy", rows * hidden);
  std::fill(dy_values.begin() + 41 * hidden, dy_values.end(), 0.0);
  const DeviceTensor dy(device, DType::bf16, {rows, hidden}, dy_values);
  const DeviceTensor bias1(device, DType::bf16, {inner}, random_values("bias1", inner));
  const DeviceTensor pre(device, DType::bf16, {rows, inner}),
      y(device, DType::bf16, {rows, hidden});
  const DeviceTensor between(device, DType::bf16, {rows, inner});
  const DeviceTensor dpre(device, DType::bf16, {rows, inner});
  const DeviceTensor dx = input("start", rows, hidden);
  const auto gradient = [&](std::int64_t r, std::int64_t c) {
    return DeviceTensor(device, DType::f32, {r, c}, random_values("gradient", r * c));
  };
  const DeviceTensor dweight1 = gradient(inner, hidden), dweight2 = gradient(hidden, inner);
  const DeviceTensor dbias1(device, DType::f32, {inner}, random_values("dbias", inner));
  ops.linear_forward({.x = x,
                      .weight = {weight1, weight1},
                      .bias = bias1,
                      .activation = activation,
                      .rows = count.data(),
                      .pre_activation = pre,
                      .y = between,
                      .allow_fp8 = true});
  ops.linear_forward({.x = between,
                      .weight = {weight2, weight2},
                      .rows = count.data(),
                      .y = y,
                      .allow_fp8 = true});
  ops.linear_backward({.dy = dy,
                       .x = between,
                       .weight = {weight2, weight2},
                       .rows = count.data(),
                       .input_activation = activation,
                       .input_pre_activation = pre,
                       .dx = dpre,
                       .dweight = dweight2,
                       .allow_fp8 = true});
  ops.linear_backward({.dy = dpre,
                       .x = x,
                       .weight = {weight1, weight1},
                       .rows = count.data(),
                       .dx = dx,
                       .accumulate_dx = true,
                       .dweight = dweight1,
                       .dbias = dbias1,
                       .allow_fp8 = true});
  return {pre.values(), between.values(),  y.values(),        dpre.values(),
          dx.values(),  dweight1.values(), dweight2.values(), dbias1.values()};
}

// Plain loops that do epilogues, of which none but a bias is ever worth it.
class ApartGemm final : public Gemm {
 public:
  bool fuses(const GemmCall& call) const override { return gemm_->fuses(call); }
  bool worth_fusing(const GemmCall&, const GemmCall&, const Rest&, cudaStream_t) override {
    return false;
  }
  void run(const GemmCall& call, cudaStream_t stream) override { gemm_->run(call, stream); }

 private:
  std::unique_ptr<Gemm> gemm_ = simt::make_naive_gemm(true);
};

TEST(LinearCublasLt, FusesWhatIsFasterFused) {
  const std::unique_ptr<Device> device = make_cpu_device();
  std::vector<Results> results;
  for (const bool fused : {true, false}) {
    fake_cublaslt() = {};
    if (!fused) fake_cublaslt().epilogue_milliseconds = 1.0f;  // kernels take none
    std::unique_ptr<Gemm> gemm = cuda::make_cublaslt_gemm(*device, false);
    const Gemm& asked = *gemm;
    const auto library = simt::make_simt_ops(DType::bf16, *device, std::move(gemm), false);
    const auto loops =
        fused ? simt::make_simt_ops(DType::bf16, *device, true)
              : simt::make_simt_ops(DType::bf16, *device, std::make_unique<ApartGemm>(), false);
    results.push_back(feed_forward(*library, *device, Activation::gelu_new));
    EXPECT_EQ(results.back(), feed_forward(*loops, *device, Activation::gelu_new));
    int decisions = 0;  // GELU, its derivative, the gradient of the first bias
    const std::string choices = asked.choices(), decision = fused ? " fused\n" : " apart\n";
    for (auto at = choices.find(decision); at != std::string::npos;
         at = choices.find(decision, at + 1)) {
      ++decisions;
    }
    EXPECT_EQ(decisions, 3) << choices;
  }
  EXPECT_NE(results[0].inner, results[1].inner);
  EXPECT_NE(results[0].dpre, results[1].dpre);
}

TEST(LinearCublasLt, ComputesFloat8AsPlainLoopsDo) {
  const std::unique_ptr<Device> device = make_cpu_device();
  for (const Activation activation : {Activation::gelu, Activation::gelu_new}) {
    fake_cublaslt() = {};
    const auto library =
        simt::make_simt_ops(DType::bf16, *device, cuda::make_cublaslt_gemm(*device, false), true);
    const auto loops = simt::make_simt_ops(DType::bf16, *device, true, true);
    EXPECT_EQ(feed_forward(*library, *device, activation),
              feed_forward(*loops, *device, activation));
    EXPECT_EQ(fake_cublaslt().float8_shapes, 6);  // forward, for dx and for dweight, twice
  }
}

}  // namespace
}  // namespace bert::test
