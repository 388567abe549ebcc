// Writes the seeds that need one of the project's writers into a folder: fuzz_seeds FOLDER, which
// is tests/fuzz/corpus. The others are written by hand.
#include <cstdio>
#include <limits>

#include "data/shards/corpus_cuts.h"
#include "data/shards/corpus_parts.h"
#include "data/tokenization/sentencepiece_trainer.h"
#include "data/tokenization/wire_format.h"
#include "data/tokenization/wordpiece_tokenizer.h"
#include "model/model_files.h"
#include "runtime/file.h"
#include "runtime/philox.h"
#include "runtime/program.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/small_model.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/config.h"
#include "train/config/finetune_config.h"

namespace bert::fuzz {
namespace {

namespace fs = std::filesystem;

struct Seeds {
  fs::path folder;
  void put(const std::string& target, const std::string& name, std::string_view content) const {
    fs::create_directories(folder / target);
    write_file_atomic(folder / target / name, content);
  }
};

WordpieceTokenizer small_tokenizer() {
  return WordpieceTokenizer({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able",
                             "the", "e", "##e", "\u4e2d", "."},
                            wordpiece_options(false));
}

void make_model_seeds(const Seeds& seeds) {
  const SmallModel small;
  save_model(scratch_folder(), small.model, 0);
  const std::string config = read_file(scratch_folder() / "config.json");
  const std::string weights = read_file(scratch_folder() / "model.safetensors");
  seeds.put("hf_config", "bert", config);
  BertConfig pre = small_config();
  pre.layer_norm = LayerNormPlacement::pre;
  seeds.put("hf_config", "megatron", to_hugging_face_json(pre, {"ForMaskedLM"}, 3));
  seeds.put("model_folder", "written",
            join_files({{"config.json", config}, {"model.safetensors", weights}}));
  const float floats[] = {1, -2, std::numeric_limits<float>::quiet_NaN(), 0.5f, 3, 4};
  const std::int64_t integers[] = {1, 2};
  const auto path = scratch_folder() / "small.safetensors";
  write_safetensors(path,
                    {{"a", DType::f32, {2, 3}, floats},
                     {"b", DType::i64, {2}, integers},
                     {"c", DType::bf16, {3}, floats},
                     {"scalar", DType::f32, {}, floats},
                     {"none", DType::f32, {0, 3}, nullptr}},
                    {{"step", "7"}});
  seeds.put("safetensors", "written", read_file(path));
}

void make_corpus_seeds(const Seeds& seeds) {
  constexpr std::int32_t kVocabulary = 100;
  const auto folder = scratch_folder() / "shard";
  fs::create_directories(folder);
  TokenShardWriter writer(folder, kVocabulary);
  PhiloxStream random(3, 0, 0);
  for (int i = 0; i < 6; ++i) {
    TokenizedDocument document;
    for (std::uint32_t sentences = 1 + random.next_below(4); sentences > 0; --sentences) {
      for (std::uint32_t tokens = 1 + random.next_below(20); tokens > 0; --tokens) {
        document.ids.push_back(static_cast<std::int32_t>(5 + random.next_below(95)));
        document.word_starts.push_back(static_cast<std::uint8_t>(random.next_below(2)));
      }
      document.sentence_ends.push_back(static_cast<std::uint32_t>(document.ids.size()));
    }
    writer.append(document);
  }
  const FileDigests digests = writer.commit();
  const TokenShard shard(folder, kVocabulary);
  const CutRule rule{Sampling::sentences, 14};
  write_cuts(folder, shard, rule);
  std::map<std::string, std::string> files;
  for (const char* name : {"tokens.bin", "words.bin", "sentences.bin", "documents.bin"}) {
    const std::string file = read_file(folder / name);
    files[name] = file.substr(0, corpus_file_info(folder / name).payload_bytes);
  }
  seeds.put("corpus", "without_cuts", join_files(files));
  const fs::path cuts = folder / cuts_file_name(rule);
  files[cuts.filename().string()] = read_file(cuts).substr(0, corpus_file_info(cuts).payload_bytes);
  seeds.put("corpus", "with_cuts", join_files(files));
  for (const int mend : {0, 1, 2}) {
    seeds.put("corpus_file", fmt::format("sentences_mended_{}", mend),
              std::string(1, static_cast<char>(mend)) + read_file(folder / "sentences.bin"));
  }

  CorpusManifest manifest;
  manifest.tokenizer_fingerprint = small_tokenizer().fingerprint();
  manifest.vocab_size = kVocabulary;
  manifest.special = {0, 1, 2, 3, 4};
  manifest.validation_fraction = 0.05;
  manifest.sequence_lengths = {128, 512};
  manifest.sources = {{"text.txt", {6, 14, 100, 140, 2}}};
  manifest.splits[0] = {6, 14, 100, 140, 2};
  manifest.document_lengths.add(30);
  manifest.sentence_lengths.add(10);
  for (const auto& [name, digest] : digests) manifest.files["train/" + name] = digest;
  seeds.put("corpus_manifest", "written", manifest.to_json());
}

void make_part_seeds(const Seeds& seeds) {
  const auto folder = scratch_folder() / "part";
  fs::create_directories(folder);
  TokenShardWriter writer(folder, 100);
  writer.append({{5, 6, 7}, {1, 0, 1}, {3}});
  PartSummary summary;
  for (const auto& [name, digest] : writer.commit()) summary.digests[name] = digest;
  summary.text.files = summary.documents = summary.sentences = 1;
  summary.tokens = 3;
  summary.segment_documents = {1};
  summary.unknown_words = {{"qu", 2}};
  PartPlan plan;
  plan.key = "key";
  save_part_summary(folder, plan, summary);
  seeds.put("part_summary", "written", read_file(folder / "part.json"));
}

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

std::string bytes_field(std::uint32_t number, std::string_view bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}

// A SentencePiece model without its normalisation table, which has 240 KB.
std::string without_table(std::string_view model) {
  constexpr std::uint32_t kNormalizer = 3, kTable = 2, kName = 1;
  std::string result;
  WireReader fields(model);
  while (const auto field = fields.next()) {
    std::string bytes(field->bytes);
    if (field->number == kNormalizer) {
      bytes.clear();
      WireReader parts(field->bytes);
      while (const auto part = parts.next()) {
        if (part->number == kTable) continue;
        bytes += part->number == kName ? bytes_field(kName, part->bytes)
                                       : varint(part->number << 3) + varint(part->value);
      }
    }
    result += bytes_field(field->number, bytes);
  }
  require(fields.ok(), "a model that was trained can be read");
  return result;
}

void make_tokenizer_seeds(const Seeds& seeds) {
  const auto folder = scratch_folder() / "wordpiece";
  small_tokenizer().save(folder);
  std::map<std::string, std::string> files;
  for (const char* name :
       {"tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"}) {
    files[name] = read_file(folder / name);
  }
  seeds.put("vocab", "written", files["vocab.txt"]);
  seeds.put("tokenizer_folder", "written", join_files(files));
  files.erase("tokenizer.json");
  seeds.put("tokenizer_folder", "without_tokenizer_json", join_files(files));

  std::string text;
  PhiloxStream random(13, 0, 0);
  const char* const syllables[] = {"ba", "ko", "mi", "tu", "re", "san"};
  for (int line = 0; line < 500; ++line) {
    for (int i = 0; i < 8; ++i) {
      text += syllables[random.next_below(1 + random.next_below(6))];
      text += random.next_below(2) == 0 ? " " : "";
    }
    text += '\n';
  }
  const fs::path path = put_file("text.txt", text);
  for (const char* type : {"unigram", "bpe"}) {
    SentencepieceTrainerOptions options;
    options.vocab_size = 40;
    options.type = type;
    options.cased = true;
    const std::string model = without_table(train_sentencepiece({path.string()}, options).model);
    seeds.put("sentencepiece", type, model);
    if (type == std::string("bpe")) {
      seeds.put("sentencepiece", "bpe_with_config",
                join_files({{"spiece.model", model},
                            {"tokenizer_config.json", "{\"cls_token\": \"[SEP]\"}"}}));
    }
  }
}

void make_training_seeds(const Seeds& seeds) {
  seeds.put("config", "all_keys", config_to_yaml(parse_config("seed: 1", "seed")));
  const FinetuneConfig finetuning = parse_finetune_config(
      "{task: classification, model: {init_from: m}, data: {train: a, validation: b}}", "seed");
  seeds.put("config", "all_finetuning_keys", finetune_config_to_yaml(finetuning));
  TrainerState state;
  state.step = 20;
  state.seed = std::numeric_limits<std::uint64_t>::max();
  state.precision = "fp32";
  state.device = "CPU";
  state.corpus = "0123456789abcdef";
  state.best_loss = 1.5;
  state.best_step = 10;
  seeds.put("trainer_state", "written", state.to_json());
  state.best_loss = std::numeric_limits<double>::infinity();
  state.product_choices = "cublaslt 12 \"H100\"\n1 2 3 00ff\n";
  seeds.put("trainer_state", "without_best", state.to_json());
}

int make_seeds(int argc, char** argv) {
  if (argc != 2) throw_input_error("expected a folder, such as tests/fuzz/corpus");
  const Seeds seeds{argv[1]};
  make_model_seeds(seeds);
  make_corpus_seeds(seeds);
  make_part_seeds(seeds);
  make_tokenizer_seeds(seeds);
  make_training_seeds(seeds);
  return 0;
}

}  // namespace
}  // namespace bert::fuzz

int main(int argc, char** argv) {
  return bert::run_program([&] { return bert::fuzz::make_seeds(argc, argv); });
}
