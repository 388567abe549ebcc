// inspect: what a corpus, a checkpoint, a tokenizer or a single file of them holds.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/samples/corpus_audit.h"
#include "data/shards/corpus.h"
#include "data/tokenization/tokenizer.h"
#include "model/bert_config.h"
#include "model/model_files.h"
#include "model/weights/safetensors.h"
#include "model/weights/sharded_weights.h"
#include "runtime/command_line.h"
#include "runtime/json.h"
#include "runtime/plural.h"
#include "runtime/program.h"
#include "train/checkpoint/checksums.h"

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct Arguments {
  std::string path, sampling = "sentences", masking = "whole_word", split = "train";
  bool verify = false, json = false;
  std::uint64_t samples = 3, audit_samples = 2000;
  std::optional<std::uint64_t> document;
  bert::DatasetOptions dataset;
};

double ratio(std::uint64_t a, std::uint64_t b) {
  return b == 0 ? 0.0 : static_cast<double>(a) / static_cast<double>(b);
}

std::uint64_t folder_bytes(const fs::path& folder) {
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  return bytes;
}

// --- tokenizers -----------------------------------------------------------------------------

Json describe_tokenizer(const bert::Tokenizer& tokenizer) {
  Json answer;
  answer["vocab_size"] = tokenizer.vocab_size();
  answer["fingerprint"] = tokenizer.fingerprint();
  bert::SpecialTokens::for_each([&](const char* name, auto token) {
    const std::int32_t id = tokenizer.special().*token;
    answer["special"][name] = {{"piece", tokenizer.piece(id)}, {"id", id}};
  });
  std::int32_t word_starts = 0;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    word_starts += tokenizer.starts_word(id) ? 1 : 0;
  }
  answer["pieces_starting_words"] = word_starts;
  return answer;
}

void print_tokenizer(const Json& tokenizer) {
  fmt::print("tokenizer    {} pieces, {} of them start words; fingerprint {}\n",
             tokenizer["vocab_size"].get<int>(), tokenizer["pieces_starting_words"].get<int>(),
             tokenizer["fingerprint"].get<std::string>());
  fmt::print("special     ");
  for (const auto& [name, token] : tokenizer["special"].items()) {
    fmt::print(" {} {}", token["piece"].get<std::string>(), token["id"].get<int>());
  }
  fmt::print("\n");
}

// --- corpora --------------------------------------------------------------------------------

Json describe_counts(const bert::CorpusCounts& counts) {
  Json answer;
  bert::CorpusCounts::for_each([&](const char* name, auto count) { answer[name] = counts.*count; });
  answer["tokens_per_word"] = ratio(counts.tokens, counts.words);
  answer["unknown_rate"] = ratio(counts.unknown, counts.words);
  return answer;
}

// A share of `trials` beside its expectation: how many standard deviations of a binomial it is off.
Json describe_share(std::uint64_t count, std::uint64_t trials, double expected) {
  const auto n = static_cast<double>(trials);
  const double deviation = std::sqrt(n * expected * (1 - expected));
  const double off = static_cast<double>(count) - n * expected;
  return {{"share", ratio(count, trials)},
          {"expected", expected},
          {"deviations", deviation > 0 ? off / deviation : 0.0}};
}

std::string show_share(const Json& share) {
  return fmt::format("{:.2f} % (expected {:.2f}, off by {:+.1f} sigma)",
                     100 * share["share"].get<double>(), 100 * share["expected"].get<double>(),
                     share["deviations"].get<double>());
}

