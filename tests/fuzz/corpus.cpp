// A prepared corpus whose files have right checksums and any content: the payloads of the training
// part's files are the input. It is opened, verified, cut, and samples are made of it.
#include "data/shards/corpus.h"

#include "data/samples/pretraining_dataset.h"
#include "tests/fuzz/fuzz_target.h"

namespace bert::fuzz {
namespace {

constexpr std::int32_t kVocabulary = 100;
constexpr std::int64_t kLength = 16;  // of a sample
constexpr const char* kCuts = "cuts_sentences_14.bin";

struct PayloadFile {
  const char *name, *kind;
  std::size_t element_bytes;
};
constexpr PayloadFile kFiles[] = {{"tokens.bin", "tokens", 2},
                                  {"words.bin", "word bits", 1},
                                  {"sentences.bin", "sentences", 8},
                                  {"documents.bin", "documents", 8},
                                  {kCuts, "cuts", 16}};

void write_corpus(const std::filesystem::path& folder,
                  std::map<std::string, std::string> payloads) {
  CorpusManifest manifest;
  manifest.vocab_size = kVocabulary;
  manifest.special = {0, 1, 2, 3, 4};
  for (const char* part : {"train", "validation"}) {
    std::filesystem::create_directories(folder / part);
  }
  std::filesystem::remove(folder / "train" / kCuts);
  for (const PayloadFile& file : kFiles) {
    if (file.name == kCuts && payloads.count(kCuts) == 0) continue;  // computed then
    CorpusFileWriter writer(folder / "train" / file.name, file.kind, file.element_bytes);
    const std::string& payload = payloads[file.name];
    writer.append(payload.data(), payload.size() / file.element_bytes * file.element_bytes);
    manifest.files[std::string("train/") + file.name] = writer.commit();
  }
  TokenShardWriter validation(folder / "validation", kVocabulary);
  validation.append({{5, 6, 7}, {1, 0, 1}, {3}});
  for (const auto& [name, digest] : validation.commit()) {
    manifest.files["validation/" + name] = digest;
  }
  put_file(folder.filename() / "manifest.json", manifest.to_json());
}

void read_documents(const TokenShard& shard) {
  TokenizedDocument document;
  const std::uint64_t documents = std::min<std::uint64_t>(shard.num_documents(), 100);
  for (std::uint64_t i = 0; i < documents; ++i) shard.read_document(i, document);
}

void find_all_cuts(const TokenShard& shard, Sampling sampling, bool verified) {
  std::uint64_t cuts = 0, last = 0;
  find_cuts(shard, {sampling, kLength - 2, 0.5}, [&](const Cut& cut) {
    require(!verified || cut.token > last || cuts == 0, "samples are not empty");
    require(++cuts <= shard.num_tokens() + 1, "there are no more samples than tokens");
    last = cut.token;
  });
}

void make_samples(const std::shared_ptr<const Corpus>& corpus, bool next_sentence) {
  DatasetOptions options;
  options.sequence_length = next_sentence ? kLength + 1 : kLength;
  options.next_sentence = next_sentence;
  const PretrainingDataset dataset(corpus, Split::train, options);
  PretrainingDataset::Scratch scratch;
  for (std::uint64_t i = 0; i < 40; ++i) {
    Batch batch;
    dataset.append(dataset.plan(dataset.shuffled(i)), 0, batch, scratch);
    require(batch.num_tokens() <= options.sequence_length, "a sample has room in a sequence");
    for (const std::int32_t id : batch.input_ids) {
      require(id >= 0 && id < kVocabulary, "ids are of the vocabulary");
    }
  }
}

}  // namespace
}  // namespace bert::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  const auto folder = scratch_folder() / "corpus";
  write_corpus(folder, split_files(as_text(data, size), {"tokens.bin", "words.bin", "sentences.bin",
                                                         "documents.bin", kCuts}));
  std::shared_ptr<const bert::Corpus> corpus;
  accepts([&] { corpus = std::make_shared<bert::Corpus>(folder); });
  if (!corpus) return 0;
  const bert::TokenShard& shard = corpus->shard(bert::Split::train);
  const bool verified = accepts([&] { shard.verify(); });
  const bool read = accepts([&] { read_documents(shard); });
  require(read || !verified, "a part that verifies can be read");
  for (const auto sampling : {bert::Sampling::sentences, bert::Sampling::chunks}) {
    const bool cut = accepts([&] { find_all_cuts(shard, sampling, verified); });
    require(cut || !verified, "a part that verifies can be cut");
  }
  accepts([&] { make_samples(corpus, false); });
  accepts([&] { make_samples(corpus, true); });
  return 0;
}
