// fill_mask, evaluate and forward as on a GPU, which here is the SIMT harness: copies of them lie
// beside a bert_cuda_backend.so of the tests (tests/simt/simt_module.cpp) and a libcuda.so.1 that
// is empty. What they answer is held to the CPU's answers and to Hugging Face's.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tests/train/tools_fixture.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class GpuTools : public ToolsTest {
 protected:
  void SetUp() override {
    ::setenv("LD_LIBRARY_PATH", BERT_FAKE_DRIVER, 1);
    ToolsTest::SetUp();
  }
  static Json parsed(const Answer& answer) {
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    return answer.exit_code == 0 ? Json::parse(answer.output) : Json();
  }
};

TEST_F(GpuTools, EvaluateAgreesWithTheCpu) {
  write_text_corpus(tokenizer_, "corpus");
  const auto on = [&](const std::string& where) {
    return parsed(evaluate("--json --sequence-length 32 --data " + path("corpus") + where, "nsp"));
  };
  const Json cpu = on(" --device cpu"), f32 = on(" --device cuda --precision fp32");
  const Json bf16 = on("");  // what a machine with a GPU takes by itself
  EXPECT_EQ(cpu.at("computed_on").get<std::string>().find("cpu f32"), 0u);
  EXPECT_EQ(f32.at("computed_on"), "SIMT harness, simt f32");
  EXPECT_EQ(bf16.at("computed_on"), "SIMT harness, simt bf16");
  EXPECT_EQ(on(" --precision tf32").at("computed_on"), "SIMT harness, simt f32 with tf32 products");
  for (const Json& gpu : {f32, bf16}) {
    EXPECT_EQ(gpu.at("masked_tokens"), cpu.at("masked_tokens"));
    EXPECT_EQ(gpu.at("sequences"), cpu.at("sequences"));
    // Logits of about 1 are rounded to 2^-9 of themselves, and the mean of many is taken.
    const double tolerance = &gpu == &f32 ? 1e-6 : 2e-3;
    for (const char* const loss : {"mlm_loss", "nsp_loss"}) {
      const double expected = cpu.at(loss), found = gpu.at(loss);
      EXPECT_NEAR(found, expected, tolerance) << loss << " " << gpu.at("computed_on");
    }
  }
  EXPECT_NE(bf16.at("mlm_loss"), f32.at("mlm_loss"));
  const Answer shown = evaluate("--data " + path("corpus"));
  EXPECT_NE(shown.output.find("computed on SIMT harness, simt bf16\n"), std::string::npos)
      << shown.output;
}

TEST_F(GpuTools, FillMaskAgreesWithTheCpu) {
  const std::string text = "--json --top-k 60 'w5 [MASK] w7 [MASK]'";
  const auto probabilities = [](const Json& answer) {
    std::vector<double> values(2 * kVocabSize, -1.0);
    for (std::size_t m = 0; m < 2; ++m) {
      for (const Json& prediction : answer.at("masks").at(m)) {
        values[m * kVocabSize + prediction.at("id").get<std::size_t>()] =
            prediction.at("probability");
      }
    }
    return values;
  };
  const auto cpu = probabilities(parsed(fill_mask(text + " --device cpu --precision fp64")));
  const auto f32 = probabilities(parsed(fill_mask(text + " --device cuda --precision fp32")));
  const auto bf16 = probabilities(parsed(fill_mask(text)));
  for (std::size_t i = 0; i < cpu.size(); ++i) {
    EXPECT_GT(cpu[i], 0.0);
    EXPECT_NEAR(f32[i], cpu[i], 1e-6 * cpu[i] + 1e-7);
    EXPECT_NEAR(bf16[i], cpu[i], 2e-2 * cpu[i]);
  }
  EXPECT_NE(f32, bf16);
}

