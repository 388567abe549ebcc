// What gemm_cublaslt.cpp asks of cuBLASLt, on a stand-in for the library; and what it remembers.
#include "kernels/cuda/gemm_cublaslt.h"

#include <cmath>

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

  // d = (x W^T) * gelu_new'(u) of bf16 operands.
  struct Fusion {
    explicit Fusion(Device& device)
        : product(device, 16, DType::bf16),
          u(device, DType::bf16, {16, 24}, random_values("u", 16 * 24)) {}
    GemmCall fused() const {
      GemmCall call = product;
      call.epilogue = Epilogue::dgelu_new;
      call.aux = u;
      return call;
    }
    Call product;
    DeviceTensor u;
  };
  // Asks with a kernel for the rest that takes `milliseconds`.
  bool worth_fusing(Gemm& gemm, const Fusion& fusion, float milliseconds) {
    return gemm.worth_fusing(
        fusion.fused(), fusion.product,
        [&](const Tensor& d) {
          EXPECT_NE(d.raw(), fusion.product.d.tensor().raw());
          EXPECT_EQ(d.shape_string(), fusion.product.d.tensor().shape_string());
          fake_cublaslt().milliseconds += milliseconds;
          ++rests_;
        },
        nullptr);
  }

  std::unique_ptr<Device> device_ = make_cpu_device();
  std::unique_ptr<Gemm> gemm_ = cuda::make_cublaslt_gemm(*device_, false);
  int rests_ = 0;
};

