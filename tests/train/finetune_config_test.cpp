#include "train/config/finetune_config.h"

#include <functional>
#include <set>

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "runtime/file.h"
#include "train/config/config.h"
#include "train/config/finetune_config_keys.h"
#include "train/rank_agreement.h"

namespace bert {
namespace {

// What must be given, in one line, for a task.
std::string required(const std::string& task) {
  return "{task: " + task + ", model: {init_from: m}, data: {train: a, validation: b}}";
}

FinetuneConfig parse(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return parse_finetune_config(yaml, "a.yaml", overrides);
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no InputError was thrown";
  return "";
}

void expect_error(const std::string& task, const std::vector<std::string>& overrides,
                  const std::string& expected) {
  EXPECT_EQ(error_of([&] { parse(required(task), overrides); }), expected);
}

const char* const kWhole = R"(
run_dir: runs/x
seeds: [3, 18446744073709551615]
task: classification
class_weights: [1, 2.5]
model: {init_from: m, random_weights: true, hidden_dropout_prob: 0.2,
        attention_probs_dropout_prob: 0.3, classifier_dropout: 0.4}
tokenizer: {path: t/vocab.txt, cased: true}
data:
  train: a.csv
  validation: b.csv
  test: c.csv
  format: csv
  text: first text
  text_pair: "2"
  label: 3
  header: true
  labels: ["no", 1]
  bad_rows: skip
  max_length: 64
  max_examples: 1000
train: {epochs: 5, batch_size: 16, micro_batch_tokens: 1024, recompute: true, reproducible: true,
        reproducible_sequences: 4}
freeze: {embeddings: true, layers: 2}
optimizer: {learning_rate: 1.0e-4, betas: [0.8, 0.98], epsilon: 1.0e-8, weight_decay: 0.02,
            bias_correction: false, max_grad_norm: 0, layer_decay: 0.9}
schedule: {warmup_fraction: 0.25, decay: constant}
divergence: {policy: stop, spike_z_score: 0, max_in_a_row: 3}
evaluation: {metric: f1, every_steps: 7, patience: 2, min_improvement: 0.001}
checkpoint: {keep: 1, every_steps: 9}
logging: {every_steps: 2, tensorboard: false}
runtime: {device: cpu, precision: fp64, threads: 2}
)";

TEST(FinetuneConfig, EveryValueArrives) {
  const FinetuneConfig c = parse(kWhole);
  EXPECT_EQ(c.run_dir, "runs/x");
  EXPECT_EQ(c.seeds, (std::vector<std::uint64_t>{3, 18446744073709551615u}));
  EXPECT_EQ(c.task, TaskKind::classification);
  EXPECT_EQ(c.class_weights.kind, ClassWeights::Kind::listed);
  EXPECT_EQ(c.class_weights.weights, (std::vector<double>{1, 2.5}));
  EXPECT_EQ(c.model.init_from, "m");
  EXPECT_TRUE(c.model.random_weights);
  EXPECT_EQ(c.model.hidden_dropout_prob, 0.2);
  EXPECT_EQ(c.model.attention_probs_dropout_prob, 0.3);
  EXPECT_EQ(c.model.classifier_dropout, 0.4);
  EXPECT_EQ(c.tokenizer_path(), "t/vocab.txt");
  EXPECT_TRUE(c.tokenizer.cased);
  EXPECT_EQ(c.data.train, "a.csv");
  EXPECT_EQ(c.data.validation, "b.csv");
  EXPECT_EQ(c.data.test, "c.csv");
  EXPECT_EQ(c.data.max_examples, 1000);
  EXPECT_EQ(c.train.epochs, 5);
  EXPECT_EQ(c.train.batch_size, 16);
  EXPECT_EQ(c.train.micro_batch_tokens, 1024);
  EXPECT_TRUE(c.train.recompute);
  EXPECT_EQ(c.train.micro_batch_sequences(), 4);
  EXPECT_TRUE(c.freeze.embeddings);
  EXPECT_EQ(c.freeze.layers, 2);
  EXPECT_EQ(c.optimizer.learning_rate, 1e-4);
  EXPECT_EQ(c.optimizer.beta2, 0.98);
  EXPECT_EQ(c.optimizer.epsilon, 1e-8);
  EXPECT_EQ(c.optimizer.weight_decay, 0.02);
  EXPECT_FALSE(c.optimizer.bias_correction);
  EXPECT_EQ(c.optimizer.max_grad_norm, 0.0);
  EXPECT_EQ(c.optimizer.layer_decay, 0.9);
  EXPECT_EQ(c.divergence.policy, OnDivergence::stop);
  EXPECT_EQ(c.evaluation.metric, "f1");
  EXPECT_EQ(c.evaluation.every_steps, 7);
  EXPECT_EQ(c.evaluation.patience, 2);
  EXPECT_EQ(c.evaluation.min_improvement, 0.001);
  EXPECT_EQ(c.checkpoint.keep, 1);
  EXPECT_EQ(c.checkpoint.every_steps, 9);
  EXPECT_FALSE(c.logging.tensorboard);
  EXPECT_EQ(c.runtime.precision, Precision::fp64);

  const LrSchedule schedule = c.lr_schedule(1001);
  EXPECT_EQ(schedule.peak, 1e-4);
  EXPECT_EQ(schedule.warmup_steps, 250);
  EXPECT_EQ(schedule.max_steps, 1001);
  EXPECT_EQ(schedule.decay, Decay::constant);
}

TEST(FinetuneConfig, TheTaskIsToldWhatItsFilesHold) {
  const TaskOptions texts = parse(kWhole).task_options(512);
  EXPECT_EQ(texts.kind, TaskKind::classification);
  EXPECT_EQ(texts.max_length, 64);
  EXPECT_EQ(texts.bad_rows, BadRows::skip);
  EXPECT_EQ(texts.labels, (std::vector<std::string>{"no", "1"}));
  EXPECT_EQ(texts.table.format, TableFormat::csv);
  EXPECT_EQ(texts.table.text_column, "first text");
  EXPECT_EQ(texts.table.text_pair_column, "2");
  EXPECT_EQ(texts.table.label_column, "3");
  EXPECT_EQ(texts.table.header, true);

  const TaskOptions words = parse(required("token_classification"),
                                  {"data.text=2", "data.label=-2", "data.tagging=iobes"})
                                .task_options(512);
  EXPECT_EQ(words.token_column, 2);
  EXPECT_EQ(words.tag_column, -2);
  EXPECT_EQ(words.scheme, TagScheme::iobes);

  const TaskOptions questions =
      parse(required("question_answering"),
            {"data={max_length: 384, doc_stride: 100, max_query_length: 40, max_answer_length: 20, "
             "null_threshold: -1.5}"})
          .task_options(512);
  EXPECT_EQ(questions.max_length, 384);
  EXPECT_EQ(questions.doc_stride, 100);
  EXPECT_EQ(questions.max_query_length, 40);
  EXPECT_EQ(questions.max_answer_length, 20);
  EXPECT_EQ(questions.null_threshold, -1.5);

  // What is auto is left to the task.
  const TaskOptions open = parse(required("classification")).task_options(512);
  const TaskOptions defaults;
  EXPECT_EQ(open.labels, defaults.labels);
  EXPECT_EQ(open.table.text_column, defaults.table.text_column);
  EXPECT_EQ(open.table.header, defaults.table.header);
  EXPECT_EQ(parse(required("token_classification")).task_options(512).tag_column,
            defaults.tag_column);
}

// A member without a key, or a key for another member, shows here.
TEST(FinetuneConfig, DefaultsAreThoseOfTheStruct) {
  const FinetuneConfig c = parse(required("classification"));
  const FinetuneConfig defaults;
  for (const auto& key : finetune_config_table().keys()) {
    if (key.required) continue;
    EXPECT_EQ(key.get(c), key.get(defaults)) << key.name;
  }
  EXPECT_EQ(c.seeds, std::vector<std::uint64_t>{0});
  EXPECT_EQ(c.train.batch_size, 32);
  EXPECT_TRUE(c.optimizer.bias_correction);
  EXPECT_EQ(c.checkpoint.every_steps, 0);
  EXPECT_EQ(c.tokenizer_path(), "m");
  EXPECT_EQ(c.lr_schedule(10).warmup_steps, 1);
}

TEST(FinetuneConfig, YamlRoundTrip) {
  for (const std::string& yaml :
       {std::string(kWhole), required("classification"), required("regression"),
        required("token_classification"),
        std::string("{task: question_answering, model: {init_from: 'null'}, data: {train: '1', "
                    "validation: 'auto', max_length: 384}, class_weights: none}")}) {
    const FinetuneConfig c = parse(yaml);
    const std::string written = finetune_config_to_yaml(c);
    const FinetuneConfig again = parse(written);
    EXPECT_EQ(finetune_config_to_yaml(again), written);
    for (const auto& key : finetune_config_table().keys()) {
      EXPECT_EQ(key.get(again), key.get(c)) << key.name;
    }
    EXPECT_EQ(again.model.init_from, c.model.init_from);
    EXPECT_EQ(again.data.labels, c.data.labels);
    EXPECT_EQ(finetune_config_to_yaml(parse(explain_finetune_config(c))), written);
  }
}

TEST(FinetuneConfig, EveryKeyIsNamedOnceAndExplained) {
  std::set<std::string> names;
  std::set<std::string_view> sections;
  std::string_view section;
  for (const auto& key : finetune_config_table().keys()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name;
    EXPECT_EQ(key.meaning.back(), '.') << key.name;
    if (key.section() == section) continue;
    section = key.section();
    EXPECT_TRUE(sections.insert(section).second) << section << " stands in two places";
  }
}

TEST(FinetuneConfig, WhatMustBeGivenIsNamed) {
  const auto error = [](const std::string& yaml) { return error_of([&] { parse(yaml); }); };
  EXPECT_EQ(error("{}"),
            "a.yaml: task is not given: expected one of classification, regression, "
            "token_classification, question_answering");
  EXPECT_EQ(error("task: regression"),
            "a.yaml: model.init_from is not given: expected a folder with config.json and "
            "weights");
  EXPECT_EQ(error("task: regression\nmodel: {init_from: m}\ndata: {train: a}"),
            "a.yaml: data.validation is not given: expected a file");
  // --print-config has no need of them, and does not make them up.
  const FinetuneConfig partial =
      parse_finetune_config("{}", "a.yaml", {"task=regression"}, Missing::allow);
  const std::string text = explain_finetune_config(partial);
  EXPECT_NE(text.find("\n  # train: must be given\n"), std::string::npos);
  EXPECT_NE(text.find("\ntask: regression\n"), std::string::npos);
  EXPECT_EQ(finetune_config_to_yaml(partial).find("init_from"), std::string::npos);
}

TEST(FinetuneConfig, KeysAreAsStrictAsThoseOfPreTraining) {
  const std::string text = "classification";
  expect_error(text, {"optimizer.lr=1"},
               "argument optimizer.lr=1: unknown key optimizer.lr; did you mean "
               "optimizer.learning_rate? (--print-config shows every key)");
  expect_error(text, {"seed=1"},
               "argument seed=1: unknown key seed; did you mean seeds? (--print-config shows every "
               "key)");
  expect_error(text, {"train.epochs=0"},
               "argument train.epochs=0: train.epochs is 0: expected an integer from 1 to 1000000");
  expect_error(text, {"optimizer.layer_decay=0"},
               "argument optimizer.layer_decay=0: optimizer.layer_decay is 0: expected a number x "
               "with 0 < x <= 1");
  expect_error(
      text, {"model.hidden_dropout_prob=1"},
      "argument model.hidden_dropout_prob=1: model.hidden_dropout_prob is 1: expected auto "
      "or a number x with 0 <= x <= 0.9999");
  expect_error(text, {"data.header=maybe"},
               "argument data.header=maybe: data.header is maybe: expected auto or true or false");
  expect_error(text, {"schedule.decay=google"},
               "argument schedule.decay=google: schedule.decay is google: expected linear or "
               "constant");
  expect_error(text, {"seeds=[]"},
               "argument seeds=[]: seeds is an empty list: expected a list of integers from 0 to "
               "2^64 - 1");
  expect_error(text, {"seeds=[1, -2]"},
               "argument seeds=[1, -2]: seeds[1] is -2: expected an integer from 0 to 2^64 - 1");
  expect_error(text, {"seeds=[1, 2, 1]"}, "argument seeds=[1, 2, 1]: seeds: 1 is there twice");
  EXPECT_EQ(parse(required(text), {"seeds=5"}).seeds, std::vector<std::uint64_t>{5});
  expect_error(text, {"data.labels=[a, b, a]"},
               "argument data.labels=[a, b, a]: data.labels: a is there twice");
  expect_error(text, {"class_weights=[1, 0]"},
               "argument class_weights=[1, 0]: class_weights[1] is 0: expected a number x with 0 < "
               "x <= 1000000");
  expect_error(text, {"class_weights=even"},
               "argument class_weights=even: class_weights is even: expected none, balanced, or a "
               "list of numbers > 0, one for each label");
  EXPECT_EQ(parse(required(text), {"class_weights=balanced"}).class_weights.kind,
            ClassWeights::Kind::balanced);
  expect_error(text, {"train={reproducible: true, micro_batch_tokens: 1000}"},
               "argument train={reproducible: true, micro_batch_tokens: 1000}: "
               "train.micro_batch_tokens: micro-batches of "
               "1000 tokens have no "
               "room for the 1024 that train.reproducible computes at once, "
               "train.reproducible_sequences (8) of 128");
  expect_error(text, {"train.micro_batch_tokens=127"},
               "argument train.micro_batch_tokens=127: micro-batches of 127 tokens have no room "
               "for one sequence of "
               "128");
}

TEST(FinetuneConfig, ContradictionsAreNamedWithFileAndLine) {
  EXPECT_EQ(error_of([] {
              parse(
                  "task: regression\nmodel: {init_from: m}\ndata: {train: a, validation: b}\n"
                  "class_weights: balanced");
            }),
            "a.yaml:4: class_weights: the key is for classification and token_classification, and "
            "the task is regression; leave it out");
  expect_error("token_classification", {"data.text_pair=2"},
               "argument data.text_pair=2: the key is for classification and regression, and the "
               "task is token_classification; leave it out");
  expect_error("classification", {"data.tagging=iob1"},
               "argument data.tagging=iob1: the key is for token_classification, and the task is "
               "classification; leave it out");
  expect_error("regression", {"data.null_threshold=1"},
               "argument data.null_threshold=1: the key is for question_answering, and the task is "
               "regression; leave it out");
  expect_error("question_answering", {"data.max_length=384", "data.text=context"},
               "argument data.text=context: the key is for classification and regression and "
               "token_classification, and the task is question_answering; leave it out");
  // The default is nothing that is asked for: a run's config.yaml has it.
  EXPECT_NO_THROW(parse(required("classification"), {"data.tagging=auto", "data.doc_stride=auto"}));

  expect_error("classification", {"data.train='-'"},
               "argument data.train='-': standard input can be read once only; name a file");
  expect_error(
      "classification", {"divergence.policy=rollback"},
      "argument divergence.policy=rollback: fine-tuning goes on (skip) or ends (stop); going "
      "back is for runs of weeks");
  const std::string question = "data.max_query_length=64", stride = "data.doc_stride=128";
  expect_error("question_answering", {"data.max_length=195", stride, question},
               "argument data.doc_stride=128: a stride of 128 is not below the 128 tokens of text "
               "that are left in a window of data.max_length 195 after a question of "
               "data.max_query_length 64 and 3 special tokens; leave data.doc_stride at auto, or "
               "give less");
  EXPECT_NO_THROW(parse(required("question_answering"), {"data.max_length=196", stride, question}));
  expect_error(
      "question_answering", {"data.max_length=20", question},
      "argument data.max_query_length=64: a stride of 1 is not below the 0 tokens of text "
      "that are left in a window of data.max_length 20 after a question of "
      "data.max_query_length 64 and 3 special tokens; leave data.max_query_length at auto, "
      "or give less");

  expect_error("classification", {"freeze.layers=1"},
               "argument freeze.layers=1: the embeddings lie below the frozen layers; give "
               "freeze.embeddings=true");
  expect_error("classification", {"data.labels=[a]"},
               "argument data.labels=[a]: with one label there is nothing to learn: expected at "
               "least two");
  expect_error("classification", {"data.labels=[a, b]", "class_weights=[1, 2, 3]"},
               "argument class_weights=[1, 2, 3]: 3 weights for the 2 labels of data.labels: "
               "expected one for each");
  expect_error("classification", {"data.text_pair=b"},
               "argument data.text_pair=b: the column of the second text is given; give that of "
               "the first, data.text");
  expect_error("classification", {"data.text=a", "data.label=a"},
               "argument data.label=a: a is that of data.text already");
  expect_error("classification", {"data.header=false", "data.text=a"},
               "argument data.text=a: without a header there is no column a: expected its number");
  expect_error("classification", {"data.format=jsonl", "data.header=true"},
               "argument data.header=true: JSON lines have no header");
  for (const std::string column : {"word", "0"}) {
    expect_error("token_classification", {"data.text=" + column},
                 "argument data.text=" + column + ": " + column +
                     " is no column of words and tags: expected its number, from 1 on or from the "
                     "last, -1");
  }
  expect_error("classification", {"train.reproducible=true", "runtime.allreduce_dtype=bf16"},
               "argument runtime.allreduce_dtype=bf16: with train.reproducible gradients travel as "
               "whole numbers of 64 bits");
}

TEST(FinetuneConfig, ResolveModelKeepsTheSizesAndFitsTheData) {
  BertConfig found = bert_preset("bert_mini");
  found.max_position_embeddings = 128;
  const FinetuneConfig plain = parse(required("classification"));
  EXPECT_EQ(resolve_model(plain, found.vocab_size, found), found);
  BertConfig expected = found;
  expected.hidden_dropout_prob = 0.0;
  expected.attention_probs_dropout_prob = 0.3;
  expected.classifier_dropout = 0.4;
  const FinetuneConfig dropout = parse(
      required("classification"), {"model={hidden_dropout_prob: 0.0, attention_probs_dropout_prob: "
                                   "0.3, classifier_dropout: 0.4}"});
  EXPECT_EQ(resolve_model(dropout, 100, found), expected);

  const auto error = [&](const std::string& task, const std::string& override_text) {
    return error_of(
        [&] { resolve_model(parse(required(task), {override_text}), found.vocab_size, found); });
  };
  EXPECT_EQ(error_of([&] { resolve_model(plain, found.vocab_size + 1, found); }),
            "the model in m: a vocab_size of 30522 is less than the 30523 entries of the tokenizer "
            "m");
  EXPECT_EQ(
      error("classification", "data.max_length=129"),
      "argument data.max_length=129: sequences of 129 tokens do not fit the model in m, which "
      "reads 128; leave it at auto, or give less");
  EXPECT_EQ(error("classification", "freeze={embeddings: true, layers: 5}"),
            "argument freeze={embeddings: true, layers: 5}: freeze.layers: there are no 5 layers "
            "in the model in "
            "m, which has 4");
  found.type_vocab_size = 1;
  EXPECT_EQ(error("classification", "data={text: a, text_pair: b}"),
            "argument data={text: a, text_pair: b}: data.text_pair: pairs of texts need two kinds "
            "of segments, and "
            "the model in m has 1");
  found.max_position_embeddings = 384;
  EXPECT_EQ(error("question_answering", "data.max_length=384"),
            "a.yaml:1: task: pairs of texts need two kinds of segments, and the model in m has 1");
}

// What the quickstart's model reads is less than what the paper's experiments had.
TEST(FinetuneConfig, LengthsThatAreLeftOpenFitTheModel) {
  const FinetuneConfig texts = parse(required("classification"));
  EXPECT_EQ(texts.lengths(512).max_length, 128);
  EXPECT_EQ(texts.lengths(64).max_length, 64);
  EXPECT_EQ(texts.task_options(64).max_length, 64);
  const FinetuneConfig questions = parse(required("question_answering"));
  for (const std::int64_t longest : {8, 16, 64, 128, 384, 512}) {
    const SequenceLengths lengths = questions.lengths(longest);  // does not refuse them
    EXPECT_EQ(lengths.max_length, std::min<std::int64_t>(longest, 384));
    EXPECT_GE(lengths.max_query_length, 1);
    EXPECT_GE(lengths.doc_stride, 1);
    const TaskOptions options = questions.task_options(longest);
    EXPECT_EQ(options.doc_stride, lengths.doc_stride);
    EXPECT_EQ(options.max_query_length, lengths.max_query_length);
  }
  EXPECT_EQ(questions.lengths(64).max_query_length, 16);
  EXPECT_EQ(questions.lengths(64).doc_stride, 22);
  // One that is given stays what it is, or is refused.
  const FinetuneConfig given = parse(required("question_answering"), {"data.doc_stride=40"});
  EXPECT_EQ(given.lengths(64).doc_stride, 40);
  EXPECT_EQ(
      error_of([&] { given.lengths(32); }),
      "argument data.doc_stride=40: a stride of 40 is not below the 21 tokens of text that are "
      "left in a window of data.max_length 32 after a question of data.max_query_length 8 and "
      "3 special tokens; leave data.doc_stride at auto, or give less");
}

TEST(FinetuneConfig, RanksCompareEveryKey) {
  const Facts here = facts_of(parse(required("classification"), {"train.epochs=2"}));
  const Facts there = facts_of(parse(required("classification")));
  EXPECT_EQ(here.size(), 1 + finetune_config_table().keys().size());
  EXPECT_EQ(first_difference(here, there), "train.epochs is 2 here, 3 on rank 0");
}

TEST(FinetuneConfig, DamagedTextIsHarmless) {
  const std::string good = kWhole;
  int refused = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const int bit : {0, 3, 6, 7}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      try {
        finetune_config_to_yaml(parse(bad));
      } catch (const InputError&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, static_cast<int>(good.size()));
}

// --- What the project ships ---------------------------------------------------------------------
const std::filesystem::path kConfigs = BERT_CONFIGS;

// Every file in configs/, each with the reader of its folder.
TEST(FinetuneConfig, TheConfigurationsOfThisProjectAreValid) {
  int pretraining = 0, finetuning = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kConfigs)) {
    if (entry.is_directory()) continue;
    const std::filesystem::path& path = entry.path();
    SCOPED_TRACE(path.string());
    EXPECT_EQ(path.extension(), ".yaml");
    std::string run_dir;
    if (path.parent_path() == kConfigs) {
      ++pretraining;
      ASSERT_NO_THROW(run_dir = load_config(path).run_dir);
    } else {
      ++finetuning;
      EXPECT_EQ(path.parent_path(), kConfigs / "finetune");
      ASSERT_NO_THROW(run_dir = load_finetune_config(path).run_dir);
    }
    EXPECT_EQ(run_dir, "runs/" + path.stem().string());
  }
  EXPECT_EQ(pretraining, 10);
  EXPECT_EQ(finetuning, 6);
}

