#include "data/shards/corpus_writer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <unistd.h>

#include "data/text/unicode.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/output_folder.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

// Uniform over 64 bits; below fraction * 2^64 means validation.
std::uint64_t document_hash(std::uint64_t seed, std::uint64_t document) {
  return hash_bytes(&document, sizeof document, seed);
}

// Whether a corpus, complete or not, has a file or folder called `name`, a path in it.
bool belongs_to_corpus(const fs::path& name, bool is_folder) {
  if (is_folder) return name == "train" || name == "validation" || name == "tokenizer";
  const fs::path folder = name.parent_path();
  if (folder == "train" || folder == "validation") return name.extension() == ".bin";
  return folder == "tokenizer" || name == "manifest.json";
}

}  // namespace

fs::path check_corpus_output(const fs::path& output) {
  const fs::path path = renamed_folder(output);
  if (!fs::exists(path)) return path;
  if (!fs::is_directory(path)) {
    throw_input_error("{}: exists and is not a folder", path.string());
  }
  if (fs::is_empty(path)) return path;
  if (!is_corpus(path)) {
    throw_input_error(
        "{} is not a corpus (\"{}\" is in it); it is left as it is, choose another folder",
        path.string(), fs::directory_iterator(path)->path().filename().string());
  }
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    const fs::path name = entry.path().lexically_relative(path);
    if (belongs_to_corpus(name, entry.is_directory())) continue;
    throw_input_error(
        "{}: \"{}\" in it is not of a corpus and would be removed with the one that is there: "
        "move it away, or choose another folder",
        path.string(), name.string());
  }
  return path;
}

CorpusWriter::CorpusWriter(fs::path output, const Tokenizer& tokenizer, CorpusWriterOptions options,
                           const fs::path& work)
    : output_(check_corpus_output(output)), tokenizer_(tokenizer), options_(std::move(options)) {
  if (!(options_.validation_fraction >= 0 && options_.validation_fraction < 1)) {
    throw_input_error("--validation-fraction is {}: expected a number in [0, 1)",
                      options_.validation_fraction);
  }
  check_short_probability(options_.short_sequence_probability);
  for (const std::int64_t length : options_.sequence_lengths) content_tokens(length, false);
  make_directories(output_.parent_path());
  const std::string process = std::to_string(::getpid());
  temporary_ = work.empty() ? fs::path(output_.string() + ".tmp." + process) : work / "corpus";
  replaced_ = work.empty() ? fs::path(output_.string() + ".old." + process) : work / "replaced";
  fs::remove_all(replaced_);
  fs::remove_all(temporary_);
  for (const Split split : {Split::train, Split::validation}) {
    make_directories(temporary_ / split_name(split));
    splits_[static_cast<std::size_t>(split)].shard =
        std::make_unique<TokenShardWriter>(temporary_ / split_name(split), tokenizer.vocab_size());
  }
}

