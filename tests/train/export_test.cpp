// export as a user runs it: models with every head, there and back.
#include <cstring>
#include <memory>

#include "model/bert_for_task.h"
#include "model/model_files.h"
#include "tests/train/tools_fixture.h"
#include "train/step/backend.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

BertConfig small_config(LayerNormPlacement layer_norm) {
  BertConfig config;
  config.vocab_size = kVocabSize;
  config.hidden_size = 16;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.intermediate_size = 24;
  config.max_position_embeddings = 40;
  config.layer_norm = layer_norm;
  return config;
}

std::vector<std::unique_ptr<BertModel>> all_models(LayerNormPlacement layer_norm) {
  using Heads = BertForPretraining::Heads;
  const BertConfig config = small_config(layer_norm);
  const std::vector<std::string> labels{"good", "bad", "neither"};
  std::vector<std::unique_ptr<BertModel>> models;
  models.push_back(std::make_unique<BertForPretraining>(config, Heads::mlm));
  models.push_back(std::make_unique<BertForPretraining>(config, Heads::mlm_and_nsp));
  models.push_back(std::make_unique<BertModel>(config, /*with_pooler=*/true));
  models.push_back(std::make_unique<BertModel>(config, /*with_pooler=*/false));
  const auto add_task = [&](TaskKind kind, std::vector<std::string> names) {
    models.push_back(std::make_unique<BertForTask>(config, kind, std::move(names)));
  };
  add_task(TaskKind::classification, labels);
  add_task(TaskKind::regression, {});
  add_task(TaskKind::token_classification, labels);
  add_task(TaskKind::question_answering, {});
  return models;
}

class Export : public ToolsTest {
 protected:
  Answer run_export(const std::string& from, const std::string& to, const std::string& more = "") {
    return run(
        fmt::format("{} --checkpoint {} --output {} {}", BERT_EXPORT, path(from), path(to), more));
  }
  std::string file(const std::string& folder, const char* name) {
    return read_file(folder_ / folder / name);
  }
  // A folder of the model with random weights, LayerNorms and biases too.
  void write(const std::string& name, BertModel& model) {
    model.allocate(*backend_.device, *backend_.ops,
                   {.tokens = 8, .sequences = 1, .masked = 1, .max_seqlen = 8}, false);
    PhiloxStream random(5, 7, 0);
    for (const Parameter& parameter : model.parameters().parameters()) {
      std::vector<double> values(static_cast<std::size_t>(parameter.numel()));
      for (double& value : values) value = random.next_double() - 0.5;
      model.parameters().write(parameter.value, values);
    }
    fs::create_directories(folder_ / name);
    save_model(folder_ / name, model, tokenizer_.special().pad);
    tokenizer_.save(folder_ / name);
  }

  Backend backend_ = make_backend(Precision::fp32, 1);
};

TEST_F(Export, EveryHeadComesBackAsItWas) {
  for (const LayerNormPlacement layer_norm : {LayerNormPlacement::post, LayerNormPlacement::pre}) {
    int number = 0;
    for (const auto& model : all_models(layer_norm)) {
      const std::string name = fmt::format("{}{}", layer_norm_name(layer_norm), number++);
      SCOPED_TRACE(name);
      write(name, *model);
      const Answer answer = run_export(name, name + "_out", "--json");
      ASSERT_EQ(answer.exit_code, 0) << answer.output;
      const Json json = Json::parse(answer.output);
      EXPECT_EQ(json.at("rounding_difference"), 0.0);
      EXPECT_EQ(json.at("unused_tensors").size() + json.at("unknown_tensors").size(), 0u);
      const bool has_head = model->head_description().architecture != "Model";
      EXPECT_EQ(json.at("probe_outputs").size(),
                3u + model->has_pooler() + has_head + model->has_nsp());
      for (const char* part : {"model.safetensors", "config.json", "tokenizer.json", "vocab.txt"}) {
        EXPECT_EQ(file(name + "_out", part), file(name, part)) << part;
      }
    }
  }
}

TEST_F(Export, KeepsLabels) {
  const auto models = all_models(LayerNormPlacement::post);
  write("words", *models[6]);
  ASSERT_EQ(run_export("words", "out").exit_code, 0);
  const Json config = Json::parse(file("out", "config.json"));
  EXPECT_EQ(config.at("architectures").at(0), "BertForTokenClassification");
  EXPECT_EQ(config.at("id2label"), (Json{{"0", "good"}, {"1", "bad"}, {"2", "neither"}}));
  EXPECT_EQ(config.at("label2id").at("neither"), 2);

  // What config.json and the weights do not agree on.
  Json changed = config;
  changed["id2label"] = {{"0", "good"}};
  write_text(folder_ / "words" / "config.json", changed.dump());
  expect_refused(run_export("words", "x"), "config.json names 1 labels, the classifier has 3");
  changed = config;
  changed["architectures"] = {"BertForMultipleChoice"};
  write_text(folder_ / "words" / "config.json", changed.dump());
  expect_refused(run_export("words", "x"), "BertForMultipleChoice");
  changed["architectures"] = {"BertForSequenceClassification"};
  changed["problem_type"] = "multi_label_classification";
  write_text(folder_ / "words" / "config.json", changed.dump());
  expect_refused(run_export("words", "x"), "several labels at once");
  EXPECT_FALSE(fs::exists(folder_ / "x"));
  EXPECT_FALSE(fs::exists(folder_ / "x.unfinished"));
}