TEST_F(GpuTools, TheLackOfAGpuIsSaid) {
  ::setenv("BERT_TEST_NO_GPU", "1", 1);
  const auto refused = [&](const std::string& settings, const std::string& message) {
    const std::string line = "error: " + message + "\n";
    EXPECT_EQ(fill_mask("'[MASK]' " + settings).output, line);
    const Answer answer = forward("[{\"input_ids\": [2, 3]}]", settings);
    EXPECT_EQ(answer.exit_code, 2);
    EXPECT_EQ(answer.output, line);
  };
  refused("--device cuda", "--device: cuda is not available: the test wants none; use cpu or auto");
  refused("--precision tf32",
          "--precision: tf32 needs a GPU, and the test wants none; use fp32, bf16 or auto");
  refused("--device cpu --precision tf32",
          "--precision: tf32 needs a GPU; on a CPU use fp32, bf16, fp64 or auto");
  refused(
      "--device cuda --precision fp64",
      "--precision: fp64 is computed on a CPU only; take the device cpu, or tf32, fp32 or bf16");
  const Answer automatic = fill_mask("'[MASK]'");
  EXPECT_EQ(automatic.exit_code, 0) << automatic.output;
  ::unsetenv("BERT_TEST_NO_GPU");
}

// States, logits and every gradient in bf16, relative to the largest of their tensor.
TEST_F(GpuTools, ForwardInBf16AgreesWithTheCpu) {
  const std::string input = R"([
    {"input_ids": [2, 5, 4, 9, 4, 3, 11, 3], "token_type_ids": [0, 0, 0, 0, 0, 0, 1, 1],
     "labels": [-100, -100, 8, -100, 9, -100, -100, -100], "next_sentence_label": 1},
    {"input_ids": [2, 4, 31, 3], "labels": [-100, 7, 31, -100], "next_sentence_label": 1}])";
  ASSERT_EQ(forward(input, "--gradients --device cpu --precision fp64").exit_code, 0);
  fs::rename(folder_ / "out.safetensors", folder_ / "expected.safetensors");
  const Answer answer = forward(input, "--gradients");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("(SIMT harness, simt bf16)"), std::string::npos) << answer.output;

  const SafetensorsFile expected(folder_ / "expected.safetensors");
  const SafetensorsFile computed(folder_ / "out.safetensors");
  EXPECT_EQ(computed.at("mlm_logits").dtype, "BF16");
  EXPECT_EQ(computed.at("hidden_states.2").dtype, "BF16");
  ASSERT_EQ(computed.tensors().size(), expected.tensors().size());
  double worst = 0.0;
  for (const StoredTensor& tensor : expected.tensors()) {
    // Zero but for rounding.
    if (tensor.name.ends_with("key.bias")) continue;
    const std::vector<double> want = read_doubles(expected, tensor.name);
    const std::vector<double> have = read_doubles(computed, tensor.name);
    ASSERT_EQ(have.size(), want.size()) << tensor.name;
    double largest = 0.0;
    for (const double value : want) largest = std::max(largest, std::abs(value));
    EXPECT_GT(largest, 0.0) << tensor.name;
    for (std::size_t i = 0; i < want.size(); ++i) {
      const double error = std::abs(have[i] - want[i]) / largest;
      EXPECT_LT(error, 5.0 * 0x1p-8) << tensor.name << " at " << i;
      worst = std::max(worst, error);
    }
  }
  EXPECT_GT(worst, 0x1p-10);
  std::printf("largest error: %.2g of a tensor's largest element\n", worst);
}

class GpuForwardGolden : public testing::TestWithParam<const char*> {};

TEST_P(GpuForwardGolden, AgreesInEveryTensor) {
  ::setenv("LD_LIBRARY_PATH", BERT_FAKE_DRIVER, 1);
  expect_golden(GetParam(), "--device cuda --precision fp32", 2e-4);
}

INSTANTIATE_TEST_SUITE_P(Goldens, GpuForwardGolden,
                         testing::Values("post_gelu", "post_gelu_new", "pre_gelu", "pre_gelu_new",
                                         "mlm_only"),
                         [](const auto& golden) { return std::string(golden.param); });

}  // namespace
}  // namespace bert