Json describe_audit(const bert::DatasetAudit& audit, const bert::PretrainingDataset& dataset) {
  const double by_chance = 0.1 / dataset.corpus().manifest().vocab_size;
  const bert::DatasetOptions& options = dataset.options();
  Json answer;
  answer["sampling"] = bert::sampling_name(options.sampling);
  answer["sequence_length"] = options.sequence_length;
  answer["samples_in_split"] = dataset.num_samples();
  answer["samples"] = audit.samples;
  answer["tokens"] = audit.tokens;
  answer["padding"] = audit.padding;
  const bert::LengthStatistics& lengths = audit.lengths;
  answer["lengths"] = {{"mean", lengths.mean},           {"shortest", lengths.shortest},
                       {"tenth", lengths.tenth},         {"median", lengths.median},
                       {"ninetieth", lengths.ninetieth}, {"longest", lengths.longest}};
  answer["masking"] = {
      {"kind", bert::masking_name(options.masking.masking)},
      {"fraction_asked", options.masking.fraction},
      {"fraction", ratio(audit.predicted, audit.tokens)},
      {"predicted", audit.predicted},
      // A random id may be [MASK], or the one that was there.
      {"masked", describe_share(audit.masked, audit.predicted, 0.8 + by_chance)},
      {"replaced", describe_share(audit.replaced, audit.predicted, 0.1 - 2 * by_chance)},
      {"kept", describe_share(audit.kept, audit.predicted, 0.1 + by_chance)},
      {"whole_words", ratio(audit.whole_words, audit.words)},
      {"samples_without_target", audit.without_target}};
  if (options.next_sentence) {
    answer["random_next"] = describe_share(audit.random_next, audit.samples, 0.5);
  }
  return answer;
}

void print_counts(const std::string& name, const Json& counts) {
  fmt::print("{:<12} {:>10} {:>11} {:>12} {:>12} {:>10.3f} {:>9.3f} %\n", name,
             counts["documents"].get<std::uint64_t>(), counts["sentences"].get<std::uint64_t>(),
             counts["words"].get<std::uint64_t>(), counts["tokens"].get<std::uint64_t>(),
             counts["tokens_per_word"].get<double>(), 100 * counts["unknown_rate"].get<double>());
}

void print_audit(const Json& audit) {
  const Json& lengths = audit["lengths"];
  fmt::print("samples      {} of {} counted ({}, at most {} tokens)\n",
             audit["samples"].get<std::uint64_t>(), audit["samples_in_split"].get<std::uint64_t>(),
             audit["sampling"].get<std::string>(), audit["sequence_length"].get<int>());
  fmt::print(
      "lengths      mean {:.1f}; shortest {}, 10 % {}, median {}, 90 % {}, longest {}; "
      "{} of padding\n",
      lengths["mean"].get<double>(), lengths["shortest"].get<int>(), lengths["tenth"].get<int>(),
      lengths["median"].get<int>(), lengths["ninetieth"].get<int>(), lengths["longest"].get<int>(),
      bert::plural(audit["padding"].get<std::uint64_t>(), "token"));
  const Json& masking = audit["masking"];
  fmt::print("masking      {}: {:.2f} % of the tokens (asked: {:.2f} %), {} without any\n",
             masking["kind"].get<std::string>(), 100 * masking["fraction"].get<double>(),
             100 * masking["fraction_asked"].get<double>(),
             bert::plural(masking["samples_without_target"].get<std::uint64_t>(), "sample"));
  fmt::print("             [MASK]   {}\n             another  {}\n             kept     {}\n",
             show_share(masking["masked"]), show_share(masking["replaced"]),
             show_share(masking["kept"]));
  fmt::print("             {:.2f} % of the words whole\n",
             100 * masking["whole_words"].get<double>());
  if (audit.contains("random_next")) {
    fmt::print("next         random   {}\n", show_share(audit["random_next"]));
  }
}

Json describe_corpus(const bert::Corpus& corpus, const fs::path& folder) {
  const bert::CorpusManifest& manifest = corpus.manifest();
  Json answer;
  answer["kind"] = "corpus";
  answer["path"] = folder.string();
  answer["bytes"] = folder_bytes(folder);
  answer["seed"] = manifest.seed;
  answer["validation_fraction"] = manifest.validation_fraction;
  answer["sequence_lengths"] = manifest.sequence_lengths;
  answer["sources"] = Json::array();
  bert::CorpusCounts total;
  for (const bert::CorpusSource& source : manifest.sources) {
    answer["sources"].push_back(
        {{"name", source.name}, {"counts", describe_counts(source.counts)}});
    total += source.counts;
  }
  answer["train"] = describe_counts(manifest.splits[0]);
  answer["validation"] = describe_counts(manifest.splits[1]);
  answer["all"] = describe_counts(total);
  return answer;
}