TEST_F(Export, NarrowTypes) {
  const std::vector<std::pair<std::string, double>> precisions{{"f16", 0x1p-11}, {"bf16", 0x1p-8}};
  for (const auto& [dtype, unit] : precisions) {
    const Answer answer = run_export("nsp", dtype, "--json --dtype " + dtype);
    ASSERT_EQ(answer.exit_code, 0) << answer.output;
    const double difference = Json::parse(answer.output).at("rounding_difference");
    EXPECT_GT(difference, 0.0);
    EXPECT_LT(difference, 0.1);
    const SafetensorsFile wide(folder_ / "nsp" / "model.safetensors"),
        narrow(folder_ / dtype / "model.safetensors");
    ASSERT_EQ(wide.tensors().size(), narrow.tensors().size());
    for (const StoredTensor& tensor : wide.tensors()) {
      EXPECT_EQ(narrow.at(tensor.name).bytes * 2, tensor.bytes);
      const std::vector<double> a = read_doubles(wide, tensor.name),
                                b = read_doubles(narrow, tensor.name);
      for (std::size_t i = 0; i < a.size(); ++i) {
        ASSERT_LE(std::abs(a[i] - b[i]), unit * std::abs(a[i]) + 0x1p-25) << tensor.name;
      }
    }
    // What is narrow stays as it is.
    ASSERT_EQ(run_export(dtype, dtype + "_again", "--dtype " + dtype).exit_code, 0);
    EXPECT_EQ(file(dtype + "_again", "model.safetensors"), file(dtype, "model.safetensors"));
  }
  // A number that f16 does not have.
  write_checkpoint(folder_ / "large", tokenizer_, BertForPretraining::Heads::mlm, 9, 70000.0);
  expect_refused(run_export("large", "x", "--dtype f16"), "cls.predictions.bias holds 70000");
  EXPECT_EQ(run_export("large", "x", "--dtype bf16").exit_code, 0);
}

TEST_F(Export, TellsWhatItLeavesOut) {
  const SafetensorsFile whole(folder_ / "mlm" / "model.safetensors");
  std::vector<StoredTensor> tensors = whole.tensors();
  for (const char* name :
       {"bert.pooler.dense.weight", "cls.predictions.decoder.weight", "adapter"}) {
    tensors.push_back(tensors.front());
    tensors.back().name = name;
  }
  write_stored_tensors(folder_ / "more.safetensors", tensors);
  fs::rename(folder_ / "more.safetensors", folder_ / "mlm" / "model.safetensors");
  const Answer answer = run_export("mlm", "out");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("of heads that are not used: bert.pooler.dense.weight\n"),
            std::string::npos)
      << answer.output;
  EXPECT_NE(answer.output.find("warning: " + path("mlm") +
                               "/model.safetensors: 1 tensors are of no BERT known here and were "
                               "left out: adapter\n"),
            std::string::npos)
      << answer.output;
  EXPECT_EQ(SafetensorsFile(folder_ / "out" / "model.safetensors").find("adapter"), nullptr);
}

TEST_F(Export, Refuses) {
  fs::create_directories(folder_ / "full");
  write_text(folder_ / "full" / "a", "b");
  expect_refused(run_export("mlm", "full"), "is there already");
  EXPECT_TRUE(fs::exists(folder_ / "full" / "a"));
  fs::create_directories(folder_ / "empty");
  expect_refused(run(fmt::format("cd {} && {} --checkpoint {} --output .", path("empty"),
                                 BERT_EXPORT, path("mlm"))),
                 "is or holds the folder that the program runs in");
  EXPECT_EQ(run_export("mlm", "empty").exit_code, 0);
  EXPECT_EQ(run_export("mlm", "above/slash/").exit_code, 0);
  EXPECT_TRUE(fs::exists(folder_ / "above" / "slash" / "config.json"));
  fs::remove_all(folder_ / "above");
  expect_refused(run_export("nowhere", "x"), path("nowhere"));
  expect_refused(run_export("mlm", "x", "--dtype f8"), "f8");
  fs::remove(folder_ / "mlm" / "vocab.txt");
  fs::remove(folder_ / "mlm" / "tokenizer.json");
  expect_refused(run_export("mlm", "above/x"), "holds no tokenizer");
  EXPECT_FALSE(fs::exists(folder_ / "above"));
  fs::remove(folder_ / "nsp" / "model.safetensors");
  expect_refused(run_export("nsp", "x"), "holds no weights");
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

}  // namespace
}  // namespace bert
