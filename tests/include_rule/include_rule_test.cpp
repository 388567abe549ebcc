// The project's own sources keep the include rule; and the checker sees each way to break it.
#include "tests/include_rule/include_rule.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

namespace bert {
namespace {

SourceTree read_tree(const std::filesystem::path& root) {
  SourceTree tree;
  for (const char* folder :
       {"runtime", "kernels", "model", "data", "train", "tools", "api", "tests", "bench"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh") {
        continue;
      }
      std::ifstream file(entry.path(), std::ios::binary);
      tree[entry.path().lexically_relative(root).generic_string()] =
          std::string(std::istreambuf_iterator<char>(file), {});
    }
  }
  return tree;
}

TEST(IncludeRule, HoldsInThisProject) {
  const SourceTree tree = read_tree(BERT_SOURCE_DIR);
  EXPECT_EQ(tree.count("runtime/error.h"), 1u);
  EXPECT_EQ(tree.count("tests/include_rule/include_rule_test.cpp"), 1u);
  for (const std::string& broken : check_include_rule(tree)) ADD_FAILURE() << broken;
}

// A small tree that keeps the rule, to break in one place at a time.
SourceTree good_tree() {
  return {
      {"runtime/tensor.h", "#include <vector>\n"},
      {"runtime/device_cuda.h", "#include <cuda_runtime.h>\n"},
      {"runtime/mpi_communicator.cpp", "#include <mpi.h>\n"},
      {"kernels/ops.h", "#include \"runtime/tensor.h\"\n"},
      {"kernels/reference/reference_ops.h", "#include \"kernels/ops.h\"\n"},
      {"kernels/cpu_module.h", "#include \"kernels/ops.h\"\n"},
      {"kernels/cpu/cpu_ops.h", "#include \"kernels/ops.h\"\n"},
      {"kernels/cuda/cuda_ops.h", "#include <cublasLt.h>\n#include \"kernels/ops.h\"\n"},
      {"model/encoder.h", "#include \"kernels/ops.h\"\n"},
      {"data/text/unicode.h", "#include \"runtime/tensor.h\"\n"},
      {"data/samples/batch.h", "#include \"data/text/unicode.h\"\n"},
      {"train/config/config.h", "#include \"data/samples/batch.h\"\n"},
      {"train/step/backend.h", "#include \"train/config/config.h\"\n"},
      {"train/trainer.h",
       "#include \"model/encoder.h\"\n#include \"data/samples/batch.h\"\n"
       "#include \"kernels/cpu_module.h\"\n"},
      {"tools/main.cpp", "#include \"train/trainer.h\"\n#include \"runtime/version.h\"\n"},
  };
}

TEST(IncludeRule, AcceptsATreeThatKeepsIt) {
  EXPECT_EQ(check_include_rule(good_tree()), std::vector<std::string>{});
}

struct Break {
  const char* name;
  const char* file;
  const char* line;
  const char* message;  // part of what is reported
};

class IncludeRuleBroken : public testing::TestWithParam<Break> {};

TEST_P(IncludeRuleBroken, IsReported) {
  SourceTree tree = good_tree();
  tree[GetParam().file] += std::string(GetParam().line) + "\n";
  const std::vector<std::string> broken = check_include_rule(tree);
  ASSERT_FALSE(broken.empty());
  EXPECT_EQ(broken[0].rfind(GetParam().file, 0), 0u) << broken[0];
  EXPECT_NE(broken[0].find(GetParam().message), std::string::npos) << broken[0];
}

INSTANTIATE_TEST_SUITE_P(
    Ways, IncludeRuleBroken,
    testing::Values(
        Break{"Upwards", "runtime/tensor.h", "#include \"kernels/ops.h\"", "may not include"},
        Break{"KernelsToModel", "kernels/ops.h", "# include \"model/encoder.h\"",
              "may not include"},
        Break{"ModelToData", "model/encoder.h", "#include \"data/samples/batch.h\"",
              "may not include"},
        Break{"ModelToBackend", "model/encoder.h", "#include \"kernels/cpu/cpu_ops.h\"",
              "may not include"},
        Break{"ModelToTrain", "model/encoder.h", "#include \"train/trainer.h\"", "may not include"},
        Break{"DataToKernels", "data/samples/batch.h", "#include \"kernels/ops.h\"",
              "may not include"},
        Break{"DataToModel", "data/samples/batch.h", "#include \"model/encoder.h\"",
              "may not include"},
        Break{"TextToSamples", "data/text/unicode.h", "#include \"data/samples/batch.h\"",
              "may not include"},
        Break{"ConfigToStep", "train/config/config.h", "#include \"train/step/backend.h\"",
              "may not include"},
        Break{"StepToTrain", "train/step/backend.h", "#include \"train/trainer.h\"",
              "may not include"},
        Break{"NoLayer", "data/batch.h", "", "lies in no layer"},
        Break{"TrainToTools", "train/trainer.h", "#include \"tools/main.cpp\"", "may not include"},
        Break{"TrainToCpu", "train/trainer.h", "#include \"kernels/cpu/cpu_ops.h\"",
              "may not include"},
        Break{"ReferenceToCpu", "kernels/reference/reference_ops.h",
              "#include \"kernels/cpu/cpu_ops.h\"", "may not include"},
        Break{"CpuToReference", "kernels/cpu/cpu_ops.h",
              "#include \"kernels/reference/reference_ops.h\"", "may not include"},
        Break{"CpuToCuda", "kernels/cpu/cpu_ops.h", "#include \"kernels/cuda/cuda_ops.h\"",
              "may not include"},
        Break{"CudaToCpu", "kernels/cuda/cuda_ops.h", "#include \"kernels/cpu/cpu_ops.h\"",
              "may not include"},
        Break{"ContractsToBackend", "kernels/ops.h", "#include \"kernels/cpu/cpu_ops.h\"",
              "may not include"},
        Break{"AngleBrackets", "model/encoder.h", "#include <data/samples/batch.h>",
              "may not include"},
        Break{"CudaInModel", "model/encoder.h", "#include <cuda_runtime.h>", "CUDA header"},
        Break{"CudaInTrain", "train/trainer.h", "#include <cublasLt.h>", "CUDA header"},
        Break{"CudaThroughAHeader", "model/encoder.h", "#include \"runtime/device_cuda.h\"",
              "model knows no CUDA"},
        Break{"MpiInModel", "model/encoder.h", "#include <mpi.h>", "MPI header"},
        Break{"MpiInTrain", "train/trainer.h", "#include <mpi.h>", "MPI header"},
        Break{"CommandLine", "tools/main.cpp", "#include <CLI/CLI.hpp>",
              "behind runtime/command_line.h"},
        Break{"BesideInsteadOfRoot", "model/encoder.h", "#include \"layer.h\"",
              "not written from the project's root"},
        Break{"Missing", "model/encoder.h", "#include \"kernels/gone.h\"", "does not exist"}),
    [](const auto& way) { return std::string(way.param.name); });

TEST(FindIncludes, SkipsComments) {
  const auto found = find_includes(
      "// #include \"a.h\"\n/* #include \"b.h\"\n#include \"c.h\"\n*/ #include <d.h>\n"
      "  #  include\t\"e.h\"  // why\nint x; /* short */\n#include <f.h>");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].path, "d.h");
  EXPECT_EQ(found[0].line, 4);
  EXPECT_FALSE(found[0].quoted);
  EXPECT_EQ(found[1].path, "e.h");
  EXPECT_TRUE(found[1].quoted);
  EXPECT_EQ(found[2].path, "f.h");
}

}  // namespace
}  // namespace bert