void print_corpus(const Json& corpus) {
  fmt::print("corpus       {} ({:.1f} MB)\n", corpus["path"].get<std::string>(),
             corpus["bytes"].get<double>() * 1e-6);
  print_tokenizer(corpus["tokenizer"]);
  fmt::print("split        {} of the documents for validation, seed {}\n",
             corpus["validation_fraction"].get<double>(), corpus["seed"].get<std::uint64_t>());
  fmt::print("cut tables   for sequence lengths {}\n", corpus["sequence_lengths"].dump());
  fmt::print("{:<12} {:>10} {:>11} {:>12} {:>12} {:>10} {:>11}\n", "", "documents", "sentences",
             "words", "tokens", "per word", "unknown");
  for (const char* of : {"train", "validation", "all"}) print_counts(of, corpus[of]);
  if (corpus["sources"].size() > 1) {
    fmt::print("sources\n");
    for (const Json& source : corpus["sources"]) {
      print_counts("", source["counts"]);
      fmt::print("             {}\n", source["name"].get<std::string>());
    }
  }
  if (corpus.contains("document")) {
    const Json& document = corpus["document"];
    fmt::print("document     {} of the {} split, {}:\n{}\n",
               document["number"].get<std::uint64_t>(), document["split"].get<std::string>(),
               bert::plural(document["tokens"].get<std::uint64_t>(), "token"),
               document["text"].get<std::string>());
  }
  if (corpus.contains("empty_split")) {
    fmt::print("samples      none: the {} split is empty\n",
               corpus["empty_split"].get<std::string>());
  }
  if (corpus.contains("audit")) print_audit(corpus["audit"]);
  if (corpus.contains("samples")) {
    fmt::print("samples, [hidden] [replaced=>by] [kept=]:\n");
    for (const Json& sample : corpus["samples"]) {
      fmt::print("  {}: {}\n", sample["sample"].get<std::uint64_t>(),
                 sample["text"].get<std::string>());
    }
  }
  if (corpus.contains("verified")) fmt::print("verified     every checksum is right\n");
}

Json describe_document(const bert::TokenShard& shard, const bert::Tokenizer& tokenizer,
                       std::uint64_t number, const std::string& split) {
  if (number >= shard.num_documents()) {
    bert::throw_input_error("--document: there is no document {} in the {} split, which has {}",
                            number, split, shard.num_documents());
  }
  const bert::TokenizedDocument document = shard.document(number);
  return {{"number", number},
          {"split", split},
          {"tokens", document.ids.size()},
          {"text", tokenizer.decode(document.ids)}};
}

Json inspect_corpus(const Arguments& arguments) {
  const auto corpus = std::make_shared<const bert::Corpus>(arguments.path);
  const auto tokenizer = corpus->tokenizer();
  Json answer = describe_corpus(*corpus, arguments.path);
  answer["tokenizer"] = describe_tokenizer(*tokenizer);
  if (arguments.verify) {
    corpus->verify();
    answer["verified"] = true;
  }
  const bert::Split split =
      arguments.split == "train" ? bert::Split::train : bert::Split::validation;
  if (arguments.document) {
    answer["document"] =
        describe_document(corpus->shard(split), *tokenizer, *arguments.document, arguments.split);
    return answer;
  }
  if (arguments.audit_samples == 0 && arguments.samples == 0) return answer;
  if (corpus->shard(split).num_tokens() == 0) {
    answer["empty_split"] = arguments.split;
    return answer;
  }
  const bert::PretrainingDataset dataset(corpus, split, arguments.dataset);
  if (arguments.audit_samples > 0) {
    answer["audit"] =
        describe_audit(bert::audit_dataset(dataset, arguments.audit_samples), dataset);
    answer["audit"]["split"] = arguments.split;
  }
  for (std::uint64_t i = 0; i < std::min(arguments.samples, dataset.num_samples()); ++i) {
    const bert::SampleRef ref = dataset.shuffled(i);
    answer["samples"].push_back(
        {{"sample", ref.sample}, {"text", bert::describe_sample(dataset, *tokenizer, ref)}});
  }
  return answer;
}

// --- checkpoints ----------------------------------------------------------------------------

Json describe_tensors(const bert::WeightsSource& file) {
  Json answer;
  answer["file"] = file.path().string();
  std::int64_t parameters = 0;
  answer["tensors"] = Json::array();
  for (const bert::StoredTensor& tensor : file.tensors()) {
    answer["tensors"].push_back(
        {{"name", tensor.name}, {"dtype", tensor.dtype}, {"shape", tensor.shape}});
    parameters += tensor.numel();
  }
  answer["parameters"] = parameters;
  const auto* const safetensors = dynamic_cast<const bert::SafetensorsFile*>(&file);
  if (safetensors != nullptr) answer["metadata"] = safetensors->metadata();
  return answer;
}

