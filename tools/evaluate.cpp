// evaluate: how well a checkpoint predicts text it has not seen, beside knowing word counts only.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/samples/pretraining_dataset.h"
#include "kernels/cpu_module.h"
#include "model/model_files.h"
#include "runtime/command_line.h"
#include "runtime/communicator.h"
#include "runtime/plural.h"
#include "runtime/program.h"
#include "train/inference/inference_session.h"
#include "train/step/backend_options.h"
#include "train/step/evaluator.h"
#include "train/step/micro_batch_limits.h"

namespace {

using bert::EvaluationResult;
using Json = nlohmann::ordered_json;

struct Arguments {
  std::string checkpoint, data;
  std::int64_t batch_size = 32, max_batches = 0;
  std::optional<std::int64_t> sequence_length;
  std::string sampling = "sentences", masking = "whole_word";
  std::uint64_t seed = bert::kValidationSeed;
  bert::RuntimeConfig runtime;
  bool unigram = false, json = false;
};

// The share by which a model's perplexity lies below the baseline's: 0.9 is a tenth of it.
double below(const EvaluationResult& model, const EvaluationResult& baseline) {
  return 1.0 - model.perplexity() / baseline.perplexity();
}

Json to_json(const std::optional<double>& number) { return number ? Json(*number) : Json(); }

Json to_json(const EvaluationResult& result) {
  return {{"mlm_loss", result.loss()},         {"mlm_loss_se", to_json(result.loss_se)},
          {"perplexity", result.perplexity()}, {"perplexity_se", to_json(result.perplexity_se())},
          {"mlm_accuracy", result.accuracy()}, {"masked_tokens", result.mlm.count}};
}

void print_row(const std::string& name, const EvaluationResult& result) {
  std::cout << fmt::format("{:<9} loss {:>8.4f}   perplexity {:>10.2f}   accuracy {:>6.2f} %\n",
                           name, result.loss(), result.perplexity(), 100.0 * result.accuracy());
}

void print(const EvaluationResult& model, const std::optional<EvaluationResult>& baseline,
           const Arguments& arguments, std::int64_t sequence_length, bool next_sentence,
           const std::string& backend) {
  std::cout << fmt::format("{} of {} (validation split, sequences of up to {})\n",
                           bert::plural(model.mlm.count, "masked token"), arguments.data,
                           sequence_length);
  std::cout << fmt::format("computed on {}\n", backend);
  print_row("model", model);
  if (baseline) print_row("unigram", *baseline);
  if (model.loss_se) {
    std::cout << fmt::format(
        "standard error of the model's loss {:.4f}, of its perplexity {:.2f}\n", *model.loss_se,
        *model.perplexity_se());
  }
  if (next_sentence) {
    std::cout << fmt::format("next sentence: loss {:.4f}, accuracy {:.2f} % of {}\n",
                             model.nsp_loss(), 100.0 * model.nsp_accuracy(),
                             bert::plural(model.nsp.count, "pair"));
  }
  if (baseline) {
    const double share = 100.0 * below(model, *baseline);
    std::cout << fmt::format("the model's perplexity is {:.1f} % {} the unigram perplexity\n",
                             std::abs(share), share < 0 ? "above" : "below");
  }
}

int run(const Arguments& arguments) {
  const bert::ModelDescription description = bert::describe_model(arguments.checkpoint);
  const std::int64_t longest = description.config.max_position_embeddings;
  const std::int64_t length =
      arguments.sequence_length.value_or(std::min<std::int64_t>(128, longest));
  if (length > longest) {
    bert::throw_input_error("--sequence-length {}: the model of {} takes at most {} tokens", length,
                            arguments.checkpoint, longest);
  }
  const auto corpus = std::make_shared<const bert::Corpus>(arguments.data);
  bert::DatasetOptions options;
  options.sampling = bert::parse_sampling(arguments.sampling);
  options.sequence_length = length;
  options.next_sentence = description.heads == bert::BertForPretraining::Heads::mlm_and_nsp;
  options.masking.masking = bert::parse_masking(arguments.masking);
  options.seed = arguments.seed;
  const auto validation =
      std::make_shared<const bert::PretrainingDataset>(corpus, bert::Split::validation, options);

  const auto communicator = bert::make_local_communicator();
  bert::Backend backend =
      bert::make_backend(arguments.runtime, *communicator, bert::backend_option);
  const std::string computed_on = backend.description();
  const std::int64_t tokens = bert::good_batch_tokens(*backend.device);
  const std::int64_t sequences = std::clamp<std::int64_t>(tokens / length, 1, arguments.batch_size);
  const bert::Capacity capacity{.tokens = sequences * length,
                                .sequences = sequences,
                                .masked = sequences * validation->masker().num_predictions(length),
                                .max_seqlen = length};
  bert::InferenceSession session(arguments.checkpoint, std::move(backend), capacity);
  corpus->check_tokenizer(session.tokenizer());

  const EvaluationResult model =
      bert::Evaluator(session.masked_model(), session.device(), session.memory())
          .run(validation, arguments.batch_size, arguments.max_batches, *communicator);
  std::optional<EvaluationResult> baseline;
  if (arguments.unigram) {
    baseline =
        bert::evaluate_unigram(*corpus, validation, arguments.batch_size, arguments.max_batches);
  }
  if (model.mlm.count == 0) {
    bert::throw_input_error("{}: nothing is masked in these samples of its validation split",
                            arguments.data);
  }
  if (!arguments.json) {
    print(model, baseline, arguments, length, options.next_sentence, computed_on);
    return 0;
  }
  Json answer = to_json(model);
  answer["sequence_length"] = length;
  answer["computed_on"] = computed_on;
  if (options.next_sentence) {
    answer["nsp_loss"] = model.nsp_loss();
    answer["nsp_accuracy"] = model.nsp_accuracy();
    answer["sequences"] = model.nsp.count;
  }
  if (baseline) {
    answer["unigram"] = to_json(*baseline);
    answer["perplexity_below_unigram"] = below(model, *baseline);
  }
  std::cout << answer.dump(2) << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  bert::limit_openmp_spinning();
  return bert::run_program([&] {
    bert::CommandLine line(
        "Measures a model on the validation split of a corpus: loss, perplexity and accuracy on "
        "masked tokens, the masks being the same every time. Weighs every masked token the same.",
        "evaluate");
    Arguments arguments;
    line.add("--checkpoint", arguments.checkpoint,
             "a folder with config.json, weights and tokenizer files")
        .required();
    line.add("--data", arguments.data, "a corpus made by prepare_corpus").required();
    line.add("--unigram", arguments.unigram,
             "also measure predicting by the training split's token frequencies, on the same "
             "masked tokens");
    line.add("--max-batches", arguments.max_batches, "stop after so many; 0: everything")
        .range<std::int64_t>(0, std::int64_t{1} << 40);
    line.add("--batch-size", arguments.batch_size, "sequences in a batch").range(1, 1 << 20);
    line.add("--sequence-length", arguments.sequence_length,
             "the longest sequence (default: 128, or what the model takes)")
        .range(8, 1 << 20);
    line.add("--sampling", arguments.sampling, "how the text is cut into samples")
        .one_of({"sentences", "chunks"});
    line.add("--masking", arguments.masking, "what is masked as one")
        .one_of({"whole_word", "token"});
    line.add("--seed", arguments.seed, "of the masks");
    bert::add_backend_options(line, arguments.runtime);
    line.add("--json", arguments.json, "print a JSON object");
    if (const auto done = line.parse(argc, argv)) return *done;
    return run(arguments);
  });
}