FinetuneConfig shipped(const std::string& name) {
  return load_finetune_config(kConfigs / "finetune" / (name + ".yaml"));
}

// As BERT was fine-tuned: Devlin et al. 2019, sections 4.1 and 4.2, appendix A.3.
TEST(FinetuneConfig, TheConfigurationsOfThisProjectAreThePapers) {
  for (const char* name : {"sst2", "cola", "rte", "agnews", "wnut17", "squad"}) {
    SCOPED_TRACE(name);
    const FinetuneConfig c = shipped(name);
    EXPECT_EQ(c.train.batch_size, 32);
    EXPECT_GE(c.train.epochs, 3);
    EXPECT_LE(c.train.epochs, 4);
    EXPECT_GE(c.optimizer.learning_rate, 2e-5);
    EXPECT_LE(c.optimizer.learning_rate, 5e-5);
    EXPECT_EQ(c.optimizer.beta1, 0.9);
    EXPECT_EQ(c.optimizer.beta2, 0.999);
    EXPECT_EQ(c.optimizer.epsilon, 1e-6);
    EXPECT_EQ(c.optimizer.weight_decay, 0.01);
    EXPECT_TRUE(c.optimizer.bias_correction);
    EXPECT_EQ(c.optimizer.max_grad_norm, 1.0);
    EXPECT_EQ(c.schedule.warmup_fraction, 0.1);
    EXPECT_EQ(c.schedule.decay, Decay::linear);
  }
  EXPECT_EQ(shipped("wnut17").task, TaskKind::token_classification);
  EXPECT_EQ(shipped("cola").evaluation.metric, "matthews");
  EXPECT_EQ(shipped("cola").task_options(512).table.text_column, "4");
  EXPECT_EQ(shipped("rte").data.text_pair, "sentence2");
  const FinetuneConfig squad = shipped("squad");
  EXPECT_EQ(squad.task, TaskKind::question_answering);
  EXPECT_EQ(squad.lengths(512).max_length, 384);
  EXPECT_EQ(squad.lengths(512).doc_stride, 128);
  EXPECT_EQ(squad.lengths(512).max_query_length, 64);
  EXPECT_EQ(shipped("sst2").lengths(512).max_length, 128);
  EXPECT_EQ(squad.optimizer.learning_rate, 5e-5);
}

TEST(FinetuneConfig, TheDocumentedKeysAreThese) {
  const std::filesystem::path path = kConfigs.parent_path() / "docs" / "configuration.md";
  const std::string text = read_file(path);
  const std::string opening = "```yaml\n";
  const std::size_t pretraining = text.find(opening);
  ASSERT_NE(pretraining, std::string::npos);
  const std::size_t finetuning = text.find(opening, pretraining + opening.size());
  ASSERT_NE(finetuning, std::string::npos);
  const std::size_t begin = finetuning + opening.size();
  EXPECT_EQ(text.substr(begin, text.find("```", begin) - begin),
            explain_finetune_config(FinetuneConfig{}))
      << path << " is out of date: put the output of `finetune --print-config` there";
}

}  // namespace
}  // namespace bert
