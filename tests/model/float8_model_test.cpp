// Which products of a model are in FP8: those of its encoder layers, all of them, and no others.
#include <map>

#include <gtest/gtest.h>

#include "tests/model/model_fixture.h"
#include "tests/simt/naive_gemm.h"
#include "tests/simt/simt_ops.h"

namespace bert::test {
namespace {

using Calls = std::map<std::string, int>;

// Notes the operands and the result of each product.
class NotingGemm final : public Gemm {
 public:
  explicit NotingGemm(Calls& calls) : calls_(calls) {}
  bool fuses(const GemmCall& call) const override { return gemm_->fuses(call); }
  void run(const GemmCall& call, cudaStream_t stream) override {
    ++calls_[call.a.shape_string() + " " + call.b.shape_string() + " " + call.d.shape_string()];
    gemm_->run(call, stream);
  }

 private:
  Calls& calls_;
  std::unique_ptr<Gemm> gemm_ = simt::make_naive_gemm(true);
};

TEST(Float8Model, EncoderProducts_on_simt_fp8) {
  BertConfig config;
  config.vocab_size = 100;
  config.hidden_size = 32;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 1;
  config.intermediate_size = 64;
  config.max_position_embeddings = 32;
  const HostBatch batch = random_batch("float8_model", config, {20, 28}, 3);
  Calls calls;
  const auto make = [&] {
    Backend backend{make_cpu_device(), nullptr};
    backend.ops = simt::make_simt_ops(DType::bf16, *backend.device,
                                      std::make_unique<NotingGemm>(calls), true);
    return backend;
  };
  ModelRun run(config, BertForPretraining::Heads::mlm_and_nsp, make, batch.exact_capacity());
  run.model().parameters().initialize(config, 1);
  run.model().parameters().refresh_compute();
  run.step({batch}, {});

  Calls expected;
  const int t = 48;
  for (const auto& [k, n] : {std::pair{32, 96}, {32, 32}, {32, 64}, {64, 32}}) {
    expected[fmt::format("e4m3[{}, {}] e4m3[{}, {}] bf16[{}, {}]", t, k, n, k, t, n)] += 2;
    expected[fmt::format("e5m2[{}, {}] e4m3[{}, {}] bf16[{}, {}]", t, n, k, n, t, k)] += 2;
    expected[fmt::format("e5m2[{}, {}] e4m3[{}, {}] f32[{}, {}]", n, t, k, t, n, k)] += 2;
  }
  Calls narrow;
  int others = 0;
  for (const auto& [call, times] : calls) {
    if (call.starts_with("e")) {
      narrow[call] = times;
    } else {
      EXPECT_TRUE(call.starts_with("bf16")) << call;
      others += times;
    }
  }
  EXPECT_EQ(narrow, expected);
  EXPECT_EQ(others, 12);  // MLM transform and decoder, pooler, NSP, each forward, dx and dweight
}

}  // namespace
}  // namespace bert::test