CorpusWriter::~CorpusWriter() {
  for (SplitWriter& split : splits_) split.shard.reset();
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void CorpusWriter::begin_source(const std::string& name) {
  // A file may be called anything; the manifest is JSON, so UTF-8.
  std::uint64_t replaced = 0;
  manifest_.sources.push_back({replace_invalid_utf8(name, replaced), {}});
}

void CorpusWriter::add(const TokenizedDocument& document, std::uint64_t unknown) {
  if (document.ids.empty()) return;
  BERT_CHECK(!manifest_.sources.empty());
  const std::uint64_t hash = document_hash(options_.seed, num_documents_);
  if (num_documents_ == 0 || hash < lowest_hash_) {
    lowest_hash_ = hash;
    lowest_document_ = num_documents_;
  }
  if (num_documents_ == 0 || hash > highest_hash_) {
    highest_hash_ = hash;
    highest_document_ = num_documents_;
  }
  ++num_documents_;
  const Split split = std::ldexp(static_cast<double>(hash), -64) < options_.validation_fraction
                          ? Split::validation
                          : Split::train;
  SplitWriter& writer = splits_[static_cast<std::size_t>(split)];
  const std::uint64_t words_before = writer.shard->num_words();
  writer.shard->append(document);
  writer.unknown += unknown;
  manifest_.document_lengths.add(document.ids.size());
  std::uint32_t begin = 0;
  for (const std::uint32_t end : document.sentence_ends) {
    manifest_.sentence_lengths.add(end - begin);
    begin = end;
  }
  manifest_.sources.back().counts +=
      {1, document.sentence_ends.size(), writer.shard->num_words() - words_before,
       document.ids.size(), unknown};
}

// Chance may leave one side of a small corpus empty: its document then moves from the other.
void CorpusWriter::ensure_both_splits() {
  if (num_documents_ == 0) throw_input_error("the input has no text in it");
  if (options_.validation_fraction == 0) return;
  const bool train_empty = splits_[0].shard->num_documents() == 0;
  const bool validation_empty = splits_[1].shard->num_documents() == 0;
  if (!train_empty && !validation_empty) return;
  if (num_documents_ < 2) {
    throw_input_error(
        "the input is a single document, which cannot be split into training and "
        "validation: separate documents by blank lines, or give "
        "--validation-fraction 0 and train on it beside a corpus with a validation split "
        "(data.path='[THIS, OTHER]')");
  }
  const std::size_t full = train_empty ? 1 : 0;
  const std::uint64_t moved = train_empty ? highest_document_ : lowest_document_;
  const fs::path old_folder = temporary_ / "split_again";
  for (SplitWriter& split : splits_) split.shard->commit();
  fs::rename(temporary_ / split_name(static_cast<Split>(full)), old_folder);
  fs::remove_all(temporary_ / split_name(static_cast<Split>(1 - full)));
  for (const Split split : {Split::train, Split::validation}) {
    make_directories(temporary_ / split_name(split));
    splits_[static_cast<std::size_t>(split)].shard =
        std::make_unique<TokenShardWriter>(temporary_ / split_name(split), tokenizer_.vocab_size());
  }
  const std::uint64_t unknown = splits_[full].unknown;
  {
    const TokenShard shard(old_folder, tokenizer_.vocab_size());
    for (std::uint64_t i = 0; i < shard.num_documents(); ++i) {
      const TokenizedDocument document = shard.document(i);
      const std::size_t side = i == moved ? 1 - full : full;
      splits_[side].shard->append(document);
      if (i == moved) {
        splits_[side].unknown = static_cast<std::uint64_t>(
            std::count(document.ids.begin(), document.ids.end(), tokenizer_.special().unk));
      }
    }
  }
  splits_[full].unknown = unknown - splits_[1 - full].unknown;
  fs::remove_all(old_folder);
}

void CorpusWriter::close_split(Split split, SplitWriter& writer) {
  const TokenShardWriter& shard = *writer.shard;
  manifest_.splits[static_cast<std::size_t>(split)] = {shard.num_documents(), shard.num_sentences(),
                                                       shard.num_words(), shard.num_tokens(),
                                                       writer.unknown};
  const std::string prefix = std::string(split_name(split)) + "/";
  for (const auto& [name, digest] : writer.shard->commit()) manifest_.files[prefix + name] = digest;
  writer.shard.reset();
}

void CorpusWriter::write_cut_tables(Split split) {
  const std::string name(split_name(split));
  const TokenShard shard(temporary_ / name, tokenizer_.vocab_size());
  const auto write = [&](Sampling sampling, std::int64_t content) {
    const CutRule rule{sampling, content, options_.short_sequence_probability};
    manifest_.files[name + "/" + cuts_file_name(rule)] = write_cuts(temporary_ / name, shard, rule);
  };
  for (const std::int64_t length : options_.sequence_lengths) {
    write(Sampling::sentences, content_tokens(length, false));
    write(Sampling::sentences, content_tokens(length, true));
    write(Sampling::chunks, content_tokens(length, false));
  }
}

CorpusManifest CorpusWriter::commit() {
  ensure_both_splits();
  for (const Split split : {Split::train, Split::validation}) {
    close_split(split, splits_[static_cast<std::size_t>(split)]);
    write_cut_tables(split);
  }
  const fs::path tokenizer_folder = temporary_ / "tokenizer";
  make_directories(tokenizer_folder);
  tokenizer_.save(tokenizer_folder);
  for (const auto& entry : fs::directory_iterator(tokenizer_folder)) {
    const std::string content = read_file(entry.path());
    manifest_.files["tokenizer/" + entry.path().filename().string()] =
        hash_bytes(content.data(), content.size());
  }
  manifest_.tokenizer_fingerprint = tokenizer_.fingerprint();
  manifest_.vocab_size = tokenizer_.vocab_size();
  manifest_.special = tokenizer_.special();
  manifest_.seed = options_.seed;
  manifest_.validation_fraction = options_.validation_fraction;
  manifest_.sequence_lengths = options_.sequence_lengths;
  write_file_atomic(temporary_ / "manifest.json", manifest_.to_json());
  put_in_place();
  return manifest_;
}

void CorpusWriter::put_in_place() {
  check_corpus_output(output_);  // once more: preparing may have taken hours
  std::error_code error;
  const bool replaces = fs::exists(output_);
  if (replaces) fs::rename(output_, replaced_, error);
  if (!error) fs::rename(temporary_, output_, error);
  if (error) {
    std::error_code ignored;
    if (replaces && !fs::exists(output_)) fs::rename(replaced_, output_, ignored);
    throw_runtime_error("cannot put the corpus at {}: {}", output_.string(), error.message());
  }
  if (replaces) fs::remove_all(replaced_);
  fsync_directory(output_.parent_path());
}

}  // namespace bert
