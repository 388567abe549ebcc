// A golden file (tests/reference/README.md): a model of Hugging Face's, a batch, and what came of
// it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/model_files.h"
#include "tests/model/model_fixture.h"

namespace bert::test {

class Golden {
 public:
  // `name`: of a file in BERT_GOLDENS, without its extension.
  explicit Golden(const std::string& name);

  const SafetensorsFile& file() const { return file_; }
  const BertConfig& config() const { return config_; }
  const HeadDescription& head() const { return head_; }
  const HostBatch& batch() const { return batch_; }
  std::optional<DropoutKey> dropout_key() const;
  std::vector<double> reals(const std::string& name) const;
  std::map<std::string, std::vector<double>> gradients() const;

 private:
  std::vector<double> integers(
      const std::string& name) const;  // none where there is no such tensor
  std::int64_t integer64(const std::string& name) const;

  SafetensorsFile file_;
  BertConfig config_;
  HeadDescription head_;
  HostBatch batch_;
};

// The largest allowed error as a part of the tensor's largest element. f64: the worst that was seen
// is 9e-15, rounding in another order. f32: 9e-6 in the gradient of a query's bias, scores'
// gradients of either sign, which cancel to a tenth of their size; 3e-6 in anything but gradients.
double golden_tolerance(const Ops& ops);

void expect_near(const std::string& what, const std::vector<double>& values,
                 const std::vector<double>& expected, double tolerance);
void expect_gradients(const ModelResults& results, const Golden& golden, double tolerance);
// Names and shapes both ways: nothing of theirs is missing here, nothing here is unknown to them.
void expect_hugging_faces_parameters(const BertModel& model, const Golden& golden);

// Each golden on each backend but bf16, which 1e-5 is not for: these models have few terms and
// large weights, so that its rounding grows to a tenth of a gradient. Its bound is in
// model_backends_test.cpp.
struct GoldenOnBackend {
  std::string golden;
  BackendEntry backend;
};
std::vector<GoldenOnBackend> on_all_backends(const std::vector<std::string>& goldens);

// All the golden files in `folder` of BERT_GOLDENS.
std::size_t count_goldens(const std::string& folder);

}  // namespace bert::test
