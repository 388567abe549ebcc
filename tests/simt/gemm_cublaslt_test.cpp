// What gemm_cublaslt.cpp asks of cuBLASLt, on a stand-in for the library; and what it remembers.
#include "kernels/cuda/gemm_cublaslt.h"

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "tests/simt/fake_cublaslt.h"
#include "tests/simt/naive_gemm.h"
#include "tests/support/device_memory.h"
#include "tests/support/random_inputs.h"
#include "tests/support/tolerance.h"

namespace bert::test {
namespace {

class CublasLt : public ::testing::Test {
 protected:
  CublasLt() { fake_cublaslt() = {}; }

  // y = act(x W^T + bias), with everything a multiple of 8.
  struct Call {
    explicit Call(Device& device, std::int64_t rows = 16, DType dtype = DType::f32)
        : x(device, dtype, {rows, 8}, random_values("x", rows * 8)),
          w(device, dtype, {24, 8}, random_values("w", 24 * 8)),
          d(device, dtype, {rows, 24}) {}
    operator GemmCall() const { return {.a = x, .b = w, .d = d, .transpose_b = true}; }
    DeviceTensor x, w, d;
  };

  std::unique_ptr<Device> device_ = make_cpu_device();
  std::unique_ptr<Gemm> gemm_ = cuda::make_cublaslt_gemm(*device_, false);
};

// Every transposition, dtype, epilogue and beta against plain loops, with three different sizes.
TEST_F(CublasLt, ComputesWhatPlainLoopsDo) {
  const std::unique_ptr<Gemm> plain = simt::make_naive_gemm(true);
  const std::int64_t m = 6, n = 16, k = 5;
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      for (const DType in : {DType::f32, DType::bf16}) {
        for (const DType out : {in, DType::f32}) {
          for (const Epilogue epilogue :
               {Epilogue::none, Epilogue::bias, Epilogue::gelu_new_aux_bias, Epilogue::dgelu_new}) {
            for (const float beta : {0.0f, 1.0f}) {
              if (beta != 0.0f && epilogue != Epilogue::none) continue;
              const auto a_values = random_values("a", m * k), b_values = random_values("b", n * k);
              const DeviceTensor a(*device_, in, {transpose_a ? k : m, transpose_a ? m : k},
                                   a_values);
              const DeviceTensor b(*device_, in, {transpose_b ? n : k, transpose_b ? k : n},
                                   b_values);
              const DeviceTensor bias(*device_, out, {n}, random_values("bias", n));
              const auto d_values = random_values("d", m * n),
                         aux_values = random_values("u", m * n);
              std::vector<double> results[2], auxiliaries[2];
              for (const int side : {0, 1}) {
                const DeviceTensor d(*device_, out, {m, n}, d_values);
                const DeviceTensor aux(*device_, out, {m, n}, aux_values);
                GemmCall call{.a = a, .b = b, .d = d};
                call.transpose_a = transpose_a;
                call.transpose_b = transpose_b;
                call.beta = beta;
                call.epilogue = epilogue;
                if (epilogue == Epilogue::bias || epilogue == Epilogue::gelu_new_aux_bias) {
                  call.bias = bias;
                }
                if (epilogue == Epilogue::dgelu_new || epilogue == Epilogue::gelu_new_aux_bias) {
                  call.aux = aux;
                }
                Gemm& gemm = side == 0 ? *plain : *gemm_;
                ASSERT_TRUE(gemm.fuses(call));
                gemm.run(call, nullptr);
                EXPECT_TRUE(d.guards_intact() && aux.guards_intact());
                results[side] = d.values();
                auxiliaries[side] = aux.values();
              }
              for (std::size_t i = 0; i < results[0].size(); ++i) {
                const double allowed = out == DType::bf16 ? 0x1p-7 : 1e-6;
                EXPECT_NEAR(results[1][i], results[0][i], allowed * (1.0 + std::abs(results[0][i])))
                    << "element " << i << ", transposed " << transpose_a << transpose_b
                    << ", epilogue " << static_cast<int>(epilogue) << ", beta " << beta;
                EXPECT_NEAR(auxiliaries[1][i], auxiliaries[0][i],
                            allowed * (1.0 + std::abs(auxiliaries[0][i])));
              }
            }
          }
        }
      }
    }
  }
}

TEST_F(CublasLt, KeepsTheFastestOfAShape) {
  const Call call(*device_), other(*device_, 32);
  gemm_->run(call, nullptr);
  EXPECT_EQ(fake_cublaslt().algorithms.back(), 2);
  const std::size_t tried = fake_cublaslt().algorithms.size();
  EXPECT_GT(tried, 3u);
  const Call again(*device_);  // other memory, the same shape
  gemm_->run(again, nullptr);
  EXPECT_EQ(fake_cublaslt().algorithms.size(), tried + 1);
  EXPECT_EQ(fake_cublaslt().algorithms.back(), 2);
  EXPECT_EQ(fake_cublaslt().heuristics, 1);
  gemm_->run(other, nullptr);
  EXPECT_EQ(fake_cublaslt().heuristics, 2);
}