void print_tensors(const Json& weights) {
  fmt::print("weights      {}: {}, {}\n", weights["file"].get<std::string>(),
             bert::plural(weights["tensors"].size(), "tensor"),
             bert::plural(weights["parameters"].get<std::uint64_t>(), "parameter"));
  for (const Json& tensor : weights["tensors"]) {
    fmt::print("  {:<70} {} {}\n", tensor["name"].get<std::string>(),
               tensor["dtype"].get<std::string>(), tensor["shape"].dump());
  }
}

bool holds_tokenizer(const fs::path& folder) {
  std::error_code unreadable;
  const fs::directory_iterator files(folder, unreadable);
  return std::any_of(begin(files), end(files), [](const fs::directory_entry& file) {
    const fs::path name = file.path().filename();
    return name == "tokenizer.json" || name == "vocab.txt" || name.extension() == ".model";
  });
}

// Every file and tensor that the checkpoint lists against its checksums.
void verify_checkpoint_files(const fs::path& folder) {
  if (!fs::exists(folder / bert::kChecksums)) {
    bert::throw_input_error("{}: there is no {} to verify it by, as checkpoints of train have",
                            folder.string(), bert::kChecksums);
  }
  const bert::Checksums checksums(folder);
  for (const std::string& file : checksums.files()) checksums.verify(file);
}

// A folder in the manner of Hugging Face; our checkpoints are such folders.
Json inspect_checkpoint(const Arguments& arguments) {
  const fs::path folder = arguments.path;
  if (arguments.verify) verify_checkpoint_files(folder);
  Json answer;
  answer["kind"] = "checkpoint";
  answer["path"] = folder.string();
  if (const fs::path config = folder / "config.json"; fs::exists(config)) {
    const std::string text = bert::read_file(config);
    bert::from_hugging_face_json(text, config.string());  // refuses what is not a BERT
    answer["config"] = bert::parse_json<Json>(text, config.string());
  }
  if (!bert::find_weights(folder).empty()) {
    answer["weights"] = describe_tensors(*bert::open_weights(folder));
  }
  if (holds_tokenizer(folder)) {
    answer["tokenizer"] = describe_tokenizer(*bert::load_tokenizer(folder));
  }
  if (arguments.verify) answer["verified"] = true;
  return answer;
}

void print_checkpoint(const Json& checkpoint) {
  fmt::print("checkpoint   {}\n", checkpoint["path"].get<std::string>());
  if (checkpoint.contains("config")) {
    fmt::print("config\n");
    for (const auto& [key, value] : checkpoint["config"].items()) {
      fmt::print("  {:<32} {}\n", key, value.dump());
    }
  }
  if (checkpoint.contains("tokenizer")) print_tokenizer(checkpoint["tokenizer"]);
  if (checkpoint.contains("weights")) print_tensors(checkpoint["weights"]);
  if (checkpoint.contains("verified")) fmt::print("verified     every checksum is right\n");
}

// --- the program ----------------------------------------------------------------------------

Json inspect_corpus_file(const Arguments& arguments) {
  const bert::CorpusFileInfo info = bert::corpus_file_info(arguments.path);
  if (arguments.verify) {
    bert::CorpusFile(arguments.path, info.kind, info.element_bytes).verify();
  }
  Json answer = {{"kind", "corpus file"},
                 {"path", arguments.path},
                 {"holds", info.kind},
                 {"element_bytes", info.element_bytes},
                 {"elements", info.payload_bytes / info.element_bytes},
                 {"digest", bert::hex64(info.digest)}};
  if (arguments.verify) answer["verified"] = true;
  return answer;
}

bool can_be_inspected(const fs::path& folder) {
  std::error_code unreadable;
  return fs::exists(folder / "manifest.json", unreadable) ||
         fs::exists(folder / "config.json", unreadable) || holds_tokenizer(folder) ||
         (!unreadable && !bert::find_weights(folder).empty());
}

