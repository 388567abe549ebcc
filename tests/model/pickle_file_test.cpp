// pytorch_model.bin, and weights in several files. The archives are tests/fuzz/corpus/pickle, by
// tests/reference/make_pickles.py.
#include "model/weights/pickle_file.h"

#include <cstring>
#include <functional>

#include <gtest/gtest.h>
#include <unistd.h>

#include "model/weights/safetensors.h"
#include "model/weights/sharded_weights.h"
#include "runtime/error.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

std::string input_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

class Weights : public testing::Test {
 protected:
  Weights() : folder_(fs::temp_directory_path() / ("bert_weights_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~Weights() override { fs::remove_all(folder_); }

  static fs::path pickle(const char* name) { return fs::path(BERT_PICKLES) / name; }
  static std::string open_error(const fs::path& path) {
    const std::string message = input_error([&] { PickleFile file(path); });
    EXPECT_TRUE(message.empty() || message.find(path.string()) != std::string::npos) << message;
    return message;
  }
  void expect_error(const char* name, const std::string& part) {
    const std::string message = open_error(pickle(name));
    EXPECT_NE(message.find(part), std::string::npos) << name << ": " << message;
  }
  void put(const char* name, const std::string& content) {
    write_file_atomic(folder_ / name, content);
  }
  std::string weights_error() {
    return input_error([&] { open_weights(folder_); });
  }

  fs::path folder_;
};

// first, first + 1/4, ...: what the script fills tensors with.
void expect_counted(const WeightsSource& file, const char* name, const char* shape, double first) {
  const StoredTensor& tensor = file.at(name);
  EXPECT_EQ(tensor.shape_string(), shape);
  std::vector<double> values(static_cast<std::size_t>(tensor.numel()));
  file.read(tensor, std::span<double>(values));
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(values[i], first + static_cast<double>(i) / 4) << name << " at " << i;
  }
}

TEST_F(Weights, PickleHoldsWhatPyTorchWrote) {
  const PickleFile file(pickle("state_dict"));
  EXPECT_EQ(file.tensors().size(), 10u);
  EXPECT_EQ(file.tensors().front().name, "f32");
  expect_counted(file, "f32", "F32[3, 2]", 1);
  expect_counted(file, "f16", "F16[3]", 2);
  expect_counted(file, "bf16", "BF16[2, 2]", 3);
  expect_counted(file, "f64", "F64[2]", 4);
  expect_counted(file, "scalar", "F32[]", 2.5);
  expect_counted(file, "tied", "F32[3, 2]", 1);
  expect_counted(file, "rows", "F32[2, 2]", 0.5);
  expect_counted(file, "parameter", "F32[2]", 1.5);
  EXPECT_EQ(file.at("tied").data, file.at("f32").data);
  EXPECT_EQ(file.at("flags").shape_string(), "BOOL[2]");
  const StoredTensor& positions = file.at("position_ids");
  EXPECT_EQ(positions.shape_string(), "I64[1, 300]");
  std::int64_t last = 0;
  std::memcpy(&last, positions.data + 299 * sizeof last, sizeof last);
  EXPECT_EQ(last, 299);
}

TEST_F(Weights, PickleRunsNothing) {
  expect_error("command", "it asks for posix.system, which is no part of a dict of tensors");
  expect_error("module", "it asks for torch.nn.modules.linear.Linear");
  expect_error("quantized", "it asks for torch._utils._rebuild_qtensor");
  expect_error("before_1_6", "written by a PyTorch before 1.6");
  expect_error("transposed", "a (F32[3, 2]) is not contiguous");
  expect_error("expanded", "a tensor of shape");
  expect_error("dict_of_dicts", "\"model\" is no tensor");
  expect_error("list", "instruction 0x5d");
  expect_error("compressed", "a/data.pkl is compressed or encrypted");
}

TEST_F(Weights, PickleCutShortIsRefused) {
  const std::string whole = read_file(pickle("state_dict"));
  const fs::path path = folder_ / "pytorch_model.bin";
  for (std::size_t size = 0; size < whole.size(); size += size < whole.size() - 64 ? 61 : 1) {
    put("pytorch_model.bin", whole.substr(0, size));
    EXPECT_NE(open_error(path), "") << size;
  }
  // A storage smaller than the tensor in it: 6 elements, of which the directory admits 5.
  std::string smaller = whole;
  const std::size_t entry = smaller.rfind("state_dict/data/0");
  ASSERT_NE(entry, std::string::npos);
  for (const std::size_t at : {entry - 26, entry - 22}) smaller[at] = 20;
  put("pytorch_model.bin", smaller);
  EXPECT_NE(open_error(path).find("should have 6 elements of F32, but has 20 bytes"),
            std::string::npos)
      << open_error(path);
}

TEST_F(Weights, ComeInSeveralFiles) {
  EXPECT_NE(weights_error().find("holds no weights"), std::string::npos);
  const float values[] = {1.0f, 1.25f};
  write_safetensors(folder_ / "part1", {{"a", DType::f32, {2}, values}});
  write_safetensors(folder_ / "part2",
                    {{"b", DType::f32, {1}, values}, {"unlisted", DType::f32, {1}, values}});
  const char* const list = "model.safetensors.index.json";
  put(list, R"({"metadata": {"total_size": 12}, "weight_map": {"a": "part1", "b": "part2"}})");
  const auto weights = open_weights(folder_);
  EXPECT_EQ(weights->tensors().size(), 3u);
  expect_counted(*weights, "a", "F32[2]", 1);
  expect_counted(*weights, "b", "F32[1]", 1);

  put(list, R"({"weight_map": {"a": "part2", "b": "part2"}})");
  EXPECT_NE(weights_error().find("part2 has no tensor a"), std::string::npos) << weights_error();
  put(list, R"({"weight_map": {"a": "../part1"}})");
  EXPECT_NE(weights_error().find("a is in \"../part1\""), std::string::npos) << weights_error();
  put(list, R"({"weight_map": {"a": "part3"}})");
  EXPECT_NE(weights_error().find("part3"), std::string::npos) << weights_error();
  put(list, R"({"weight_map": ["a"]})");
  EXPECT_NE(weights_error().find("expected an object \"weight_map\""), std::string::npos);
  write_safetensors(folder_ / "part2",
                    {{"b", DType::f32, {1}, values}, {"a", DType::f32, {1}, values}});
  put(list, R"({"weight_map": {"a": "part1", "b": "part2"}})");
  EXPECT_NE(weights_error().find("a is both in part1 and in part2"), std::string::npos);

  // pytorch_model.bin after safetensors; and what git-lfs leaves in the place of a file.
  fs::remove(folder_ / list);
  fs::copy_file(pickle("state_dict"), folder_ / "pytorch_model.bin");
  EXPECT_EQ(open_weights(folder_)->tensors().size(), 10u);
  put("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n");
  EXPECT_NE(weights_error().find("git lfs pull"), std::string::npos);
}

}  // namespace
}  // namespace bert
