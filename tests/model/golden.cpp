#include "tests/model/golden.h"

#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

namespace bert::test {

Golden::Golden(const std::string& name)
    : file_(std::filesystem::path(BERT_GOLDENS) / (name + ".safetensors")) {
  const std::string& text = file_.metadata().at("config");
  config_ = from_hugging_face_json(text, name);
  head_ = head_from_hugging_face_json(text, name);
  batch_.input_ids = integers("input_ids");
  batch_.token_type_ids = integers("token_type_ids");
  batch_.position_ids = integers("position_ids");
  batch_.cu_seqlens = integers("cu_seqlens");
  batch_.sequence_index = integers("sequence_index");
  batch_.masked_rows = integers("masked_rows");
  batch_.masked_targets = integers("masked_targets");
  batch_.sequence_labels = integers(file_.find("nsp_labels") ? "nsp_labels" : "sequence_labels");
  batch_.answer_spans = integers("answer_spans");
  if (file_.find("sequence_values")) batch_.sequence_values = reals("sequence_values");
  if (file_.find("loss_weights")) batch_.loss_weights = reals("loss_weights");
}

std::optional<DropoutKey> Golden::dropout_key() const {
  if (!file_.find("dropout_seed")) return {};
  return DropoutKey{static_cast<std::uint64_t>(integer64("dropout_seed")),
                    static_cast<std::uint32_t>(integer64("dropout_step"))};
}

std::vector<double> Golden::reals(const std::string& name) const {
  const StoredTensor& tensor = file_.at(name);
  std::vector<double> values(static_cast<std::size_t>(tensor.numel()));
  file_.read(tensor, std::span(values));
  return values;
}

std::map<std::string, std::vector<double>> Golden::gradients() const {
  std::map<std::string, std::vector<double>> out;
  for (const StoredTensor& tensor : file_.tensors()) {
    if (tensor.name.starts_with("grad.")) out[tensor.name.substr(5)] = reals(tensor.name);
  }
  return out;
}

std::vector<double> Golden::integers(const std::string& name) const {
  const StoredTensor* tensor = file_.find(name);
  if (tensor == nullptr) return {};
  BERT_CHECK(tensor->dtype == "I32");
  std::vector<std::int32_t> values(static_cast<std::size_t>(tensor->numel()));
  if (!values.empty()) std::memcpy(values.data(), tensor->data, tensor->bytes);
  return {values.begin(), values.end()};
}

std::int64_t Golden::integer64(const std::string& name) const {
  const StoredTensor& tensor = file_.at(name);
  BERT_CHECK(tensor.dtype == "I64" && tensor.numel() == 1);
  std::int64_t value = 0;
  std::memcpy(&value, tensor.data, sizeof value);
  return value;
}

double golden_tolerance(const Ops& ops) { return ops.dtype() == DType::f64 ? 1e-12 : 1e-5; }

void expect_near(const std::string& what, const std::vector<double>& values,
                 const std::vector<double>& expected, double tolerance) {
  EXPECT_LE(relative_error(values, expected), tolerance) << what;
}

void expect_gradients(const ModelResults& results, const Golden& golden, double tolerance) {
  for (const auto& [name, error] : gradient_errors(results.gradients, golden.gradients())) {
    EXPECT_LE(error, tolerance) << "gradient of " << name;
  }
}

void expect_hugging_faces_parameters(const BertModel& model, const Golden& golden) {
  std::size_t names = 0;
  for (const Parameter& parameter : model.parameters().parameters()) {
    for (const std::string& name : parameter.hf_names) {
      const StoredTensor* tensor = golden.file().find(name);
      ASSERT_NE(tensor, nullptr) << name;
      std::vector<std::int64_t> shape = parameter.shape;
      shape[0] /= static_cast<std::int64_t>(parameter.hf_names.size());
      EXPECT_EQ(tensor->shape, shape) << name;
      ++names;
    }
  }
  EXPECT_EQ(names, golden.gradients().size());
}

std::vector<GoldenOnBackend> on_all_backends(const std::vector<std::string>& goldens) {
  std::vector<GoldenOnBackend> params;
  for (const BackendEntry& backend : available_backends()) {
    if (backend.make().ops->dtype() == DType::bf16) continue;
    for (const std::string& golden : goldens) params.push_back({golden, backend});
  }
  return params;
}

std::size_t count_goldens(const std::string& folder) {
  std::size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(BERT_GOLDENS) / folder)) {
    files += entry.path().extension() == ".safetensors" ? 1 : 0;
  }
  return files;
}

}  // namespace bert::test
