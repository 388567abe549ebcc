#include "train/config/config.h"

#include <functional>
#include <set>

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "train/config/config_keys.h"

namespace bert {
namespace {

Config parse(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return parse_config(yaml, "a.yaml", overrides);
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
std::string error_of(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return error_of([&] { parse(yaml, overrides); });
}

void expect_error(const std::string& yaml, const std::string& expected) {
  EXPECT_EQ(error_of(yaml), expected);
}
void expect_override_error(const std::string& text, const std::string& expected) {
  EXPECT_EQ(error_of("seed: 1", {text}), expected);
}

// The configuration of the design, whole.
const char* const kWhole = R"(
run_dir: runs/x
seed: 7
model:
  preset: bert_base
  layer_norm: pre
  hidden_act: gelu
  hidden_dropout_prob: 0.0
  init_from: null
tokenizer:
  path: t
  cased: true
data:
  path: c
  sampling: chunks
  prefetch: 2
  threads: 3
objective:
  masking: token
  mask_fraction: 0.2
  max_predictions: 20
  next_sentence: true
optimizer:
  learning_rate: 3.0e-4
  betas: [0.8, 0.98]
  epsilon: 1.0e-7
  weight_decay: 0.02
  bias_correction: false
  max_grad_norm: 0
schedule:
  warmup_steps: 1_000
  decay: google
train:
  max_steps: 1e5
  batch_size: 64
  sequence_length: 96
  micro_batch_tokens: 4096
  recompute: true
  phases:
    - {from: 0.0, sequence_length: 128}
    - {from: 0.9, sequence_length: 512, batch_size: 32, micro_batch_tokens: auto}
  reproducible: true
  reproducible_sequences: 4
evaluation: {every_steps: 50, max_batches: 20, samples: 3, patience: 4}
checkpoint: {every_steps: 60, keep: 2}
logging:    {every_steps: 5, tensorboard: false}
runtime:    {device: cpu, precision: fp64, threads: 2}
)";

TEST(Config, EveryValueArrives) {
  const Config c = parse(kWhole);
  EXPECT_EQ(c.run_dir, "runs/x");
  EXPECT_EQ(c.seed, 7u);
  EXPECT_EQ(c.model.preset, "bert_base");
  EXPECT_EQ(c.model.bert.hidden_size, 768);
  EXPECT_EQ(c.model.bert.vocab_size, 0);
  EXPECT_EQ(c.model.bert.layer_norm, LayerNormPlacement::pre);
  EXPECT_EQ(c.model.bert.hidden_act, Activation::gelu);
  EXPECT_EQ(c.model.bert.hidden_dropout_prob, 0.0);
  EXPECT_FALSE(c.model.init_from);
  EXPECT_EQ(c.tokenizer.path, "t");
  EXPECT_TRUE(c.tokenizer.cased);
  ASSERT_EQ(c.data.path.size(), 1u);
  EXPECT_EQ(c.data.path[0].path, "c");
  EXPECT_EQ(c.data.sampling, Sampling::chunks);
  EXPECT_EQ(c.data.prefetch, 2);
  EXPECT_EQ(c.data.threads, 3);
  EXPECT_EQ(c.objective.masking, Masking::token);
  EXPECT_EQ(c.objective.mask_fraction, 0.2);
  EXPECT_EQ(c.objective.max_predictions, 20);
  EXPECT_TRUE(c.objective.next_sentence);
  EXPECT_EQ(c.optimizer.learning_rate, 3e-4);
  EXPECT_EQ(c.optimizer.beta1, 0.8);
  EXPECT_EQ(c.optimizer.beta2, 0.98);
  EXPECT_EQ(c.optimizer.epsilon, 1e-7);
  EXPECT_EQ(c.optimizer.weight_decay, 0.02);
  EXPECT_FALSE(c.optimizer.bias_correction);
  EXPECT_EQ(c.optimizer.max_grad_norm, 0.0);
  EXPECT_EQ(c.schedule.warmup_steps, 1000);
  EXPECT_EQ(c.schedule.decay, Decay::google);
  EXPECT_EQ(c.train.max_steps, 100000);
  EXPECT_EQ(c.train.batch_size, 64);
  EXPECT_EQ(c.train.sequence_length, 96);
  EXPECT_EQ(c.train.micro_batch_tokens, 4096);
  EXPECT_EQ(c.train.phases.size(), 2u);
  EXPECT_TRUE(c.train.recompute);
  EXPECT_TRUE(c.train.reproducible);
  EXPECT_EQ(c.train.micro_batch_sequences(), 4);
  EXPECT_EQ(c.evaluation.every_steps, 50);
  EXPECT_EQ(c.evaluation.max_batches, 20);
  EXPECT_EQ(c.evaluation.samples, 3);
  EXPECT_EQ(c.evaluation.patience, 4);
  EXPECT_EQ(c.checkpoint.every_steps, 60);
  EXPECT_EQ(c.checkpoint.keep, 2);
  EXPECT_EQ(c.logging.every_steps, 5);
  EXPECT_FALSE(c.logging.tensorboard);
  EXPECT_EQ(c.runtime.device, DeviceChoice::cpu);
  EXPECT_EQ(c.runtime.precision, Precision::fp64);
  EXPECT_EQ(c.runtime.threads, 2);
  const LrSchedule schedule = c.lr_schedule();
  EXPECT_EQ(schedule.peak, 3e-4);
  EXPECT_EQ(schedule.warmup_steps, 1000);
  EXPECT_EQ(schedule.max_steps, 100000);
  EXPECT_EQ(schedule.decay, Decay::google);
}

TEST(Config, DefaultsAreThoseOfTheStruct) {
  const Config c = parse("seed: 0");
  EXPECT_EQ(c.optimizer.learning_rate, 1e-4);
  EXPECT_EQ(c.train.max_steps, 1000000);
  EXPECT_FALSE(c.train.micro_batch_tokens);
  EXPECT_FALSE(c.runtime.threads);
  EXPECT_EQ(c.model.bert.hidden_size, 768);
  EXPECT_EQ(c.model.bert.vocab_size, 0);
  EXPECT_EQ(resolve_model(c, 30522), bert_preset("bert_base"));
}

// Written and read again it is the same, and every key of the table is in it exactly once.
TEST(Config, YamlRoundTrip) {
  for (const std::string& yaml :
       {std::string("seed: 18446744073709551615"), std::string(kWhole),
        std::string(
            "run_dir: \"a: b\\\"c\\\" \xc3\xa9\"\nmodel: {preset: bert_tiny, vocab_size: 99, "
            "init_from: \"NULL\"}\ndata: {path: \"12\"}")}) {
    const Config c = parse(yaml);
    const std::string written = config_to_yaml(c);
    const Config again = parse(written);
    EXPECT_EQ(config_to_yaml(again), written);
    EXPECT_EQ(again.run_dir, c.run_dir);
    EXPECT_EQ(again.seed, c.seed);
    EXPECT_EQ(again.model.bert, c.model.bert);
    EXPECT_EQ(again.model.init_from, c.model.init_from);
    EXPECT_EQ(again.optimizer.epsilon, c.optimizer.epsilon);
    EXPECT_EQ(again.train.phases.size(), c.train.phases.size());
    for (const ConfigKey& key : config_keys()) EXPECT_EQ(key.get(again), key.get(c)) << key.name;
    // Comments change nothing.
    EXPECT_EQ(config_to_yaml(parse(explain_config(c))), written);
  }
}

// Without what wrapping lines changes.
std::string squeezed(std::string text) {
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n' || c == '#'; });
  return text;
}

TEST(Config, EveryKeyIsDocumented) {
  std::set<std::string> names;
  const std::string text = squeezed(explain_config(Config{}));
  for (const ConfigKey& key : config_keys()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name << " is in the table twice";
    EXPECT_NE(text.find(squeezed(key.meaning)), std::string::npos) << key.name;
    const std::string expected = squeezed(key.expected + "; default: " + key.default_value);
    EXPECT_NE(text.find(expected), std::string::npos) << key.name;
    EXPECT_EQ(key.meaning.back(), '.') << key.name;
    EXPECT_NE(config_table().find(key.name), nullptr);
  }
  // All of kWhole's keys, and those of config.json.
  for (const char* name : {"train.phases", "model.layer_norm_eps", "model.type_vocab_size",
                           "objective.max_predictions", "run_dir"}) {
    EXPECT_EQ(names.count(name), 1u) << name;
  }
}

TEST(Config, UnknownKeysNameTheNearest) {
  expect_error("optimizer:\n  learning_rat: 1",
               "a.yaml:2: unknown key optimizer.learning_rat; did you mean "
               "optimizer.learning_rate? (--print-config shows every key)");
  for (const auto& [part, whole] : {std::pair("optimizer.lr", "optimizer.learning_rate"),
                                    std::pair("model.layers", "model.num_hidden_layers"),
                                    std::pair("model.heads", "model.num_attention_heads"),
                                    std::pair("train.steps", "train.max_steps"),
                                    std::pair("model.dropout", "model.hidden_dropout_prob"),
                                    std::pair("train.warmup", "schedule.warmup_steps"),
                                    std::pair("checkpoint.steps", "checkpoint.every_steps")}) {
    EXPECT_EQ(config_table().names().nearest(part), whole) << part;
  }
  expect_error("\n\nlearning_rate: 1",
               "a.yaml:3: unknown key learning_rate; did you mean optimizer.learning_rate? "
               "(--print-config shows every key)");
  expect_error("optimiser: {epsilon: 1}",
               "a.yaml:1: unknown key optimiser; did you mean optimizer? "
               "(--print-config shows every key)");
  expect_error("logging: {keep: 1}",
               "a.yaml:1: unknown key logging.keep; did you mean checkpoint.keep? "
               "(--print-config shows every key)");
  expect_error("logging: {foo: 1}",
               "a.yaml:1: unknown key logging.foo; logging has every_steps, tensorboard "
               "(--print-config shows every key)");
  expect_error("threads: 1",
               "a.yaml:1: unknown key threads; did you mean data.threads or runtime.threads? "
               "(--print-config shows every key)");
  expect_error("foo: 1", "a.yaml:1: unknown key foo (--print-config shows every key)");
  // Nothing is meant that is as far away as this.
  for (const char* other : {"train.bach", "model.foo", "data.list"}) {
    EXPECT_EQ(config_table().names().nearest(other), "") << other;
  }
  expect_override_error("train.max_step=1",
                        "argument train.max_step=1: unknown key train.max_step; did you mean "
                        "train.max_steps? (--print-config shows every key)");
}

TEST(Config, WrongTypesAndRangesNameLineKeyValueAndExpectation) {
  expect_error("seed: 1\ntrain:\n  max_steps: many",
               "a.yaml:3: train.max_steps is many: expected an integer, at least 1");
  expect_error("train: {batch_size: 0}",
               "a.yaml:1: train.batch_size is 0: expected an integer from 1 to 2147483647");
  expect_error("train: {batch_size: 1.5}",
               "a.yaml:1: train.batch_size is 1.5: expected an integer from 1 to 2147483647");
  expect_error("train: {batch_size: \"8\"}",
               "a.yaml:1: train.batch_size is \"8\": expected an integer from 1 to 2147483647");
  expect_error(
      "train: {batch_size: [8]}",
      "a.yaml:1: train.batch_size is a list of 1: expected an integer from 1 to 2147483647");
  expect_error("train: {batch_size: }",
               "a.yaml:1: train.batch_size is empty: expected an integer from 1 to 2147483647");
  expect_error("runtime: {threads: 0}",
               "a.yaml:1: runtime.threads is 0: expected auto or an integer from 1 to 4096");
  expect_error("optimizer: {learning_rate: -1}",
               "a.yaml:1: optimizer.learning_rate is -1: expected a number x with 0 < x <= 10");
  expect_error("optimizer: {learning_rate: .nan}",
               "a.yaml:1: optimizer.learning_rate is .nan: expected a number x with 0 < x <= 10");
  expect_error("optimizer: {max_grad_norm: inf}",
               "a.yaml:1: optimizer.max_grad_norm is inf: expected a number >= 0");
  expect_error("optimizer: {betas: [0.9]}",
               "a.yaml:1: optimizer.betas is a list of 1: expected a list of two numbers, each 0 "
               "<= x < 1");
  expect_error("optimizer: {betas: [0.9, 1.0]}",
               "a.yaml:1: optimizer.betas[1] is 1.0: expected a number x with 0 <= x < 1");
  expect_error("optimizer: {bias_correction: yes}",
               "a.yaml:1: optimizer.bias_correction is yes: expected true or false");
  expect_error("schedule: {decay: cosine}",
               "a.yaml:1: schedule.decay is cosine: expected one of linear, google, constant");
  expect_error("objective: {masking: static}",
               "a.yaml:1: objective.masking is static: expected whole_word or token");
  expect_error("model: {preset: bert_huge}",
               "a.yaml:1: model.preset is bert_huge: expected one of bert_tiny, bert_mini, "
               "bert_small, bert_base, bert_large");
  expect_error("seed: -1", "a.yaml:1: seed is -1: expected an integer from 0 to 2^64 - 1");
  expect_error("run_dir: ", "a.yaml:1: run_dir is empty: expected a folder");
  expect_error("run_dir: ''", "a.yaml:1: run_dir is \"\": expected a folder");
  expect_error("train: 3",
               "a.yaml:1: train is 3: expected a section with some of the keys max_steps, "
               "batch_size, sequence_length, micro_batch_tokens, recompute, phases, reproducible, "
               "reproducible_sequences");
}

TEST(Config, CorporaAreOneOrAList) {
  const auto path = [](const std::string& text) { return parse_config(text, "a.yaml").data.path; };
  EXPECT_EQ(path("data: {path: a}").size(), 1u);
  const auto plain = path("data: {path: [a, b]}");
  ASSERT_EQ(plain.size(), 2u);
  EXPECT_EQ(plain[1].path, "b");
  EXPECT_FALSE(plain[1].weight);
  const auto weighted =
      path("data:\n  path:\n    - {path: a, weight: 3}\n    - {weight: 0.5, path: b}");
  ASSERT_EQ(weighted.size(), 2u);
  EXPECT_EQ(weighted[0].weight, 3.0);
  EXPECT_EQ(weighted[1].weight, 0.5);
  expect_error("data: {path: []}",
               "a.yaml:1: data.path is an empty list: expected a folder written by prepare_corpus, "
               "or a list of folders or of {path, weight}");
  expect_error("data:\n  path:\n    - {path: a, weight: 0}",
               "a.yaml:3: data.path[0].weight is 0: expected a number x with 0 < x <= 1000000000");
  expect_error(
      "data: {path: [{path: a, weight: 1}, b]}",
      "a.yaml:1: data.path: some corpora have a weight: give one to all of them, or to none");
  expect_error("data: {path: [{wheight: 1}]}",
               "a.yaml:1: unknown key data.path[0].wheight; did you mean weight?");
  expect_error("data: {path: [{foo: 1}]}",
               "a.yaml:1: unknown key data.path[0].foo: expected some of path, weight");
  expect_error("data: {path: [{path: a, path: b}]}", "a.yaml:1: data.path[0].path is given twice");
  expect_error("data: {path: [{path: a, [b]: c}]}", "a.yaml:1: a key is not a word");
  expect_error("data: {path: [{weight: 1}]}",
               "a.yaml:1: data.path[0] has no `path`: expected a folder written by prepare_corpus");
}

TEST(Config, WhatThisBuildCannotDoIsRefused) {
  expect_error("runtime: {precision: fp4}",
               "a.yaml:1: runtime.precision is fp4: expected one of auto, fp64, fp32, tf32, bf16, "
               "fp8");
}

TEST(Config, ReproducibleMicroBatchesHaveAFixedSize) {
  EXPECT_EQ(parse_config("train: {reproducible_sequences: 4}", "a").train.micro_batch_sequences(),
            0);
  const std::string on = "train: {reproducible: true, micro_batch_tokens: ";
  EXPECT_NO_THROW(parse_config(on + "1024}", "a.yaml"));
  expect_error(
      on + "1023}",
      "a.yaml:1: train.micro_batch_tokens: micro-batches of 1023 tokens have no room for "
      "the 1024 that train.reproducible computes at once, train.reproducible_sequences (8) of 128");
  // In a later part of the run.
  expect_error(on + "1024, phases: [{from: 0.5, sequence_length: 256}]}",
               "a.yaml:1: train.phases[0].sequence_length: micro-batches of 1024 tokens have no "
               "room for the 2048 that "
               "train.reproducible computes at once, train.reproducible_sequences (8) of 256");
  expect_error("train: {reproducible: true}\nruntime: {allreduce_dtype: bf16}",
               "a.yaml:2: runtime.allreduce_dtype: with train.reproducible gradients travel as "
               "whole numbers of 64 bits");
}

TEST(Config, WhatIsNoConfigurationIsRefused) {
  expect_error("", "a.yaml is empty: expected a configuration");
  expect_error("# nothing\n", "a.yaml is empty: expected a configuration");
  expect_error("- a",
               "a.yaml is not a configuration: expected sections like `train:` with keys "
               "below");
  expect_error("a\n---\nb", "a.yaml: expected one YAML document, found more");
  expect_error(",", "a.yaml: expected one YAML document, found more");
  expect_error("train:\n  a: [1", "a.yaml:2 is not YAML: end of sequence flow not found");
  expect_error("train:\n\tbatch_size: 3",
               "a.yaml:2 is not YAML: illegal map value; indent with spaces, not with tabs");
  expect_error("train:\n  batch_size: 3\n bad: 3", "a.yaml:3 is not YAML: end of map not found");
  expect_error("seed: 1\nseed: 2", "a.yaml:2: seed is given twice");
  expect_error("train: {batch_size: 1}\ntrain: {batch_size: 2}", "a.yaml:2: train is given twice");
  expect_error("[a]: 1", "a.yaml:1: a key is not a word");
  EXPECT_TRUE(error_of("train: &a {train: *a}").starts_with("a.yaml:1: unknown key train.train;"));
  const auto missing = [] { load_config("/nowhere/b.yaml"); };
  EXPECT_EQ(error_of(missing), "cannot read /nowhere/b.yaml: No such file or directory");
}

TEST(Config, OverridesComeLastAndAreChecked) {
  const Config c =
      parse("train: {max_steps: 5, batch_size: 9}\nschedule: {warmup_steps: 1}",
            {"train.max_steps=70", "train.max_steps=80", "optimizer.betas=[0.5, 0.6]",
             "run_dir=a=b", "evaluation={samples: 1, patience: 2}", "model.hidden_size=128",
             "model.preset=bert_tiny", "train.micro_batch_tokens=auto"});
  EXPECT_EQ(c.train.max_steps, 80);
  EXPECT_EQ(c.train.batch_size, 9);
  EXPECT_EQ(c.optimizer.beta2, 0.6);
  EXPECT_EQ(c.run_dir, "a=b");
  EXPECT_EQ(c.evaluation.samples, 1);
  EXPECT_EQ(c.model.bert.hidden_size, 128);
  EXPECT_EQ(c.model.bert.num_hidden_layers, 2);
  EXPECT_EQ(c.where("train.max_steps"), "argument train.max_steps=80");
  EXPECT_EQ(c.where("train.batch_size"), "a.yaml:1: train.batch_size");
  EXPECT_EQ(c.where("seed"), "seed (its default)");
  // An argument that does not name the key itself.
  EXPECT_EQ(c.where("evaluation.samples"),
            "argument evaluation={samples: 1, patience: 2}: evaluation.samples");
  const std::string phases = "train.phases=[{from: 0}, {from: 0.5, sequence_length: 513}]";
  expect_override_error(phases,
                        "argument " + phases +
                            ": train.phases[1].sequence_length: a sequence_length of 513 does not "
                            "fit model.max_position_embeddings, which is 512; make the one shorter "
                            "or the other longer");

  expect_override_error("seed",
                        "argument seed: expected key.path=value, such as "
                        "train.max_steps=1000");
  expect_override_error("=3", "argument =3: expected key.path=value, such as train.max_steps=1000");
  expect_override_error("seed=x",
                        "argument seed=x: seed is x: expected an integer from 0 to 2^64 - 1");
  expect_override_error("seed=",
                        "argument seed=: seed is empty: expected an integer from 0 to 2^64 "
                        "- 1");
  EXPECT_TRUE(error_of("seed: 1", {"train.phases=[1"})
                  .starts_with("argument train.phases=[1 is not "
                               "YAML: "));
}

TEST(Config, ChecksAcrossKeys) {
  expect_error("train: {max_steps: 10}\nschedule:\n  warmup_steps: 11",
               "a.yaml:3: schedule.warmup_steps: 11 steps of warm-up (schedule.warmup_steps) are "
               "more than train.max_steps, which is 10: change one of them");
  expect_error("train:\n  max_steps: 10",
               "a.yaml:2: train.max_steps: 10000 steps of warm-up (schedule.warmup_steps) are more "
               "than train.max_steps, which is 10: change one of them");
  expect_error("model: {max_position_embeddings: 64}\ntrain: {sequence_length: 65}",
               "a.yaml:2: train.sequence_length: a sequence_length of 65 does not fit "
               "model.max_position_embeddings, which is 64; make the one shorter or the other "
               "longer");
  expect_error("train: {phases: [{from: 0.5, sequence_length: 513}]}",
               "a.yaml:1: train.phases[0].sequence_length: a sequence_length of 513 does not fit "
               "model.max_position_embeddings, which is 512; make the one shorter or the other "
               "longer");
  expect_error("model: {hidden_dropout_prob: 0.99999}",
               "a.yaml:1: model.hidden_dropout_prob is 0.99999: expected a number x with 0 <= x <= "
               "0.9999");
  expect_error("model: {hidden_size: 100}",
               "a.yaml:1: model.hidden_size: hidden_size 100 is not a multiple of "
               "num_attention_heads 12; heads usually have 64 numbers each");
  expect_error("train: {micro_batch_tokens: 100}",
               "a.yaml:1: train.micro_batch_tokens: micro-batches of 100 tokens have no room for "
               "one sequence of "
               "128");
  expect_error("model: {type_vocab_size: 1}\nobjective: {next_sentence: true}",
               "a.yaml:1: model.type_vocab_size: objective.next_sentence needs two kinds of "
               "segments, at least 2");
  expect_error("evaluation: {every_steps: 0, patience: 1}",
               "a.yaml:1: evaluation.patience: stopping early needs evaluations on the way: give "
               "evaluation.every_steps");
}

TEST(Config, Phases) {
  const Config c = parse(
      "schedule: {warmup_steps: 0}\n"
      "train:\n  max_steps: 10\n  batch_size: 8\n  sequence_length: 16\n  micro_batch_tokens: 512\n"
      "  phases:\n"
      "    - {from: 0.25, sequence_length: 32}\n"
      "    - {from: 0.5, batch_size: 4, micro_batch_tokens: auto}\n"
      "    - {from: 0.95, sequence_length: 64}\n");
  const std::vector<Phase> phases = c.phases();
  ASSERT_EQ(phases.size(), 4u);
  const auto expect = [](const Phase& phase, int first, int end, int length, int batch) {
    EXPECT_EQ(phase.first_step, first);
    EXPECT_EQ(phase.end_step, end);
    EXPECT_EQ(phase.sequence_length, length);
    EXPECT_EQ(phase.batch_size, batch);
  };
  expect(phases[0], 0, 2, 16, 8);
  expect(phases[1], 2, 5, 32, 8);
  expect(phases[2], 5, 9, 32, 4);
  expect(phases[3], 9, 10, 64, 4);
  EXPECT_EQ(phases[1].micro_batch_tokens, 512);
  EXPECT_FALSE(phases[2].micro_batch_tokens);
  for (int step = 0; step < 10; ++step) {
    const Phase phase = c.phase_at(step);
    EXPECT_LE(phase.first_step, step);
    EXPECT_LT(step, phase.end_step);
  }
  EXPECT_EQ(c.phase_at(10).sequence_length, 64);

  // Without phases, and with one from the start that hides the base: a single part.
  EXPECT_EQ(parse("seed: 1").phases().size(), 1u);
  const Config hidden = parse("train: {phases: [{from: 0, sequence_length: 32}]}");
  ASSERT_EQ(hidden.phases().size(), 1u);
  EXPECT_EQ(hidden.phase_at(0).sequence_length, 32);

  expect_error("train:\n  phases:\n    - {from: 0.5}\n    - {from: 0.5}",
               "a.yaml:4: train.phases[1].from is 0.5, not after the phase before it, which begins "
               "at 0.5");
  expect_error("train:\n  phases:\n    - {sequence_length: 8}",
               "a.yaml:3: train.phases[0] has no `from`: expected the fraction of max_steps where "
               "it begins");
  expect_error("train: {phases: [{from: 1.0}]}",
               "a.yaml:1: train.phases[0].from is 1.0: expected a number x with 0 <= x < 1");
  expect_error("train: {phases: [{from: 0, seed: 1}]}",
               "a.yaml:1: unknown key train.phases[0].seed: expected some of from, "
               "sequence_length, batch_size, micro_batch_tokens");
  expect_error("train: {phases: [{from: 0, bach_size: 1}]}",
               "a.yaml:1: unknown key train.phases[0].bach_size; did you mean batch_size?");
  expect_error(
      "train:\n  phases:\n    - {from: 0.5, batch_size: 8}\n    - from: 0.6\n      batch_size: "
      "8\n      batch_size: 9",
      "a.yaml:6: train.phases[1].batch_size is given twice");
  expect_error(
      "train: {phases: [{from: 0, micro_batch_tokens: 3}]}",
      "a.yaml:1: train.phases[0].micro_batch_tokens is 3: expected auto or an integer from "
      "8 to 2147483647");
  // What does not go together is said of the phase that says so.
  expect_error(
      "train:\n  micro_batch_tokens: 200\n  phases:\n    - {from: 0.5}\n    - from: 0.6\n"
      "      sequence_length: 256",
      "a.yaml:6: train.phases[1].sequence_length: micro-batches of 200 tokens have no room "
      "for one sequence of 256");
  expect_error("train: {phases: [{from: 0.5, sequence_length: 256, micro_batch_tokens: 200}]}",
               "a.yaml:1: train.phases[0].micro_batch_tokens: micro-batches of 200 tokens have no "
               "room for one sequence of 256");
  EXPECT_EQ(phases[0].batch_key, "train.batch_size");
  EXPECT_EQ(phases[3].batch_key, "train.phases[1].batch_size");
  EXPECT_EQ(c.where(phases[3].batch_key), "a.yaml:9: train.phases[1].batch_size");
  EXPECT_EQ(c.where(phases[3].length_key), "a.yaml:10: train.phases[2].sequence_length");
  expect_error("train: {phases: 3}",
               "a.yaml:1: train.phases is 3: expected a list of {from, sequence_length, "
               "batch_size, micro_batch_tokens}");
}

TEST(Config, ResolveModelFitsTheTokenizer) {
  const Config automatic = parse("model: {preset: bert_tiny}");
  EXPECT_EQ(resolve_model(automatic, 4000).vocab_size, 4000);
  const Config wider = parse("model: {vocab_size: 4096}");
  EXPECT_EQ(resolve_model(wider, 4000).vocab_size, 4096);
  EXPECT_EQ(error_of([&] { resolve_model(wider, 4097); }),
            "a.yaml:1: model.vocab_size: a vocab_size of 4096 is less than the 4097 entries of the "
            "tokenizer data/tokenizer");
}

TEST(Config, ResolveModelContinuesFromAnother) {
  BertConfig found = bert_preset("bert_mini");
  found.vocab_size = 5000;
  found.hidden_act = Activation::gelu;
  found.max_position_embeddings = 128;

  const Config plain = parse("model: {init_from: m, hidden_dropout_prob: 0.0, vocab_size: auto}");
  BertConfig expected = found;
  expected.hidden_dropout_prob = 0.0;
  EXPECT_EQ(resolve_model(plain, 4000, found), expected);
  // A run's config.yaml can be read and resolved again.
  const Config again = parse(config_to_yaml(plain));
  EXPECT_EQ(resolve_model(again, 4000, found), expected);

  const auto message = [&](const std::string& yaml) {
    return error_of([&] { resolve_model(parse(yaml), 4000, found); });
  };
  EXPECT_EQ(message("model:\n  init_from: m\n  hidden_act: gelu_new"),
            "a.yaml:3: model.hidden_act: gelu_new, but the model in m has gelu; leave the key out");
  EXPECT_EQ(message("model: {init_from: m, preset: bert_mini}"),
            "a.yaml:1: model.preset: model.init_from brings its own sizes; leave the preset out");
  EXPECT_EQ(
      message("model: {init_from: m}\ntrain: {sequence_length: 256}"),
      "a.yaml:2: train.sequence_length: a sequence_length of 256 does not fit the model in m, "
      "which reads 128 tokens; make it shorter");
  EXPECT_EQ(error_of([&] { resolve_model(plain, 5001, found); }),
            "the model in m: a vocab_size of 5000 is less than the 5001 entries of the tokenizer "
            "data/tokenizer");
}

// Whatever bytes a file holds: a configuration or an InputError.
TEST(Config, DamagedTextIsHarmless) {
  const std::string good = kWhole;
  int refused = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const int bit : {0, 3, 6, 7}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      try {
        parse(bad);
      } catch (const InputError&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, static_cast<int>(good.size()));
}

TEST(Config, ModelsThatDifferNameWhat) {
  BertConfig here = bert_preset("bert_tiny"), there = here;
  there.hidden_dropout_prob = 0.3;
  there.classifier_dropout = 0.2;
  there.init = WeightInit::normal;
  EXPECT_EQ(model_differences(here, there), "");
  there.num_hidden_layers = 3;
  there.layer_norm = LayerNormPlacement::pre;
  EXPECT_EQ(model_differences(here, there),
            "layer_norm is pre there, post here, num_hidden_layers is 3 there, 2 here");
}

// Where the value is said that another check finds to be wrong.
TEST(Config, WhatIsOpenedNamesItsKey) {
  const Config config = parse("run_dir: a\ndata:\n  path: b");
  const auto fail = []() -> int { throw_input_error("{} is not there", "b"); };
  const auto error = error_of([&] { (void)config.naming("data.path", fail); });
  EXPECT_EQ(error, "a.yaml:3: data.path: b is not there");
  EXPECT_EQ(config.naming("data.path", [] { return 5; }), 5);
}

}  // namespace
}  // namespace bert