TEST_F(CublasLt, TimingLeavesTheOperandsAlone) {
  const Call call(*device_);
  GemmCall added = call;
  added.beta = 1.0f;
  added.d = call.d;
  const_cast<DeviceTensor&>(call.d).set(std::vector<double>(16 * 24, 1.0));
  gemm_->run(added, nullptr);
  const std::vector<double> once = call.d.values();
  const Call fresh(*device_);
  gemm_->run(fresh, nullptr);
  const std::vector<double> product = fresh.d.values();
  for (std::size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(once[i], product[i] + 1.0, 1e-5);
}

TEST_F(CublasLt, PassesOverAnAlgorithmThatFails) {
  fake_cublaslt().failing = 2;
  const Call call(*device_);
  gemm_->run(call, nullptr);
  EXPECT_EQ(fake_cublaslt().algorithms.back(), 3);
}

TEST_F(CublasLt, TimesNothingWhileCapturing) {
  fake_cublaslt().capturing = true;
  const Call call(*device_);
  gemm_->run(call, nullptr);
  EXPECT_EQ(fake_cublaslt().algorithms, std::vector<int>{1});
  fake_cublaslt().capturing = false;
  gemm_->run(call, nullptr);  // what was captured and what is run later agree
  EXPECT_EQ(fake_cublaslt().algorithms, (std::vector<int>{1, 1}));
}

TEST_F(CublasLt, ChoicesAreTakenOver) {
  fake_cublaslt().capturing = true;  // algorithm 1, which measuring would not choose
  const Call call(*device_);
  gemm_->run(call, nullptr);
  const std::string choices = gemm_->choices();
  fake_cublaslt() = {};
  const std::unique_ptr<Gemm> resumed = cuda::make_cublaslt_gemm(*device_, false);
  ASSERT_TRUE(resumed->set_choices(choices));
  EXPECT_EQ(resumed->choices(), choices);  // before they are used, too
  resumed->run(call, nullptr);
  EXPECT_EQ(fake_cublaslt().algorithms, std::vector<int>{1});
  EXPECT_EQ(fake_cublaslt().heuristics, 0);
  EXPECT_EQ(resumed->choices(), choices);
}

TEST_F(CublasLt, ChoicesOfAnotherLibraryOrPrecisionAreNot) {
  const Call call(*device_);
  gemm_->run(call, nullptr);
  const std::string choices = gemm_->choices();
  EXPECT_FALSE(cuda::make_cublaslt_gemm(*device_, true)->set_choices(choices));
  fake_cublaslt().version = 130002;
  const std::unique_ptr<Gemm> newer = cuda::make_cublaslt_gemm(*device_, false);
  EXPECT_FALSE(newer->set_choices(choices));
  EXPECT_FALSE(newer->set_choices(""));
  newer->run(call, nullptr);
  EXPECT_EQ(fake_cublaslt().heuristics, 2);
}

TEST_F(CublasLt, DamagedChoicesAreAnError) {
  const Call call(*device_);
  gemm_->run(call, nullptr);
  const std::string choices = gemm_->choices();
  EXPECT_THROW(gemm_->set_choices(choices.substr(0, choices.size() - 9)), InputError);
  EXPECT_THROW(gemm_->set_choices(choices + "1 2 3\n"), InputError);
}

TEST_F(CublasLt, LeavesToKernelsWhatTheLibraryCannotDo) {
  const DeviceTensor x(*device_, DType::f32, {4, 8}), w(*device_, DType::f32, {20, 8});
  const DeviceTensor d(*device_, DType::f32, {4, 20}), aux(*device_, DType::f32, {4, 20});
  const DeviceTensor bias(*device_, DType::f32, {20});
  GemmCall call{.a = x, .b = w, .d = d, .transpose_b = true};
  call.bias = bias;
  call.epilogue = Epilogue::bias;
  EXPECT_TRUE(gemm_->fuses(call));
  call.aux = aux;  // 20 columns: not a multiple of 8
  call.epilogue = Epilogue::gelu_new_aux_bias;
  EXPECT_FALSE(gemm_->fuses(call));
  fake_cublaslt().proposals = 0;
  const Call plain(*device_);
  call = plain;
  call.epilogue = Epilogue::dgelu_new;
  const DeviceTensor pre(*device_, DType::f32, {16, 24});
  call.aux = pre;
  EXPECT_FALSE(gemm_->fuses(call));
}

TEST_F(CublasLt, ErrorsNameTheShapes) {
  fake_cublaslt().proposals = 0;
  const Call call(*device_);
  const auto message = [&] {
    try {
      gemm_->run(call, nullptr);
    } catch (const RuntimeError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message().find("f32[16, 8] by f32[24, 8] transposed to f32[16, 24]"), std::string::npos)
      << message();
  fake_cublaslt().proposals = 1;
  fake_cublaslt().failing = 1;
  gemm_ = cuda::make_cublaslt_gemm(*device_, false);
  EXPECT_NE(message().find("CUBLAS_STATUS_EXECUTION_FAILED"), std::string::npos) << message();
}

TEST_F(CublasLt, AsksWithTheRealAlignment) {
  const Call call(*device_);
  gemm_->run(call, nullptr);
  EXPECT_EQ(fake_cublaslt().smallest_alignment, 16u);
  const DeviceTensor storage(*device_, DType::f32, {16 * 8 + 1});
  GemmCall shifted = call;
  shifted.a = Tensor(storage.tensor().data<float>() + 1, DType::f32, {16, 8});
  gemm_->run(shifted, nullptr);
  EXPECT_EQ(fake_cublaslt().heuristics, 2);
  EXPECT_EQ(fake_cublaslt().smallest_alignment, 4u);
}

}  // namespace
}  // namespace bert::test