// Every transposition, dtype, epilogue and beta against plain loops, with three different sizes.
// In TF32, which the stand-in computes as f32, so that f32 has all epilogues.
TEST_F(CublasLt, ComputesWhatPlainLoopsDo) {
  const std::unique_ptr<Gemm> plain = simt::make_naive_gemm(true);
  gemm_ = cuda::make_cublaslt_gemm(*device_, true);
  const std::int64_t m = 6, n = 16, k = 5;
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      for (const DType in : {DType::f32, DType::bf16}) {
        for (const DType out : {in, DType::f32}) {
          for (const Epilogue epilogue :
               {Epilogue::none, Epilogue::bias, Epilogue::gelu_new_aux_bias, Epilogue::dgelu_new,
                Epilogue::bias_gradient}) {
            for (const float beta : {0.0f, 1.0f}) {
              const bool sums = epilogue == Epilogue::bias_gradient;
              if (beta != 0.0f && epilogue != Epilogue::none && !sums) continue;
              if (sums && out != DType::f32) continue;
              const auto a_values = random_values("a", m * k), b_values = random_values("b", n * k);
              const DeviceTensor a(*device_, in, {transpose_a ? k : m, transpose_a ? m : k},
                                   a_values);
              const DeviceTensor b(*device_, in, {transpose_b ? n : k, transpose_b ? k : n},
                                   b_values);
              const auto bias_values = random_values("bias", sums ? m : n);
              const auto d_values = random_values("d", m * n),
                         aux_values = random_values("u", m * n);
              std::vector<double> results[2], auxiliaries[2], biases[2];
              for (const int side : {0, 1}) {
                const DeviceTensor d(*device_, out, {m, n}, d_values);
                const DeviceTensor aux(*device_, out, {m, n}, aux_values);
                const DeviceTensor bias(*device_, out, {sums ? m : n}, bias_values);
                GemmCall call{.a = a, .b = b, .d = d};
                call.transpose_a = transpose_a;
                call.transpose_b = transpose_b;
                call.beta = beta;
                call.epilogue = epilogue;
                if (epilogue == Epilogue::bias || epilogue == Epilogue::gelu_new_aux_bias || sums) {
                  call.bias = bias;
                }
                if (epilogue == Epilogue::dgelu_new || epilogue == Epilogue::gelu_new_aux_bias) {
                  call.aux = aux;
                }
                Gemm& gemm = side == 0 ? *plain : *gemm_;
                ASSERT_TRUE(gemm.fuses(call));
                gemm.run(call, nullptr);
                EXPECT_TRUE(d.guards_intact() && aux.guards_intact() && bias.guards_intact());
                results[side] = d.values();
                auxiliaries[side] = aux.values();
                biases[side] = bias.values();
              }
              EXPECT_EQ(biases[0] == bias_values, !sums);
              for (std::size_t i = 0; i < biases[0].size(); ++i) {
                EXPECT_NEAR(biases[1][i], biases[0][i], 1e-6);
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

// FP8 operands: bytes of their own memory, and scales that are not the same.
struct Float8Operand {
  Float8Operand(Device& device, std::string_view name, DType format, std::int64_t rows,
                std::int64_t columns, float scale_value)
      : memory(device, static_cast<std::size_t>(rows * columns)),
        scale(device, scale_value),
        tensor(memory.data(), format, {rows, columns}) {
    std::vector<std::byte> bytes;
    for (const double value : random_integers(name, rows * columns, 256)) {
      const auto byte = static_cast<unsigned>(value);
      bytes.push_back(static_cast<std::byte>(byte & 0xbfu));  // small numbers, no NaN
    }
    memory.upload(bytes);
  }
  GuardedBuffer memory;
  DeviceStruct<float> scale;
  Tensor tensor;
};

// The three products of a layer (forward, for dx, for dweight), and what cuBLASLt does not do.
TEST_F(CublasLt, ComputesFloat8AsPlainLoopsDo) {
  const std::unique_ptr<Gemm> plain = simt::make_naive_gemm(true);
  const std::int64_t m = 5, n = 32, k = 48;
  for (const DType a_format : {DType::e4m3, DType::e5m2}) {
    for (const DType out : {DType::bf16, DType::f32}) {
      for (const Epilogue epilogue : {Epilogue::none, Epilogue::bias}) {
        if (epilogue == Epilogue::bias && out == DType::f32) continue;
        const Float8Operand a(*device_, "a8", a_format, m, k, 0.25f);
        const Float8Operand b(*device_, "b8", DType::e4m3, n, k, 32.0f);
        const DeviceTensor bias(*device_, DType::bf16, {n}, random_values("bias", n));
        const float beta = epilogue == Epilogue::none ? 1.0f : 0.0f;
        std::vector<double> results[2];
        for (const int side : {0, 1}) {
          const DeviceTensor d(*device_, out, {m, n}, random_values("d", m * n));
          GemmCall call{.a = a.tensor, .b = b.tensor, .d = d, .transpose_b = true, .beta = beta};
          call.a_scale = a.scale.data();
          call.b_scale = b.scale.data();
          call.epilogue = epilogue;
          if (epilogue == Epilogue::bias) call.bias = bias;
          Gemm& gemm = side == 0 ? *plain : *gemm_;
          ASSERT_TRUE(gemm.fuses(call));
          gemm.run(call, nullptr);
          EXPECT_TRUE(d.guards_intact());
          results[side] = d.values();
        }
        EXPECT_GT(std::abs(results[0][0]), 0.0);
        for (std::size_t i = 0; i < results[0].size(); ++i) {
          const double allowed = out == DType::bf16 ? 0x1p-7 : 1e-6;
          EXPECT_NEAR(results[1][i], results[0][i], allowed * (1.0 + std::abs(results[0][i])));
        }
      }
    }
  }
}

TEST_F(CublasLt, Float8IsRefusedWhereTheLibraryDoes) {
  const std::int64_t m = 16, n = 32, k = 48;
  const Float8Operand a(*device_, "a8", DType::e4m3, m, k, 1.0f);
  const Float8Operand b(*device_, "b8", DType::e4m3, n, k, 1.0f);
  const Float8Operand wide(*device_, "w8", DType::e5m2, n, k, 1.0f);
  const Float8Operand across(*device_, "c8", DType::e4m3, k, n, 1.0f);
  const DeviceTensor d(*device_, DType::bf16, {m, n}), aux(*device_, DType::bf16, {m, n});
  const DeviceTensor bias(*device_, DType::bf16, {n});
  GemmCall good{.a = a.tensor, .b = b.tensor, .d = d, .transpose_b = true};
  good.a_scale = a.scale.data();
  good.b_scale = b.scale.data();
  EXPECT_NO_THROW(gemm_->run(good, nullptr));
  GemmCall call = good;
  call.b = across.tensor;
  call.transpose_b = false;
  EXPECT_THROW(gemm_->run(call, nullptr), RuntimeError);  // not along k
  call = good;
  call.b = wide.tensor;
  EXPECT_THROW(gemm_->run(call, nullptr), RuntimeError);  // b of e5m2
  call = good;
  call.b_scale = nullptr;
  EXPECT_THROW(gemm_->run(call, nullptr), RuntimeError);
  call = good;
  call.bias = bias;
  call.aux = aux;
  call.epilogue = Epilogue::gelu_new_aux_bias;
  EXPECT_FALSE(gemm_->fuses(call));
  call.bias = {};
  call.epilogue = Epilogue::dgelu_new;
  EXPECT_FALSE(gemm_->fuses(call));
  const DeviceTensor wide_d(*device_, DType::f32, {m, n}), sums(*device_, DType::f32, {m});
  call = good;
  call.d = wide_d;
  call.bias = sums;
  call.epilogue = Epilogue::bias_gradient;
  EXPECT_FALSE(gemm_->fuses(call));
  const Float8Operand odd_a(*device_, "o8", DType::e4m3, m, 40, 1.0f);
  const Float8Operand odd_b(*device_, "p8", DType::e4m3, n, 40, 1.0f);
  call = good;
  call.a = odd_a.tensor;
  call.b = odd_b.tensor;
  EXPECT_THROW(gemm_->run(call, nullptr), RuntimeError);  // 40 is no multiple of 16
}

// The scales are not part of a plan: they lie elsewhere the next time.
TEST_F(CublasLt, Float8ScalesAreThoseOfTheCall) {
  const Float8Operand a(*device_, "a8", DType::e5m2, 16, 16, 1.0f);
  const Float8Operand b(*device_, "b8", DType::e4m3, 16, 16, 1.0f);
  const DeviceStruct<float> other(*device_, 4.0f);
  const DeviceTensor d(*device_, DType::f32, {16, 16}), scaled(*device_, DType::f32, {16, 16});
  GemmCall call{.a = a.tensor, .b = b.tensor, .d = d, .transpose_b = true};
  call.a_scale = a.scale.data();
  call.b_scale = b.scale.data();
  gemm_->run(call, nullptr);
  call.a_scale = other.data();
  call.d = scaled;
  gemm_->run(call, nullptr);
  std::vector<double> expected = d.values();
  for (double& value : expected) value *= 4.0;
  EXPECT_EQ(scaled.values(), expected);
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

// The library's first proposals, which are the same in every process.
TEST_F(CublasLt, TimesNothingWhereItMayNot) {
  fake_cublaslt().epilogue_milliseconds = 3.0f;  // measured, it would not be worth it
  const std::unique_ptr<Gemm> gemm = cuda::make_cublaslt_gemm(*device_, false, /*measure=*/false);
  const Call call(*device_);
  gemm->run(call, nullptr);
  gemm->run(call, nullptr);
  EXPECT_EQ(fake_cublaslt().algorithms, (std::vector<int>{1, 1}));
  const Fusion fusion(*device_);
  EXPECT_TRUE(worth_fusing(*gemm, fusion, 2.0f));
  EXPECT_EQ(rests_, 0);
}

TEST_F(CublasLt, FusesWhereTheEpilogueIsFasterThanAKernel) {
  fake_cublaslt().epilogue_milliseconds = 3.0f;
  for (const bool fused : {true, false}) {
    const Fusion fusion(*device_);
    const std::unique_ptr<Gemm> gemm = cuda::make_cublaslt_gemm(*device_, false);
    rests_ = 0;
    EXPECT_EQ(worth_fusing(*gemm, fusion, fused ? 4.0f : 2.0f), fused);
    EXPECT_GT(rests_, 1);
    for (const double value : fusion.product.d.values()) EXPECT_TRUE(std::isnan(value));
    rests_ = 0;  // decided, whatever happens later
    EXPECT_EQ(worth_fusing(*gemm, fusion, fused ? 2.0f : 4.0f), fused);
    EXPECT_EQ(rests_, 0);
    // The best algorithms were compared, and stay.
    const std::size_t timed = fake_cublaslt().algorithms.size();
    gemm->run(fusion.fused(), nullptr);
    gemm->run(fusion.product, nullptr);
    EXPECT_EQ(fake_cublaslt().algorithms.size(), timed + 2);
    EXPECT_EQ(fake_cublaslt().algorithms[timed], 2);
    EXPECT_EQ(fake_cublaslt().algorithms[timed + 1], 2);
  }
}

TEST_F(CublasLt, FusesNothingThatTheLibraryCannot) {
  fake_cublaslt().proposals = 0;
  EXPECT_FALSE(worth_fusing(*gemm_, Fusion(*device_), 1000.0f));
  EXPECT_EQ(rests_, 0);
}

TEST_F(CublasLt, FusesWhileCapturing) {
  const Fusion fusion(*device_);
  fake_cublaslt().epilogue_milliseconds = 1000.0f;
  fake_cublaslt().capturing = true;
  EXPECT_TRUE(worth_fusing(*gemm_, fusion, 1.0f));
  fake_cublaslt().capturing = false;
  EXPECT_TRUE(worth_fusing(*gemm_, fusion, 1.0f));  // what was captured and what is run later agree
  EXPECT_EQ(rests_, 0);
  EXPECT_TRUE(fake_cublaslt().algorithms.empty());
}

// An approximation that only operands of fewer bits hide.
TEST_F(CublasLt, F32DoesNotUseItsGelu) {
  const std::unique_ptr<Gemm> tf32 = cuda::make_cublaslt_gemm(*device_, true);
  const DeviceTensor bias(*device_, DType::f32, {24}), sums(*device_, DType::f32, {16});
  const DeviceTensor aux(*device_, DType::f32, {16, 24});
  for (const Epilogue epilogue : {Epilogue::gelu_new_aux_bias, Epilogue::dgelu_new}) {
    const Call product(*device_);
    GemmCall call = product;
    call.epilogue = epilogue;
    call.aux = aux;
    if (epilogue == Epilogue::gelu_new_aux_bias) call.bias = bias;
    EXPECT_FALSE(gemm_->fuses(call));
    EXPECT_FALSE(gemm_->worth_fusing(
        call, product, [](const Tensor&) {}, nullptr));
    EXPECT_TRUE(tf32->fuses(call));
  }
  EXPECT_TRUE(gemm_->fuses(Fusion(*device_).fused()));  // bf16
  for (const Epilogue epilogue : {Epilogue::bias, Epilogue::bias_gradient}) {
    const Call product(*device_);
    GemmCall call = product;
    call.epilogue = epilogue;
    call.bias = epilogue == Epilogue::bias ? bias : sums;
    EXPECT_TRUE(gemm_->fuses(call));
  }
}

TEST_F(CublasLt, WhatToFuseIsTakenOver) {
  const Fusion fusion(*device_);
  for (const bool fused : {true, false}) {
    fake_cublaslt() = {};
    fake_cublaslt().epilogue_milliseconds = 3.0f;
    const std::unique_ptr<Gemm> first = cuda::make_cublaslt_gemm(*device_, false);
    EXPECT_EQ(worth_fusing(*first, fusion, fused ? 4.0f : 2.0f), fused);
    const std::string choices = first->choices();
    fake_cublaslt() = {};
    rests_ = 0;
    const std::unique_ptr<Gemm> resumed = cuda::make_cublaslt_gemm(*device_, false);
    ASSERT_TRUE(resumed->set_choices(choices));
    EXPECT_EQ(resumed->choices(), choices);
    EXPECT_EQ(worth_fusing(*resumed, fusion, fused ? 0.0f : 9.0f), fused);
    resumed->run(fused ? fusion.fused() : fusion.product, nullptr);
    EXPECT_EQ(rests_, 0);
    EXPECT_EQ(fake_cublaslt().algorithms, std::vector<int>{2});
    EXPECT_EQ(fake_cublaslt().heuristics, 0);
    EXPECT_EQ(resumed->choices(), choices);
  }
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

// 16 rows are measured; 24 are near enough, 40 are not, until choosing has ended.
TEST_F(CublasLt, RowsAreComputedLikeTheirNearest) {
  const auto ran = [&](std::int64_t rows) {
    fake_cublaslt().algorithms.clear();
    gemm_->run(Call(*device_, rows), nullptr);
    return fake_cublaslt().algorithms;
  };
  EXPECT_GT(ran(16).size(), 1u);
  const std::string choices = gemm_->choices();
  EXPECT_EQ(ran(24), std::vector<int>{2});
  EXPECT_NE(gemm_->choices(), choices);  // a choice as well
  EXPECT_GT(ran(40).size(), 1u);
  const std::string complete = gemm_->choices();
  gemm_->stop_choosing();
  EXPECT_EQ(ran(400), std::vector<int>{2});
  EXPECT_EQ(ran(1), std::vector<int>{2});
  EXPECT_EQ(gemm_->choices(), complete);
  // Another product, and those of gradients, whose rows are summed.
  const Call call(*device_);
  const DeviceTensor dweight(*device_, DType::f32, {24, 8}), dy(*device_, DType::f32, {16, 24});
  GemmCall sums{.a = dy, .b = call.x, .d = dweight, .transpose_a = true, .sums_rows = true};
  fake_cublaslt().algorithms.clear();
  gemm_->run(sums, nullptr);
  EXPECT_EQ(fake_cublaslt().algorithms, std::vector<int>{1});  // the first: nothing is measured
}

// Two measured sizes with other ways: 3 where 2 fails.
TEST_F(CublasLt, TheNearestOfSeveralIsTaken) {
  gemm_->run(Call(*device_, 16), nullptr);
  fake_cublaslt().failing = 2;
  gemm_->run(Call(*device_, 64), nullptr);
  fake_cublaslt().failing = 0;
  gemm_->stop_choosing();
  for (const auto& [rows, way] : {std::pair(8, 2), {30, 2}, {34, 3}, {640, 3}}) {
    gemm_->run(Call(*device_, rows), nullptr);
    EXPECT_EQ(fake_cublaslt().algorithms.back(), way) << rows;
  }
}

// A neighbour's way that the library does not have for this shape is not taken.
TEST_F(CublasLt, ANeighbourMustServe) {
  gemm_->run(Call(*device_, 16), nullptr);
  gemm_->stop_choosing();
  fake_cublaslt().unsupported = 2;
  gemm_->run(Call(*device_, 24), nullptr);
  EXPECT_EQ(fake_cublaslt().algorithms.back(), 1);
}

// One that it says to have and then refuses is not kept, before choosing has ended and after. What
// fails otherwise, or was measured, is an error.
TEST_F(CublasLt, ANeighbourMustRun) {
  gemm_->run(Call(*device_, 16), nullptr);
  for (const std::int64_t rows : {24, 8}) {
    fake_cublaslt().refused = 2;
    gemm_->run(Call(*device_, rows), nullptr);
    const int way = fake_cublaslt().algorithms.back();
    EXPECT_EQ(way, rows == 24 ? 3 : 1);  // the fastest of the others, and the first
    fake_cublaslt().refused = 0;
    gemm_->run(Call(*device_, rows), nullptr);
    EXPECT_EQ(fake_cublaslt().algorithms.back(), way);
    gemm_->stop_choosing();
  }
  fake_cublaslt().refused = 2;
  EXPECT_THROW(gemm_->run(Call(*device_, 16), nullptr), RuntimeError);
  fake_cublaslt().refused = 0;
  fake_cublaslt().failing = 1;
  EXPECT_THROW(gemm_->run(Call(*device_, 8), nullptr), RuntimeError);
}

// By the library's proposals alone it does not matter which shape comes first.
TEST_F(CublasLt, WithoutMeasuringThereAreNoNeighbours) {
  const std::unique_ptr<Gemm> gemm = cuda::make_cublaslt_gemm(*device_, false, /*measure=*/false);
  for (const std::int64_t rows : {16, 17, 18}) gemm->run(Call(*device_, rows), nullptr);
  EXPECT_EQ(fake_cublaslt().heuristics, 3);
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
  EXPECT_FALSE(newer->set_choices("cublaslt 130002 " + device_->name() + "\n"));  // an older text
  newer->run(call, nullptr);
  EXPECT_EQ(fake_cublaslt().heuristics, 2);
}

TEST_F(CublasLt, DamagedChoicesAreAnError) {
  const Call call(*device_);
  gemm_->run(call, nullptr);
  const std::string choices = gemm_->choices();
  EXPECT_THROW(gemm_->set_choices(choices.substr(0, choices.size() - 9)), InputError);
  EXPECT_THROW(gemm_->set_choices(choices + "1 2 3\n"), InputError);
  const std::string key = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 ";
  EXPECT_NO_THROW(gemm_->set_choices(choices + key + "apart\n"));
  EXPECT_THROW(gemm_->set_choices(choices + key + "apar\n"), InputError);
  EXPECT_THROW(gemm_->set_choices(choices + key + "apart fused\n"), InputError);
}

TEST_F(CublasLt, LeavesToKernelsWhatTheLibraryCannotDo) {
  const DeviceTensor x(*device_, DType::bf16, {4, 8}), w(*device_, DType::bf16, {20, 8});
  const DeviceTensor d(*device_, DType::bf16, {4, 20}), aux(*device_, DType::bf16, {4, 20});
  const DeviceTensor bias(*device_, DType::bf16, {20});
  GemmCall call{.a = x, .b = w, .d = d, .transpose_b = true};
  call.bias = bias;
  call.epilogue = Epilogue::bias;
  EXPECT_TRUE(gemm_->fuses(call));
  call.aux = aux;  // 20 columns: not a multiple of 8
  call.epilogue = Epilogue::gelu_new_aux_bias;
  EXPECT_FALSE(gemm_->fuses(call));
  fake_cublaslt().proposals = 0;
  const Call plain(*device_, 16, DType::bf16);
  call = plain;
  call.epilogue = Epilogue::dgelu_new;
  const DeviceTensor pre(*device_, DType::bf16, {16, 24});
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