// A folder of folders, as users keep them: what there is in it.
[[noreturn]] void refuse_folder(const fs::path& path) {
  std::vector<std::string> inside;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.is_directory() && can_be_inspected(entry.path())) {
      inside.push_back(entry.path().string());
    }
  }
  std::sort(inside.begin(), inside.end());
  bert::throw_input_error("{} is no corpus, checkpoint or tokenizer{}", path.string(),
                          inside.empty() ? std::string(" and holds none")
                                         : fmt::format("; it holds {}", fmt::join(inside, ", ")));
}

Json inspect(const Arguments& arguments) {
  const fs::path path = arguments.path;
  if (!fs::exists(path)) bert::throw_input_error("{}: does not exist", path.string());
  if (fs::is_directory(path)) {
    if (fs::exists(path / "manifest.json")) return inspect_corpus(arguments);
    bert::refuse_run_folder(path);
    if (fs::exists(path / "config.json") || !bert::find_weights(path).empty()) {
      return inspect_checkpoint(arguments);
    }
    if (!holds_tokenizer(path)) refuse_folder(path);
  } else if (path.extension() == ".bin" && path.filename() != "pytorch_model.bin") {
    return inspect_corpus_file(arguments);
  }
  if (arguments.verify) {
    bert::throw_input_error("{}: --verify is for corpora, their files, and checkpoints' folders",
                            path.string());
  }
  if (path.extension() == ".safetensors" || path.filename() == "pytorch_model.bin") {
    return {{"kind", "weights"}, {"weights", describe_tensors(*bert::open_weights_file(path))}};
  }
  if (path.extension() == ".json") {
    bert::throw_input_error("{}: is one file of several; give the folder that holds it",
                            path.string());
  }
  const auto tokenizer = bert::load_tokenizer(path);
  return {{"kind", "tokenizer"},
          {"path", path.string()},
          {"tokenizer", describe_tokenizer(*tokenizer)}};
}

void print(const Json& answer) {
  const std::string kind = answer["kind"];
  if (kind == "corpus") {
    print_corpus(answer);
  } else if (kind == "checkpoint") {
    print_checkpoint(answer);
  } else if (kind == "weights") {
    print_tensors(answer["weights"]);
  } else if (kind == "tokenizer") {
    print_tokenizer(answer["tokenizer"]);
  } else {
    for (const auto& [key, value] : answer.items()) fmt::print("{:<14} {}\n", key, value.dump());
  }
}

int run(int argc, char** argv) {
  bert::CommandLine line(
      "Shows what a corpus, a checkpoint, a tokenizer or one of their files holds. Of a corpus "
      "also\n"
      "samples as training sees them, and a count of what the masking really does.",
      "inspect");
  Arguments arguments;
  line.add("path", arguments.path,
           "A corpus, checkpoint or tokenizer folder, vocab.txt, .safetensors, or .bin of a corpus")
      .required();
  line.add("--verify", arguments.verify,
           "Read everything of a corpus or checkpoint and check every checksum");
  line.add("--json", arguments.json, "Print the answer as JSON");
  line.add("--samples", arguments.samples, "How many samples to show");
  line.add("--document", arguments.document,
           "Show this document of the split, as train names it, instead of samples");
  line.add("--audit-samples", arguments.audit_samples,
           "How many samples to count for the masking audit");
  line.add("--split", arguments.split, "Split of the corpus").one_of({"train", "validation"});
  line.add("--sampling", arguments.sampling, "How the text is cut into samples")
      .one_of({"sentences", "chunks"});
  line.add("--sequence-length", arguments.dataset.sequence_length, "Longest sample")
      .range(8, 1 << 20);
  line.add("--masking", arguments.masking, "What is masked as one").one_of({"whole_word", "token"});
  line.add("--mask-fraction", arguments.dataset.masking.fraction, "Share of tokens masked")
      .range(0.0, 1.0);
  line.add("--next-sentence", arguments.dataset.next_sentence,
           "Samples for next sentence prediction");
  line.add("--seed", arguments.dataset.seed, "Seed of order and masks");
  if (const auto done = line.parse(argc, argv)) return *done;
  arguments.dataset.sampling = bert::parse_sampling(arguments.sampling);
  arguments.dataset.masking.masking = bert::parse_masking(arguments.masking);

  const Json answer = inspect(arguments);
  if (arguments.json) {
    std::puts(answer.dump(2).c_str());
  } else {
    print(answer);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return bert::run_program([&] { return run(argc, argv); });
}
